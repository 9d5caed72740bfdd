"""What `connect()` was given, checked as a whole."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tideover import connect
from tideover.options import Options
from tideover.policies import StalenessLimit, Tls

LIMIT = StalenessLimit(60.0)


def _options(**options: Any) -> Options:
    return Options(**{"endpoints": ("h:1",), **options})


def test_the_defaults_are_safe() -> None:
    """Without options everything is followed, nothing is required, and locks would be refused in an outage."""
    options = _options()
    assert (options.follow, options.exclude, options.profile) == (("",), (), "safety")
    assert (options.require, options.start_timeout, options.record_keys) == (None, 1.0, False)
    assert (options.base, options.tightest_limit) == ("/config/", None)


@pytest.mark.parametrize(
    ("given", "named", "used"),
    [
        (None, None, None),
        (None, "", None),
        (None, "grpc", "grpc"),
        (None, "http2", "http2"),
        ("grpc", "http2", "grpc"),
        ("http2", "x", "http2"),
    ],
)
def test_the_transport(monkeypatch: pytest.MonkeyPatch, given: Any, named: str | None, used: str | None) -> None:
    """What is given is stronger than the environment, which counts beside endpoints as well."""
    monkeypatch.delenv("TIDEOVER_TRANSPORT", raising=False)
    if named is not None:
        monkeypatch.setenv("TIDEOVER_TRANSPORT", named)
    assert _options(transport=given).transport == used


def test_a_transport_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong name is refused at once, and it is said where the name comes from."""
    with pytest.raises(ValueError, match=r"^transport must be 'grpc' or 'http2', not 'http3'$"):
        connect("h:1", transport="http3")  # type: ignore[arg-type] # that is the point
    monkeypatch.setenv("TIDEOVER_TRANSPORT", "HTTP2")
    with pytest.raises(ValueError, match=r"^TIDEOVER_TRANSPORT must be 'grpc' or 'http2', not 'HTTP2'$"):
        connect("h:1")


def test_endpoints_are_normalised() -> None:
    """Endpoints are parsed when given, and kept once each."""
    assert _options(endpoints=("http://h:1", "h:1", "i:2")).endpoints == ("h:1", "i:2")


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"endpoints": ()}, ValueError, "at least one endpoint"),
        ({"endpoints": ("h",)}, ValueError, "'h'"),
        ({"namespace": "a/"}, ValueError, "not end in a slash, not 'a/'"),
        ({"namespace": "a\0"}, ValueError, "no NUL"),
        ({"namespace": "\ud800"}, ValueError, "must be Unicode text"),
        ({"namespace": 5}, TypeError, "namespace must be a string, not 5"),
        ({"follow": "app/"}, TypeError, "follow=\\('app/',\\)"),
        ({"follow": ("a\0",)}, ValueError, "follow: a prefix must be a string without NUL"),
        ({"follow": (5,)}, ValueError, "follow: a prefix must be a string without NUL, not 5"),
        ({"exclude": "secret/"}, TypeError, "exclude must be a sequence"),
        ({"profile": "fast"}, ValueError, "'safety' or 'availability', not 'fast'"),
        ({"start_timeout": 0}, ValueError, "start_timeout must be more than 0 seconds, not 0"),
        ({"start_timeout": math.nan}, ValueError, "start_timeout must be more than 0"),
        ({"on_stall": "ignore"}, ValueError, "on_stall must be 'report' or 'abort', not 'ignore'"),
        ({"sync_members": None}, TypeError, "sync_members must be True or False, not None"),
        ({"require": "all"}, ValueError, "require must be None, 'etcd' or 'config', not 'all'"),
        ({"cache_dir": True}, TypeError, "cache_dir must be a path"),
        ({"cache_dir": 5}, TypeError, "cache_dir must be a path"),
        ({"limits": {"a": 5}}, TypeError, "limits\\['a'\\] must be a StalenessLimit, not 5"),
        ({"limits": {"b/": LIMIT}, "follow": ("a/",)}, ValueError, "limits\\['b/'\\] concerns nothing"),
        ({"endpoints": ("http://h:1", "https://i:2")}, ValueError, "'http://h:1' is without TLS"),
        ({"endpoints": ("http://h:1",), "tls": Tls()}, ValueError, "'http://h:1' is without TLS, but Tls"),
        ({"tls": True}, TypeError, "tls must be a Tls"),
        ({"username": "app"}, ValueError, "both username and password or neither, not only username"),
        ({"password": "x"}, ValueError, "both username and password or neither, not only password"),
        ({"username": "", "password": "x"}, ValueError, "username must not be empty"),
        ({"username": "a\ud800", "password": "x"}, ValueError, "username must be Unicode text"),
        (
            {"username": "app", "password": 5},
            TypeError,
            "password must be .* pathlib.Path or .*, not a int",
        ),
        ({"username": "app", "password": b"x"}, TypeError, "a function that returns a string, not a bytes"),
        ({"username": "app", "password": "x\ud800"}, ValueError, "password must be Unicode text"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], error: type[Exception], says: str) -> None:
    """Each mistake is refused at once, by name and with what was given."""
    with pytest.raises(error, match=says):
        _options(**options)


