"""Endpoints as users write them."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tideover.policies import Tls
from tideover.store.endpoints import advertised, parse_endpoint, parse_endpoints, tls_for


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("127.0.0.1:2379", "127.0.0.1:2379"),
        ("etcd-1.internal:2379", "etcd-1.internal:2379"),
        ("localhost:1", "localhost:1"),
        ("localhost:65535", "localhost:65535"),
        ("[::1]:2379", "[::1]:2379"),
        ("[fe80::1%eth0]:2379", "[fe80::1%eth0]:2379"),
        ("http://10.0.0.1:2379", "10.0.0.1:2379"),
        ("HTTP://10.0.0.1:2379/", "10.0.0.1:2379"),
        ("http://[::1]:2379", "[::1]:2379"),
        ("https://host:2379", "host:2379"),
        ("  host:2379\n", "host:2379"),
        ("host:02379", "host:2379"),
    ],
)
def test_good_endpoints(text: str, endpoint: str) -> None:
    """Host and port, with or without http://, come out as `host:port`."""
    assert parse_endpoint(text) == endpoint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "need host:port"),
        ("localhost", "need host:port"),
        (":2379", "need host:port"),
        ("http://", "need host:port"),
        ("localhost:", "is not a port"),
        ("localhost:0", "is not a port"),
        ("localhost:65536", "is not a port"),
        ("localhost:-1", "is not a port"),
        ("localhost:+1", "is not a port"),
        ("localhost:2379x", "is not a port"),
        ("localhost:٢٣٧٩", "is not a port"),
        ("localhost:" + "9" * 5000, "is not a port|Exceeds the limit"),
        ("http://host:2379/v3", "is not a port"),
        ("etcds://host:2379", "only http:// and https:// are supported, not etcds://"),
        ("etcd://host:2379", "only http:// and https://"),
        ("::1:2379", "IPv6 address in brackets"),
        ("[::1:2379", "IPv6 address in brackets"),
        ("a:1,b:2", "each endpoint by itself"),
        ("a,b:2379", "each endpoint by itself"),
        ("user@host:2379", "an endpoint holds no user or password"),
        ("a b:2379", "is not a host name"),
        ("host/path:2379", "is not a host name"),
        ("ho\0st:2379", "is not a host name"),
        (2379, "must be a string"),
        (None, "must be a string"),
        (b"host:2379", "must be a string"),
    ],
)
def test_malformed_endpoints(text: str, says: str) -> None:
    """Everything else is refused with a message that says what is wrong."""
    with pytest.raises(ValueError, match=says):
        parse_endpoint(text)


@pytest.mark.parametrize("text", ["[]:2379", "[nonsense]:2379", "a]:2379", "\ud800:2379"])
def test_impossible_hosts(text: str) -> None:
    """A host that can be neither a name nor an address is refused when it is given."""
    with pytest.raises(ValueError):
        parse_endpoint(text)


@settings(deadline=None)
@given(st.text(st.sampled_from("ab1:/.[]@, \t\0%httpHTTP")) | st.text())
@example("http://http://a:1")
def test_nothing_but_value_error(text: str) -> None:
    """Any text is either an endpoint, and then stays what it is when parsed again, or a ValueError."""
    try:
        endpoint = parse_endpoint(text)
    except ValueError:
        return
    assert parse_endpoint(endpoint) == endpoint
    assert 0 < int(endpoint.rpartition(":")[2]) < 65536


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b.c", "[::1]"]), st.integers(1, 9)), min_size=1))
def test_repetitions_are_dropped_in_order(pairs: list[tuple[str, int]]) -> None:
    """Each endpoint is kept once, where it was first given, however it was written."""
    plain = [f"{host}:{port}" for host, port in pairs]
    assert list(parse_endpoints([*plain, *(f"http://{text}/" for text in plain)])) == list(dict.fromkeys(plain))


def test_at_least_one_is_needed() -> None:
    """Without an endpoint there is nothing to connect to."""
    with pytest.raises(ValueError, match="at least one endpoint"):
        parse_endpoints([])


def test_one_malformed_endpoint_spoils_the_list() -> None:
    """A typo in one endpoint is told, not skipped."""
    with pytest.raises(ValueError, match="'b'"):
        parse_endpoints(["a:1", "b", "c:3"])


@pytest.mark.parametrize(
    ("url", "secure", "here", "endpoint"),
    [
        ("http://10.0.0.1:2379", False, False, "10.0.0.1:2379"),
        ("https://10.0.0.1:2379", True, False, "10.0.0.1:2379"),
        ("http://[fd00::1]:2379", False, False, "[fd00::1]:2379"),
        ("http://etcd-0.etcd.svc:2379", False, False, "etcd-0.etcd.svc:2379"),
        ("http://localhost:2379", False, True, "localhost:2379"),
        ("http://127.0.0.1:2379", False, True, "127.0.0.1:2379"),
        ("http://[::1]:2379", False, True, "[::1]:2379"),
    ],
)
def test_advertised_addresses(url: str, secure: bool, here: bool, endpoint: str) -> None:
    """An address that another machine can use is used; one of the member's own machine only on that machine."""
    assert advertised(url, secure=secure, here=here) == endpoint


@pytest.mark.parametrize(
    ("url", "secure", "says"),
    [
        ("http://0.0.0.0:2379", False, "names no host"),
        ("https://[::]:2379", True, "names no host"),
        ("http://localhost:2379", False, "own machine"),
        ("http://localhost.:2379", False, "own machine"),
        ("http://127.0.0.9:2379", False, "own machine"),
        ("http://[::1]:2379", False, "own machine"),
        ("https://10.0.0.1:2379", False, "with TLS, unlike this client"),
        ("http://10.0.0.1:2379", True, "without TLS, unlike this client"),
        ("unix://etcd.sock:1", False, "not an address in a network"),
        ("unixs://etcd.sock:1", True, "not an address in a network"),
        ("10.0.0.1:2379", False, "not an address in a network"),
        ("http://10.0.0.1", False, "need host:port"),
        ("http://", False, "need host:port"),
    ],
)
def test_advertised_addresses_of_no_use(url: str, secure: bool, says: str) -> None:
    """What leads nowhere from here is refused with the reason."""
    with pytest.raises(ValueError, match=says):
        advertised(url, secure=secure, here=False)


@pytest.mark.parametrize(
    "written", ["http://u:canary@h:1", "u:canary@h:1", "https://u:ca,canary@h:1", ["u:canary@h:1"]]
)
def test_a_password_in_an_endpoint_is_not_repeated(written: object) -> None:
    """No error shows it, neither of the endpoint by itself nor beside TLS options."""
    for refuse in (lambda: parse_endpoints([written]), lambda: tls_for([written], Tls())):  # type: ignore[list-item]
        with pytest.raises(ValueError, match="endpoint") as raised:
            refuse()
        assert "canary" not in str(raised.value)
