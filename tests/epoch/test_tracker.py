"""Which history etcd is in, on a cluster in memory: what is held back, what is counted, and what is no reset."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.canaries import canary
from tests.support import connected, mock_clock
from tideover import HealthState, Source
from tideover.cluster.state import ClusterState
from tideover.coordinator.coordinator import Coordinator
from tideover.epoch.checked_store import EpochCheckedStore
from tideover.epoch.history import Reset
from tideover.epoch.marker import marker_key, read_marker
from tideover.epoch.rules import EpochMarker, Known, decode_marker
from tideover.epoch.tracker import EpochTracker
from tideover.options import Options
from tideover.store.faults import FaultKind, StoreFault
from tideover.store.leases import LeaseTimeToLive
from tideover.store.operations import Delete, Op, Put, Range, Result
from tideover.store.transactions import Txn
from tideover.testing import FaultyStore, MemoryStore
from tideover.types import Entry, Header

pytestmark = pytest.mark.anyio

KEY = marker_key("")


async def write(store: MemoryStore, key: str, value: str) -> None:
    """Write as another client would."""
    member = next(m for m in store.members if m not in store.down)
    await store.call(Put(f"/config/{key}".encode(), value.encode()), member=member, timeout=1)


async def write_at(store: MemoryStore, key: bytes, value: bytes) -> None:
    """Write anywhere as another client would."""
    await store.call(Put(key, value), member=store.members[0], timeout=1)


async def read_at(store: MemoryStore, key: bytes) -> Entry:
    """Read anywhere as another client would."""
    return (await store.call(Range(key), member=store.members[0], timeout=1)).entries[key]


def looks(store: MemoryStore) -> int:
    """Count the looks at the marker."""
    return sum(isinstance(op, Range) and op.key == KEY for _, op in store.calls)


def writes(store: MemoryStore) -> int:
    """Count the attempts to write the marker."""
    return sum(isinstance(op, Txn) for _, op in store.calls)


async def test_watching_over_the_history_costs_reads_only() -> None:
    """In an hour of quiet the marker is written once, at the start, and read every half minute."""
    store = MemoryStore()
    async with connected(store) as tide:
        await anyio.sleep(3600)
        assert tide.epoch == 1
        assert writes(store) == 1
        assert looks(store) <= 3600 / 30 + 10


async def test_an_answer_is_held_back_until_the_epoch_is_raised() -> None:
    """While the epoch cannot be written, nothing of the restored history is served, from memory or from etcd."""
    store = FaultyStore(memory := MemoryStore())
    for n in range(20):
        await write(memory, "a", str(n))
    async with connected(store) as tide:
        announced: list[Reset] = []
        tide._parts.epoch.subscribe(announced.append)
        await anyio.sleep(10)
        memory.rebuild({b"/config/a": b"old"})
        store.inject("UNAVAILABLE", "etcdserver: request timed out", op=Txn, times=8)
        before = anyio.current_time()
        while not announced:
            assert (tide.config.get("a"), tide.epoch) == ("19", 1)
            fetched = await tide.config.fetch("a", timeout=0.3)
            assert fetched.value == "19" or tide.epoch == 2
        assert anyio.current_time() - before < 7
        await anyio.sleep(1)
        assert (tide.config.get("a"), tide.epoch) == ("old", 2)
        assert (await tide.config.fetch("a")).value == "old"


async def test_a_member_that_is_cut_off_counts_terms_of_its_own() -> None:
    """A survivor's high term, seen while there was no quorum, makes no reset of the cluster's return."""
    store = MemoryStore()
    await write(store, "a", "1")
    async with connected(store) as tide:
        await anyio.sleep(1)
        store.down = {m for m in store.members if m != tide._parts.client.state.active}
        store.raft_term = 50
        store.touch()
        await tide.health.wait_for(HealthState.DEGRADED)
        await anyio.sleep(1)
        assert tide.config.read("a").source is Source.MEMBER
        store.down, store.raft_term = set(), 3
        store.touch()
        await tide.health.wait_for(HealthState.AVAILABLE)
        await anyio.sleep(1)
        assert (tide.epoch, tide.status().identity.resets) == (1, 0)


class CaughtUp(MemoryStore):
    """A cluster one of whose members has caught up from a snapshot: it says the term of before until a write."""

    behind: str | None = None

    def _header(self, member: str, revision: int) -> Header:
        header = super()._header(member, revision)
        return replace(header, raft_term=header.raft_term - 1) if member == self.behind else header

    async def call(self, op: Op[Any], *, member: str, timeout: float) -> Any:
        """Apply an entry at the member that is behind, if it is asked for one."""
        try:
            return await super().call(op, member=member, timeout=timeout)
        finally:
            # Also one that is refused for what it would do, once it is applied.
            if op.writes and member == self.behind:
                self.behind = None


async def test_a_member_caught_up_from_a_snapshot_makes_no_reset() -> None:
    """Its term of before ends no session and no term, and raises no epoch; newcomers are not misled, either."""
    store = CaughtUp()
    async with connected(store) as tide, tide.session(ttl=6) as session, tide.leader("x", ttl=6) as term:
        await session.put("a")
        store.raft_term += 1
        store.touch()
        await write(store, "b", "1")
        await anyio.sleep(20)
        assert tide.status().identity.raft_term == store.raft_term
        for member in store.members:
            store.behind = member
            await store.call(Range(b"/a"), member=member, timeout=1)
            await tide._parts.client.calls.call(Range(b"/config/b"))
            await anyio.sleep(20)
        session.check()
        term.check()
        assert (tide.epoch, tide.status().identity.resets) == (1, 0)
    # In a term whose marker is new.
    await store.call(Delete(KEY), member=store.members[0], timeout=1)
    async with connected(store):
        await anyio.sleep(1)
    for member in store.members:
        store.behind = member
        async with connected(store) as newcomer:
            await anyio.sleep(60)
            assert newcomer.epoch == 1


@pytest.mark.parametrize("op", [Range, Txn])
async def test_whoever_may_not_write_settles_a_lower_term_too(op: type[Op[Result]]) -> None:
    """A client that may not read or not write its marker takes no member's term of before for a reset."""
    store = FaultyStore(memory := CaughtUp())
    store.inject(
        "PERMISSION_DENIED",
        "etcdserver: permission denied",
        op=op,
        when=lambda called: getattr(called, "key", b"") == KEY,
        times=10**6,
    )
    async with connected(store) as tide:
        memory.raft_term += 1
        memory.touch()
        await write(memory, "b", "1")
        await anyio.sleep(20)
        for member in memory.members:
            memory.behind = member
            tide._parts.client.state.set_active(member)
            await tide._parts.client.calls.call(Range(b"/config/b"))
            await anyio.sleep(60)
        assert tide.status().identity.resets == 0