@pytest.mark.parametrize(
    ("endpoints", "tls"),
    [(("h:1",), None), (("https://h:1",), Tls()), (("https://h:1", "i:2"), Tls()), (("http://h:1",), None)],
)
def test_https_asks_for_tls(endpoints: tuple[str, ...], tls: Tls | None) -> None:
    """TLS with the system's CAs follows from `https://`; an endpoint without a scheme goes with the others."""
    assert _options(endpoints=endpoints).tls == tls
    assert _options(endpoints=("h:1",), tls=Tls(server_name="etcd")).tls == Tls(server_name="etcd")


def test_the_password_is_not_shown() -> None:
    """Neither the options nor the error of half a login show it."""
    assert "hunter2" not in repr(_options(username="app", password="hunter2"))
    with pytest.raises(ValueError) as caught:
        _options(password="hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("cache_dir", [None, False, "/tmp/x", Path("/tmp/x")])
def test_where_snapshots_may_go(cache_dir: Any) -> None:
    """The usual place, nowhere, or a folder."""
    assert _options(cache_dir=cache_dir).cache_dir == cache_dir


def test_connect_refuses_at_once() -> None:
    """`connect` checks its options when called, before anything is entered."""
    with pytest.raises(ValueError, match="at least one endpoint"):
        connect()
    with pytest.raises(ValueError, match="profile"):
        connect("h:1", profile="fast")


@settings(deadline=None)
@given(st.lists(st.text("ab/", max_size=4).map(lambda text: text.lstrip("/")), min_size=1, max_size=6))
def test_covered_prefixes_are_dropped(prefixes: list[str]) -> None:
    """What is kept covers all that was asked for, nothing twice, in the order given."""
    kept = _options(follow=prefixes).follow
    assert all(any(prefix.startswith(other) for other in kept) for prefix in prefixes)
    assert not any(a != b and a.startswith(b) for a in kept for b in kept)
    assert list(kept) == [prefix for prefix in dict.fromkeys(prefixes) if prefix in kept]


@pytest.mark.parametrize("prefix", ["a/", "a/b", "a", ""])
def test_a_limit_may_be_wider_or_narrower_than_what_is_followed(prefix: str) -> None:
    """A limit concerns what is followed if either prefix begins with the other; the smallest is the tightest."""
    options = _options(follow=("a/",), limits={prefix: LIMIT, "a/c": StalenessLimit(5.0)})
    assert options.tightest_limit == 5.0


def test_the_namespace_comes_first() -> None:
    """Configuration lives under the namespace."""
    assert _options(namespace="shop").base == "shop/config/"
