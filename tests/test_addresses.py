"""Hosts that nobody can connect to."""

from __future__ import annotations

import pytest

from tideover.addresses import is_wildcard, same_host

WILDCARDS = (
    "0.0.0.0",
    "0",
    "0.0",
    "0.0.0",
    "00.0.0.0",
    "0x0",
    "0x0.0",
    "::",
    "::0",
    "0:0:0:0:0:0:0:0",
    "::0.0.0.0",
    "::ffff:0.0.0.0",
    "::ffff:0:0",
    "::%eth0",
    "*",
    "",
)


@pytest.mark.parametrize("host", WILDCARDS)
def test_all_addresses_in_any_spelling(host: str) -> None:
    """However resolvers let "all addresses" be written, it is recognised."""
    assert is_wildcard(host)


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.7",
        "1",
        "0.0.0.1",
        "127.0.0.1",
        "::1",
        "::ffff:10.0.0.7",
        "fe80::1%0",
        "0.example",
        "zero",
        "0x",
        "api-0",
        "ü",
    ],
)
def test_one_address_or_a_name(host: str) -> None:
    """What means one machine, or may, is no wildcard, whatever zeros it has."""
    assert not is_wildcard(host)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("::1", "0:0:0:0:0:0:0:1"),
        ("127.0.0.1", "127.1"),
        ("10.0.0.7", "::ffff:a00:7"),
        ("shop.example", "shop.example"),
    ],
)
def test_one_host_in_any_spelling(one: str, other: str) -> None:
    """However a host is written, it is the same."""
    assert same_host(one) == same_host(other)


@pytest.mark.parametrize(("one", "other"), [("::1", "127.0.0.1"), ("a", "b"), ("10.0.0.7", "10.0.0.70")])
def test_two_hosts(one: str, other: str) -> None:
    """Different hosts are never taken for the same."""
    assert same_host(one) != same_host(other)
