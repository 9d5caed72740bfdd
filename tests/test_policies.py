"""Policies are checked when they are given."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from tideover.policies import CachePolicy, Failsafe, Profile, RetryPolicy, StalenessLimit, Tls

nan = math.nan


def test_the_defaults_are_those_of_the_design() -> None:
    """Three attempts within five seconds; on-demand answers are kept for a day, for outages only."""
    assert RetryPolicy() == RetryPolicy(3, 5.0, 0.1, 0.4, 2.0)
    assert CachePolicy() == CachePolicy(0.0, 86_400.0, 4096)
    assert StalenessLimit(60.0).on_stale == "serve"
    assert [profile.value for profile in Profile] == ["safety", "availability"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"attempts": 0}, "attempts must be at least 1, not 0"),
        ({"timeout": 0}, "timeout must be more than 0 seconds, not 0"),
        ({"timeout": -1}, "timeout must be more than 0"),
        ({"timeout": nan}, "timeout must be more than 0"),
        ({"wait_initial": -0.1}, "not wait_initial=-0.1, wait_max=0.4"),
        ({"wait_initial": nan}, "not wait_initial=nan, wait_max=0.4"),
        ({"wait_initial": 2, "wait_max": 1}, "not wait_initial=2, wait_max=1"),
        ({"wait_exp_base": 0.5}, "wait_exp_base must be at least 1, not 0.5"),
    ],
)
def test_a_retry_policy_that_cannot_work_is_refused(options: dict[str, Any], says: str) -> None:
    """Each number out of range, and each contradiction, is named with both values."""
    with pytest.raises(ValueError, match=says):
        RetryPolicy(**options)


def test_a_base_that_is_no_number_is_refused() -> None:
    """nan is no growth."""
    with pytest.raises(ValueError, match="wait_exp_base"):
        RetryPolicy(wait_exp_base=nan)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ttl": -1}, "not ttl=-1, stale_if_error=86400.0"),
        ({"ttl": 10, "stale_if_error": 5}, "not ttl=10, stale_if_error=5"),
        ({"ttl": nan}, "not ttl=nan"),
        ({"stale_if_error": nan}, "stale_if_error=nan"),
        ({"max_entries": 0}, "max_entries must be at least 1, not 0"),
    ],
)
def test_a_cache_policy_that_cannot_work_is_refused(options: dict[str, Any], says: str) -> None:
    """An answer cannot be fresh for longer than it may be served at all."""
    with pytest.raises(ValueError, match=says):
        CachePolicy(**options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_stale": 0}, "max_stale must be more than 0 seconds, not 0"),
        ({"max_stale": nan}, "max_stale must be more than 0 seconds, not nan"),
        ({"max_stale": 5, "on_stale": "ignore"}, "must be 'serve', 'default' or 'raise', not 'ignore'"),
    ],
)
def test_a_staleness_limit_that_cannot_work_is_refused(options: dict[str, Any], says: str) -> None:
    """A limit is a positive time and one of three words."""
    with pytest.raises(ValueError, match=says):
        StalenessLimit(**options)


@pytest.mark.parametrize("policy", [RetryPolicy(), CachePolicy(), StalenessLimit(1.0)], ids=repr)
def test_policies_are_values(policy: RetryPolicy | CachePolicy | StalenessLimit) -> None:
    """A policy cannot be changed once given, and equals another with the same numbers."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(policy, dataclasses.fields(policy)[0].name, 1)
    assert policy == dataclasses.replace(policy)
    assert hash(policy) == hash(dataclasses.replace(policy))


def test_tls_files_must_be_there(tmp_path: Path) -> None:
    """A file that is missing and a certificate without its key are refused when given, by name."""
    there, missing = tmp_path / "there.pem", tmp_path / "missing.pem"
    there.touch()
    for name in ("ca", "cert", "key"):
        files: dict[str, Any] = {"ca": there, "cert": there, "key": there, name: missing}
        with pytest.raises(ValueError, match=rf"{name}: there is no file .*missing\.pem"):
            Tls(**files)
    with pytest.raises(ValueError, match=r"need both cert and key or neither, not cert=.*there\.pem.*, key=None"):
        Tls(cert=there)
    with pytest.raises(ValueError, match="need both cert and key"):
        Tls(key=there)
    with pytest.raises(ValueError, match="server_name"):
        Tls(server_name="")


GOOD = "0123456789abcdef"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"secret": "short"}, "secret must have at least 16 bytes, not 5"),
        ({"secret": ()}, "secret must not be an empty sequence"),
        ({"secret": [GOOD, "x"]}, r"secret\[1\] must have at least 16 bytes, not 1"),
        ({"listen": "here"}, "listen='here': need a port"),
        ({"listen": "10.0.0.1:70000"}, "need a port from 0 to 65535"),
        ({"listen": ":7000"}, "need a host"),
        ({"listen": "::1:7000"}, "need a host"),
        ({"advertise": ""}, "advertise=''"),
        ({"advertise": "http://x:1"}, "need a host"),
        ({"advertise": "x:0"}, "need a port from 1"),
        ({"advertise": "0.0.0.0"}, "no address that others could reach"),
        ({"advertise": "[::]:7000"}, "no address that others could reach"),
        ({"advertise": "[::0]:7000"}, "no address that others could reach"),
        ({"advertise": "0"}, "no address that others could reach"),
        ({"confirm_limit": 1}, "confirm_limit must be at least 5 seconds, not 1"),
        ({"confirm_limit": nan}, "confirm_limit must be at least"),
        ({"confirm_limit": 10**400}, "confirm_limit must be at least"),
        ({"alone": "yes"}, "alone must be 'step_down' or 'stay', not 'yes'"),
    ],
)
def test_a_failsafe_that_cannot_work(options: dict[str, Any], says: str) -> None:
    """Each option that is out of range is refused by name, and no message shows a secret."""
    with pytest.raises(ValueError, match=says) as caught:
        Failsafe(**{"secret": GOOD} | options)
    assert GOOD not in str(caught.value)


@pytest.mark.parametrize("options", [{"secret": 7}, {"secret": [GOOD, 7]}, {"listen": 7}, {"confirm_limit": "1"}])
def test_a_failsafe_of_wrong_types(options: dict[str, Any]) -> None:
    """What is of the wrong type is refused."""
    with pytest.raises(TypeError):
        Failsafe(**{"secret": GOOD} | options)


def test_a_failsafe() -> None:
    """Secrets may be text or bytes, one or several, and are not shown."""
    failsafe = Failsafe([GOOD, GOOD.encode() + b"2"], listen="[::1]:0", advertise="[fe80::1]")
    assert failsafe.secrets == (GOOD.encode(), GOOD.encode() + b"2")
    assert GOOD not in repr(failsafe)
    assert Failsafe(GOOD, advertise="worker-1.example:7000").secrets == (GOOD.encode(),)