async def test_a_reset_without_space_is_recorded_once_there_is_some() -> None:
    """Restored with its quota used up, etcd takes no epoch: it is counted, told, and written when it can be."""
    store = MemoryStore()
    for n in range(20):
        await write(store, "a", str(n))
    async with connected(store) as tide, connected(store) as other:
        await anyio.sleep(10)
        store.alarms = {"NOSPACE"}
        store.rebuild({b"/config/a": b"old"})
        await anyio.sleep(60)
        for client in (tide, other):
            identity = client.status().identity
            assert (client.config.get("a"), client.epoch, identity.resets) == ("old", 2, 1)
            assert not identity.recorded
            assert "database space exceeded" in (identity.error or "")
        store.alarms = set()
        store.touch()
        await anyio.sleep(120)
        for client in (tide, other):
            identity = client.status().identity
            assert (client.epoch, identity.resets, identity.recorded, identity.error) == (2, 1, True, None)


async def test_a_lower_term_that_stays_is_a_reset() -> None:
    """A cluster rebuilt to the same revision, and in the same place, is told by its term: it stays low."""
    store = MemoryStore()
    async with connected(store) as tide:
        store.raft_term = 9
        await write(store, "a", "1")
        await anyio.sleep(30)
        store.raft_term = 4
        await anyio.sleep(30)
        assert (tide.epoch, tide.status().identity.resets) == (2, 1)


