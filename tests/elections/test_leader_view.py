"""Who leads, known without asking: through resignations, deaths, outages and other histories."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from tests.support import connected, request
from tideover import Closed, Coordinator, EndpointsUnknown, NoEndpoints, NotFollowed, RecordCorrupt
from tideover.elections import followed
from tideover.elections.leader_view import LeaderView
from tideover.store.operations import Put, Range
from tideover.testing import MemoryStore
from tideover.types import Source

pytestmark = pytest.mark.anyio

KEY = b"/elections/jobs/reaper"
TTL = 15.0


@asynccontextmanager
async def watched() -> AsyncIterator[tuple[MemoryStore, Coordinator, LeaderView, Coordinator]]:
    """Give a cluster, a candidate's coordinator, the view of another process, and that process's coordinator."""
    store = MemoryStore()
    async with connected(store) as candidate, connected(store) as other:
        yield store, candidate, other.follow_leader("jobs/reaper"), other


def fail(store: MemoryStore, *, down: bool = True) -> None:
    """Take all members away, or bring them back."""
    store.down = set(store.members) if down else set()
    store.touch()


async def test_a_leader_is_known_from_its_election_to_its_end() -> None:
    """Nobody leads, then somebody who stays the leader through renewals, then nobody: each is told at once."""
    async with watched() as (_, candidate, view, other):
        await view.wait(timeout=0.1)
        with pytest.raises(NoEndpoints, match=r"^nobody leads 'jobs/reaper'$") as raised:
            view.pick()
        assert type(raised.value) is NoEndpoints
        async with candidate.leader("jobs/reaper", ttl=TTL, address="http://10.0.0.7:80"):
            await view.wait(timeout=1)
            for _ in range(20):
                await anyio.sleep(7.7)
                assert view.pick().address == "http://10.0.0.7:80"
        await anyio.sleep(0.1)
        with pytest.raises(NoEndpoints):
            view.pick()
        assert other.follow_leader("jobs/reaper") is view


async def test_a_waiter_is_given_the_next_leader() -> None:
    """Who waits while nobody leads goes on in the moment somebody is elected, and not before."""
    async with watched() as (_, candidate, view, _):
        began = anyio.current_time()

        async def lead() -> None:
            await anyio.sleep(3)
            async with candidate.leader("jobs/reaper", address="there"):
                await anyio.sleep(60)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lead)
            await view.wait(timeout=30)
            assert 3 <= anyio.current_time() - began < 3.5
            assert view.pick().address == "there"
            tasks.cancel_scope.cancel()


async def test_a_wait_ends_in_time() -> None:
    """Where nobody is elected a wait takes as long as it was given."""
    async with watched() as (_, _, view, _):
        began = anyio.current_time()
        await view.wait(timeout=2)
        assert anyio.current_time() - began == pytest.approx(2, abs=0.01)


async def test_in_an_outage_a_leader_counts_until_its_term_must_have_ended() -> None:
    """Marked and served until then, unknown from then on; and the leader's own term ends no earlier."""
    async with watched() as (store, candidate, view, _):
        term = await candidate.election("jobs/reaper").campaign(ttl=TTL)
        await view.wait(timeout=1)
        fail(store)
        await anyio.sleep(5)
        with request() as record:
            assert view.pick().term == 1
        assert record.marks["election"].source is Source.MEMORY
        given = 0
        while term.leads:
            try:
                view.pick()
            except EndpointsUnknown:
                break
            given += 1
            await anyio.sleep(0.05)
        assert given > 50
        assert term.leads, "a former leader was given"
        await anyio.sleep(TTL)
        with pytest.raises(EndpointsUnknown, match="last seen to lead it"):
            view.pick()


async def test_a_leader_that_stays_counts_as_long_as_it_stays() -> None:
    """Under `"stay"` no time ends it, only another record does."""
    async with watched() as (store, candidate, view, _):
        async with candidate.leader("jobs/reaper", ttl=TTL, on_outage="stay", address="there"):
            await view.wait(timeout=1)
            fail(store)
            await anyio.sleep(100)
            assert view.pick().address == "there"


async def test_a_leader_that_renews_counts_though_the_watch_has_died_unnoticed() -> None:
    """Before its term ends for want of news the record is looked at: "has not renewed" is said of no silence."""
    async with watched() as (store, candidate, view, _):
        async with candidate.leader("jobs/reaper", ttl=5, address="there"):
            await view.wait(timeout=1)
            store.mute = set(store.members)
            for _ in range(300):
                await anyio.sleep(0.1)
                assert view.pick().address == "there"


async def test_a_dead_leader_is_given_up_while_etcd_is_there() -> None:
    """A record that nobody renews any more names no leader, and the message says since when."""
    async with watched() as (store, candidate, view, _):
        async with candidate.leader("jobs/reaper", ttl=TTL):
            await view.wait(timeout=1)
            read = await store.call(Range(KEY), member=store.members[0], timeout=1)
        await store.call(Put(KEY, read.entries[KEY].value), member=store.members[0], timeout=1)
        await anyio.sleep(1)
        assert view.pick().term == 1
        await anyio.sleep(TTL)
        with pytest.raises(NoEndpoints, match=r"last seen to lead it 1\d.* ago, and has not renewed") as raised:
            view.pick()
        assert type(raised.value) is NoEndpoints


async def test_what_is_no_record_is_told() -> None:
    """A record that cannot be read is an error of its own."""
    async with watched() as (store, _, view, _):
        await store.call(Put(KEY, b"by hand"), member=store.members[0], timeout=1)
        await view.wait(timeout=1)
        await anyio.sleep(11)
        with pytest.raises(RecordCorrupt):
            view.pick()


async def test_the_end_of_the_coordinator_ends_the_view() -> None:
    """A waiter of a coordinator that is closed goes on, and `pick` says that it is closed."""
    store = MemoryStore()
    async with connected(store) as tide:
        view = tide.follow_leader("reaper")
    await anyio.lowlevel.checkpoint()
    with pytest.raises(Closed):
        view.pick()
    with pytest.raises(Closed):
        tide.follow_leader("reaper")


async def test_no_more_are_followed_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that nobody waits for makes place for another; if all are waited for, that is refused."""
    monkeypatch.setattr(followed, "MOST_ELECTIONS", 2)
    async with connected(MemoryStore()) as tide:
        first, second = tide.follow_leader("a"), tide.follow_leader("b")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: second.wait(timeout=60))
            await anyio.sleep(0.1)
            third = tide.follow_leader("c")
            with pytest.raises(Closed, match="'a' is not followed any more"):
                first.pick()
            tasks.start_soon(lambda: third.wait(timeout=60))
            await anyio.sleep(0.1)
            with pytest.raises(NotFollowed, match="2 elections"):
                tide.follow_leader("d")
            tasks.cancel_scope.cancel()


@pytest.mark.parametrize("name", ["", "a//b", "a/token"])
async def test_names_that_no_election_has_are_refused(name: str) -> None:
    """As for candidates."""
    async with connected(MemoryStore()) as tide:
        with pytest.raises(ValueError):
            tide.follow_leader(name)
