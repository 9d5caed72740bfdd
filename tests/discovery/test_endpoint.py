"""Endpoints, their keys and their values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideover.discovery.endpoint import Endpoint, check_name, decode, service_prefix

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(
    service=NAMES,
    instance=NAMES,
    incarnation=NAMES,
    weight=st.floats(0, 1e6),
    metadata=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), NAMES, max_size=3),
)
def test_an_endpoint_comes_back_as_it_was_written(
    service: str, instance: str, incarnation: str, weight: float, metadata: dict[str, str]
) -> None:
    """Whatever characters names hold, key and value lead to the same endpoint again."""
    endpoint = Endpoint("http://10.0.0.7:8000", weight, metadata, instance, incarnation, service)
    assert decode(endpoint.key, endpoint.encode()) == endpoint
    assert endpoint.key.startswith(service_prefix(service))


@given(one=NAMES, other=NAMES)
def test_no_service_sees_another_ones_endpoints(one: str, other: str) -> None:
    """The keys of one service never begin with what those of another one begin with."""
    if one != other:
        key = Endpoint("http://a", instance="i", incarnation="n", service=one).key
        assert not key.startswith(service_prefix(other))


def test_an_ordinary_key_can_be_read_by_people() -> None:
    """A host with a port is not encoded."""
    endpoint = Endpoint("http://a", instance="10.0.0.7:8000", incarnation="f00", service="api")
    assert endpoint.key == "services/api/10.0.0.7:8000/f00"


def test_the_last_word_is_understood_by_older_versions_as_well() -> None:
    """Who leaves has weight 0 in etcd, which any version knows, and says why."""
    leaving = Endpoint("http://10.0.0.7:80", 3, {"zone": "a"}, "i", "one", "api", leaving=True)
    assert json.loads(leaving.encode()) == {
        "needs": 1,
        "url": "http://10.0.0.7:80",
        "weight": 0,
        "metadata": {"zone": "a"},
        "leaving": True,
    }
    assert decode(leaving.key, leaving.encode()).leaving
    assert "leaving" not in json.loads(Endpoint("http://10.0.0.7:80").encode())


def test_what_a_newer_version_has_added_is_ignored() -> None:
    """Unknown members do not keep an endpoint from being used; absent ones have their defaults."""
    raw = json.dumps({"needs": 1, "url": "http://a", "colour": {"of": "the sea"}}).encode()
    assert decode("services/api/i/n", raw) == Endpoint("http://a", 1.0, {}, "i", "n", "api")


@pytest.mark.parametrize(
    ("key", "raw", "why"),
    [
        ("services/api/i/n", b"\xff", "not JSON"),
        ("services/api/i/n", b"[" * 100_000, "not JSON"),
        ("services/api/i/n", b"[]", "not an object"),
        ("services/api/i/n", b"{}", "no format"),
        ("services/api/i/n", b'{"needs":true,"url":"http://a"}', "no format"),
        ("services/api/i/n", b'{"needs":2,"url":"http://a"}', "needs format 2"),
        ("services/api/i/n", b'{"needs":1}', "url must be text"),
        ("services/api/i/n", b'{"needs":1,"url":""}', "url must not be empty"),
        ("services/api/i/n", b'{"needs":1,"url":"http://a","weight":-1}', "weight must be from 0"),
        ("services/api/i/n", b'{"needs":1,"url":"http://a","weight":NaN}', "NaN is not a number"),
        (
            "services/api/i/n",
            b'{"needs":1,"url":"http://a","weight":1' + b"0" * 400 + b"}",
            "a number that is too large",
        ),
        ("services/api/i/n", b'{"needs":1,"url":"http://a","weight":"2"}', "weight must be a number"),
        ("services/api/i/n", b'{"needs":1,"url":"http://a","metadata":{"a":1}}', "metadata must map"),
        ("services/api/i/n", b'{"needs":1,"url":"http://a","metadata":[]}', "metadata must map"),
        ("services/api/i/n", rb'{"needs":1,"url":"http://\ud800"}', "text that is not Unicode"),
        (
            "services/api/i/n",
            rb'{"needs":1,"url":"http://a","metadata":{"a":"\ud800"}}',
            "text that is not Unicode",
        ),
        ("services/api/i", b'{"needs":1,"url":"http://a"}', "is not services/NAME"),
        ("services/api//n", b'{"needs":1,"url":"http://a"}', "is not services/NAME"),
        ("services/api/i/n/x", b'{"needs":1,"url":"http://a"}', "is not services/NAME"),
        ("locks/api/i/n", b'{"needs":1,"url":"http://a"}', "is not services/NAME"),
    ],
)
def test_what_cannot_be_used_says_why(key: str, raw: bytes, why: str) -> None:
    """A value or key that is no endpoint gives one ValueError that names it, whatever is wrong."""
    with pytest.raises(ValueError, match=why) as caught:
        decode(key, raw)
    assert key in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"url": ""}, ValueError),
        ({"url": b"http://a"}, TypeError),
        ({"weight": True}, TypeError),
        ({"weight": float("inf")}, ValueError),
        ({"metadata": {"zone": 1}}, TypeError),
        ({"metadata": ["zone"]}, TypeError),
        ({"metadata": {"zone": "\ud800"}}, ValueError),
    ],
)
def test_what_cannot_be_published_is_refused(arguments: dict[str, Any], error: type[Exception]) -> None:
    """A field of the wrong type or range is refused when the endpoint is made."""
    with pytest.raises(error):
        Endpoint(**{"url": "http://a", **arguments})


def test_metadata_cannot_be_changed_from_outside() -> None:
    """The endpoint keeps a copy, and endpoints can be members of a set all the same."""
    metadata = {"zone": "a"}
    endpoint = Endpoint("http://a", metadata=metadata)
    metadata["zone"] = "b"
    assert endpoint.metadata == {"zone": "a"}
    assert len({endpoint, Endpoint("http://a", metadata={"zone": "a"})}) == 1


@pytest.mark.parametrize(("name", "error"), [("", ValueError), ("\ud800", ValueError), (7, TypeError)])
def test_names_must_be_text(name: Any, error: type[Exception]) -> None:
    """A name must be text that can be encoded, and not be empty."""
    with pytest.raises(error, match="a service's name"):
        check_name(name)