async def test_a_snapshot_without_excluded_keys_is_no_contradiction(tmp_path: Path) -> None:
    """Keys that were left out of the snapshot are new to the next process, and no sign of another history."""
    store = MemoryStore()
    await write(store, "secret/a", canary("excluded"))
    await write(store, "b", "y")

    def coordinator() -> Coordinator:
        options = Options(tuple(store.members), cache_dir=tmp_path, exclude=("secret/",))
        return Coordinator(options, store=store, clock=mock_clock())

    # A thread writes and reads the snapshot, for which the mock clock does not wait.
    async with coordinator() as tide:
        keeper = tide._parts.followed[0].keeper
        assert keeper is not None
        while keeper.saved_at < 0:
            await anyio.sleep(1)
    store.down = set(store.members)
    async with coordinator() as tide:
        while tide.config.read("b").source is not Source.DISK:
            await anyio.sleep(1)
        store.down = set()
        store.touch()
        await tide.health.wait_for(HealthState.AVAILABLE)
        await anyio.sleep(1)
        assert tide.config.get("secret/a") == canary("excluded")
        assert (tide.epoch, tide.status().identity.resets) == (1, 0)


@pytest.mark.parametrize("op", [Range, Txn])
async def test_without_permission(op: type[Op[Result]]) -> None:
    """Where the marker may not be read, or not written, resets are counted here, each once, and all goes on."""
    store = FaultyStore(memory := MemoryStore())
    for n in range(20):
        await write(memory, "a", str(n))
    store.inject(
        "PERMISSION_DENIED",
        "etcdserver: permission denied",
        op=op,
        when=lambda called: getattr(called, "key", b"") == KEY,
        times=10**6,
    )
    async with connected(store) as tide:
        epoch = tide.epoch
        assert not tide.status().identity.recorded
        assert "permission denied" in (tide.status().identity.error or "")
        await anyio.sleep(10)
        memory.rebuild({b"/config/a": b"old"})
        await anyio.sleep(600)
        assert tide.config.get("a") == "old"
        assert (tide.epoch, tide.status().identity.resets) == (epoch + 1, 1)


async def test_a_bumped_epoch_is_learned_of() -> None:
    """An epoch raised by an operator is a reset for every client, within half a minute."""
    store = MemoryStore()
    await write(store, "a", "1")
    async with connected(store) as tide, connected(store) as other:
        await anyio.sleep(1)
        marker = b'{"epoch": 7, "history": "operator", "cluster_id": "4d", "raft_term": 2}'
        await store.call(Put(KEY, marker), member=store.members[0], timeout=1)
        await anyio.sleep(35)
        for client in (tide, other):
            assert (client.epoch, client.status().identity.resets) == (7, 1)
            assert client.config.read("a").source is Source.LIVE


async def test_a_members_word_about_a_lease_proves_nothing() -> None:
    """An answer about a lease with an old revision, as a stale member gives it, is no reset."""
    store = MemoryStore()
    await write(store, "a", "1")
    async with connected(store) as tide:
        await anyio.sleep(1)
        header = (await store.call(Range(KEY), member=store.members[0], timeout=1)).header
        old = type(header)(header.cluster_id, 1, 1, 1)
        await tide._parts.epoch.admit(store.members[0], anyio.current_time(), old, linearizable=False)
        assert tide.epoch == 1
        assert LeaseTimeToLive(1).lane


