"""Elections: the wait, and each change of the leadership."""

from __future__ import annotations

import anyio
import pytest
from opentelemetry.trace import SpanKind, StatusCode

from tests.support import connected
from tests.telemetry.recording import Recorded, attributes, lose, points, recover, value
from tideover import ElectionMismatch
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


async def test_a_campaign_is_a_span(recorded: Recorded) -> None:
    """The wait for an election is one span; it is an error only if the election can never be won."""
    async with connected(MemoryStore()) as tide:
        async with tide.leader("reaper"):
            pass
        with pytest.raises(ElectionMismatch):
            await tide.election("reaper").campaign(on_outage="stay")
    won, refused = recorded.spans("tideover.election.campaign")
    base = {"db.namespace": "", "tideover.component": "election", "tideover.election": "reaper"}
    assert won.kind is SpanKind.INTERNAL
    assert (attributes(won), won.status.status_code) == (base, StatusCode.UNSET)
    assert attributes(refused) == {**base, "error.type": "ElectionMismatch"}
    assert refused.status.status_code is StatusCode.ERROR
    assert not refused.events


async def test_leaderships_are_events_and_a_metric(recorded: Recorded) -> None:
    """Each change is one event with its ground; the metric shows 1 for what is led here, by standing."""
    store = MemoryStore()
    async with connected(store) as tide:
        async with tide.leader("reaper", on_outage="stay") as term:
            found = recorded.metrics()["tideover.election.leader"]
            assert found.unit == "{leader}"
            assert {k: value(p) for k, p in points(found).items()} == {("", "reaper", "held"): 1}
            lose(store)
            await anyio.sleep(30)
            shown = recorded.metrics()["tideover.election.leader"]
            assert value(points(shown)[("", "reaper", "unconfirmed")]) == 1
            recover(store)
            await anyio.sleep(5)
        assert "tideover.election.leader" not in recorded.metrics()
    told = [(a, body) for name, a, body in recorded.events() if name == "tideover.leadership.change"]
    assert [a.get("tideover.standing") for a, _ in told] == ["held", "unconfirmed", "held", None]
    assert {a["tideover.token"] for a, _ in told} == {term.token}
    assert {a["tideover.component"] for a, _ in told} == {"election"}
    whats = ["elected", "unconfirmed: it leads on without etcd", "confirmed", "resigned"]
    assert [body.split(": ", 1)[1] for _, body in told] == whats
