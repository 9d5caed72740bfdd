"""What may be registered."""

from __future__ import annotations

from typing import Any

import pytest

from tideover import Registration


@pytest.mark.parametrize(
    "url",
    ["http://10.0.0.7:8000", "https://api.example.com:443/v2", "grpc://[fd00::7]:50051", "http://localhost:1"],
)
def test_addresses_that_others_can_reach(url: str) -> None:
    """A scheme, a host and a port are enough; host and port name the instance."""
    assert Registration("api", url).endpoint("n").instance == url.split("//")[1].split("/")[0]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://0.0.0.0:8000", "nobody can reach .* listens on"),
        ("http://[::]:8000", "nobody can reach"),
        ("http://0:8000", "nobody can reach .* 0 is what a server listens on"),
        ("http://[::ffff:0.0.0.0]:8000", "nobody can reach"),
        ("http://10.0.0.7", "say the port, as in 'http://10.0.0.7:8000'"),
        ("http://10.0.0.7:0", "say the port"),
        ("http://10.0.0.7:99999", "must be like"),
        ("10.0.0.7:8000", "must be like"),
        ("", "must be like"),
        ("http://", "must be like"),
        ("http://ho st:80", "must be like"),
        ("http://me:secret@10.0.0.7:8000", "no user and no password"),
        ("http://10.0.0.7:8000/?a=b", "no '\\?'"),
    ],
)
def test_addresses_that_others_cannot_reach(url: str, why: str) -> None:
    """They are refused with a sentence that says what to do; a password is not repeated in it."""
    with pytest.raises(ValueError, match=why) as caught:
        Registration("api", url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "why"),
    [
        ({"name": ""}, ValueError, "service's name"),
        ({"name": 7}, TypeError, "service's name"),
        ({"url": None}, TypeError, "url"),
        ({"ttl": 3}, ValueError, "ttl must be more than"),
        ({"ttl": 15.0}, TypeError, "whole number"),
        ({"weight": -1}, ValueError, "weight"),
        ({"weight": "1"}, TypeError, "weight"),
        ({"metadata": {"zone": 1}}, TypeError, "metadata"),
        ({"metadata": {"zone": "x" * 70_000}}, ValueError, "65536 bytes"),
        ({"instance": ""}, ValueError, "an instance"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], error: type[Exception], why: str) -> None:
    """Wrong options are found when the registration is made, before anything runs."""
    with pytest.raises(error, match=why):
        Registration(**{"name": "api", "url": "http://10.0.0.7:8000", **options})


def test_the_instance_can_be_given() -> None:
    """Where addresses change with each start, as in Kubernetes, the instance can be named otherwise."""
    assert (
        Registration("api", "http://10.0.0.7:8000", instance="api-0").endpoint("n").key == "services/api/api-0/n"
    )