async def test_known_answers_are_forgotten_with_their_history() -> None:
    """What was fetched before a reset is not a fallback after it."""
    store = MemoryStore()
    for n in range(20):
        await write(store, "other", str(n))
    async with connected(store, follow=("x/",)) as tide:
        assert (await tide.config.fetch("other")).value == "19"
        await anyio.sleep(10)
        store.rebuild({})
        await anyio.sleep(10)
        assert tide.epoch == 2
        store.down = set(store.members)
        store.touch()
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        assert (await tide.config.fetch("other", default="none")).value == "none"


class Recalled(MemoryStore):
    """A cluster; something happens during the first call of one kind."""

    during: tuple[type[Op[Any]], Callable[[], object]] | None = None

    async def call(self, op: Op[Any], *, member: str, timeout: float) -> Any:
        """Let it happen before the call arrives."""
        if self.during is not None and isinstance(op, self.during[0]):
            happen, self.during = self.during[1], None
            happen()
        return await super().call(op, member=member, timeout=timeout)


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("op", [Range, Txn])
async def test_what_was_left_on_disk_counts_whenever_it_is_read(op: type[Op[Any]], marked: bool) -> None:
    """A snapshot of epoch 5 read while the marker of a rebuilt etcd is founded: the epoch never goes back."""
    store = Recalled()
    clock, member = mock_clock(), store.members[0]
    identity = EpochTracker(
        KEY, cluster=ClusterState(store.members, clock=clock, active=member, random=lambda: 0.5)
    )
    left = Known(store.cluster_id, 2, 1, clock.monotonic(), 5, "cafe" if marked else "")
    store.during = (op, lambda: identity.recall(left))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(identity.run, store)
        await identity.confirm(5)
        assert identity.epoch == (6 if marked else 5)
        assert (await read_marker(store, KEY, member)).marker == EpochMarker(
            identity.epoch, identity.known.history, store.cluster_id, store.raft_term
        )
        tasks.cancel_scope.cancel()


async def test_an_answer_is_held_back_no_longer_than_its_caller_waits() -> None:
    """Where nobody settles which history an answer is of, the attempt ends when its time is over."""
    store = MemoryStore()
    clock = mock_clock()
    member = store.members[0]
    identity = EpochTracker(
        KEY, cluster=ClusterState(store.members, clock=clock, active=member, random=lambda: 0.5)
    )
    guarded = EpochCheckedStore(store, identity, clock=clock)
    began = anyio.current_time()
    with anyio.fail_after(60), pytest.raises(StoreFault) as caught:
        await guarded.call(Range(b"a"), member=member, timeout=0.8)
    assert (caught.value.fault.kind, caught.value.fault.applied) == (FaultKind.DEADLINE, True)
    assert 0.7 < anyio.current_time() - began < 1


async def test_a_silent_member_costs_a_start_a_moment() -> None:
    """Whichever of three is silent, whoever is asked first: available within 0.7 s, with the epoch, each time."""
    for silent in range(3):
        for seed in range(20):
            store = MemoryStore()
            store.frozen = {store.members[silent]}
            options = Options(endpoints=tuple(store.members), cache_dir=False, start_timeout=5.0)
            chance = random.Random(seed).random
            began = anyio.current_time()
            async with Coordinator(options, store=store, clock=mock_clock(), chance=chance) as tide:
                assert tide.health.state is HealthState.AVAILABLE
                assert tide.epoch == 1
                assert anyio.current_time() - began < 0.7


async def test_a_member_that_falls_silent_does_not_hold_the_others_up() -> None:
    """A look that is due while the member in use is silent is answered by another one within 0.2 s."""
    store = MemoryStore()
    async with connected(store) as tide:
        store.frozen = {tide._parts.client.state.active}
        began = anyio.current_time()
        await tide._parts.epoch.confirm(5)
        assert anyio.current_time() - began < 0.2


NO_MARKERS = [b"[" * 2000, b'{"epoch":' + b"7" * 4300 + b"}", b"hello", EpochMarker(2**63, "h", 1, 1).encode()]


@pytest.mark.parametrize("value", NO_MARKERS, ids=["nested", "digits", "text", "int64"])
async def test_what_is_written_over_the_marker_is_no_outage_and_no_reset(
    value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Who knew the marker goes on, a new process counts on its own; the key is named once, and is left alone.

    When it has been deleted, the marker is written again as it was: nobody has to be restarted, and nobody sees a
    reset, not even a process that has not looked meanwhile.
    """
    store = MemoryStore()
    async with connected(store) as old, connected(store) as unaware:
        await anyio.sleep(1)
        marker = (await read_at(store, KEY)).value
        await write_at(store, KEY, value)
        await old._parts.epoch.confirm(1)
        async with connected(store) as new:
            assert new.health.state is HealthState.AVAILABLE
            await new.config.put("a", "1")
            assert (await new.config.fetch("a")).value == "1"
            assert (old.epoch, new.epoch) == (1, 0)
            for tide in old, new:
                (rejected,) = tide.status().rejected
                assert (rejected.key, rejected.revision) == (
                    KEY.decode(),
                    (await read_at(store, KEY)).mod_revision,
                )
                assert not tide.status().identity.recorded
            await old._parts.epoch.confirm(1)
            assert (await read_at(store, KEY)).value == value
            await store.call(Delete(KEY), member=store.members[0], timeout=1)
            await old._parts.epoch.confirm(1)
            assert (await read_at(store, KEY)).value == marker
            await anyio.sleep(40)
            for tide in old, new, unaware:
                status = tide.status()
                assert (status.rejected, status.identity.error, status.identity.recorded) == ((), None, True)
                assert (tide.epoch, status.identity.resets, status.restarts) == (1, 0, 0)
    told = [record for record in caplog.records if "no marker" in record.getMessage()]
    assert len(told) == 2


async def test_a_bump_over_a_foreign_value_is_a_reset() -> None:
    """An operator who begins an epoch in the place of a foreign value is believed, whatever its number is."""
    store = MemoryStore()
    async with connected(store) as tide:
        await anyio.sleep(1)
        await write_at(store, KEY, b"hello")
        await tide._parts.epoch.confirm(1)
        await write_at(store, KEY, EpochMarker(1, "bumped", tide._parts.epoch.known.cluster_id, 1).encode())
        await tide._parts.epoch.confirm(1)
        assert (tide.epoch, tide.status().identity.resets) == (2, 1)


async def test_who_knows_no_epoch_leaves_the_marker_to_others_for_one_look() -> None:
    """A process that met a foreign value at its start writes the marker half a minute after that has gone."""
    store = MemoryStore()
    await write_at(store, KEY, b"hello")
    async with connected(store) as tide:
        await anyio.sleep(1)
        await store.call(Delete(KEY), member=store.members[0], timeout=1)
        await anyio.sleep(20)
        assert (tide.epoch, tide.status().rejected) == (0, ())
        assert tide.status().identity.error
        await anyio.sleep(20)
        status = tide.status().identity
        assert (tide.epoch, status.resets, status.recorded, status.error) == (1, 0, True, None)


async def test_a_restore_is_seen_though_the_marker_is_overwritten() -> None:
    """Without a marker a process still counts a reset that an answer proves, and writes the count when it can."""
    store = MemoryStore()
    for n in range(9):
        await write(store, "a", str(n))
    async with connected(store) as tide:
        await anyio.sleep(1)
        await write_at(store, KEY, b"hello")
        await tide._parts.epoch.confirm(1)
        await anyio.sleep(1)
        store.rebuild({KEY: b"hello"})
        await tide.config.fetch("a", default=None)
        assert (tide.epoch, tide.status().identity.resets) == (2, 1)
        await store.call(Delete(KEY), member=store.members[0], timeout=1)
        await anyio.sleep(10)
        assert decode_marker((await read_at(store, KEY)).value).epoch == 2
        assert tide.status().identity.resets == 1
