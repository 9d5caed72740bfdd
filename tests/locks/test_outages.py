"""Locks while etcd is away: refused, waited out or LOCAL, as asked for; and what becomes of them afterwards."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio

from tests.locks.support import Cuttable, connected_many, connected_on, heal, lock_keys, lose_all, settle, touches
from tests.support import connected, request
from tideover import (
    Closed,
    Coordinator,
    HealthState,
    Held,
    LockConflict,
    LockLost,
    LockMode,
    LockTimeout,
    LockUnavailable,
    NotDistributed,
    PermissionDenied,
    SpaceExhausted,
    TideoverError,
    Unavailable,
)
from tideover.clock import Stamp
from tideover.locks.hold_document import decode, encode
from tideover.locks.ledger_file import LedgerFile, read
from tideover.locks.rules.overlaps import Hold
from tideover.store.operations import Delete, Op, Put
from tideover.testing import FaultyStore, MemoryStore

pytestmark = pytest.mark.anyio


def mode_of(held: Held) -> str:
    """Return on what ground it is held: it changes, which a type checker does not expect of an attribute."""
    return held.mode.value


# Refusing, waiting ----------------------------------------------------------------------------------------------


async def test_fail_refuses_at_once_without_a_packet() -> None:
    """In a declared outage a lock that was to fail raises LockUnavailable: no packet, no time, an Unavailable."""
    store = MemoryStore()
    async with connected(store) as tide:
        async with tide.lock("warm"):
            pass
        lose_all(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        began, calls = trio.current_time(), len(store.calls)
        with pytest.raises(LockUnavailable) as caught:
            async with tide.lock("orders"):
                raise AssertionError
        assert isinstance(caught.value, Unavailable)
        assert trio.current_time() == began
        assert len(store.calls) == calls


async def test_the_profile_decides_unless_the_lock_does() -> None:
    """With "availability" a lock is LOCAL in an outage; with "safety" it is refused; a lock's own word wins."""
    for profile, local in (("safety", False), ("availability", True)):
        store = MemoryStore()
        async with connected(store, profile=profile) as tide:
            lose_all(store)
            await tide.health.wait_for(HealthState.UNAVAILABLE)
            if local:
                async with tide.lock("orders") as held:
                    assert mode_of(held) == "local"
            with pytest.raises(LockUnavailable):
                async with tide.lock("orders", on_outage="fail"):
                    raise AssertionError
            async with tide.lock("orders", on_outage="local") as held:
                assert mode_of(held) == "local"


async def test_wait_waits_for_the_end_of_the_outage() -> None:
    """A lock that waits is had when etcd is back; within its timeout it times out instead."""
    store = MemoryStore()
    async with connected(store) as tide:
        lose_all(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        with pytest.raises(LockTimeout):
            async with tide.lock("orders", on_outage="wait", timeout=10):
                raise AssertionError
        began = trio.current_time()
        async with anyio.create_task_group() as tasks:

            async def back() -> None:
                await anyio.sleep(30)
                heal(store)

            tasks.start_soon(back)
            async with tide.lock("orders", on_outage="wait", timeout=100) as held:
                assert mode_of(held) == "distributed"
                assert 30 < trio.current_time() - began < 40


@pytest.mark.parametrize("on_outage", ["fail", "local", "wait"])
async def test_a_leader_change_refuses_nobody_and_makes_nothing_local(on_outage: str) -> None:
    """An election of 1.8 s is waited out by those who come, who wait and who hold; nothing turns LOCAL."""
    store = MemoryStore()
    async with connected_many(store, 2) as (one, two), anyio.create_task_group() as tasks:
        got: list[str] = []

        async def want(tide: object, name: str) -> None:
            async with tide.lock(name, on_outage=on_outage, timeout=20) as held:  # type: ignore[attr-defined]
                got.append(held.mode)

        async with one.lock("orders", on_outage=on_outage) as held:  # type: ignore[arg-type]
            tasks.start_soon(want, two, "orders")
            await anyio.sleep(1)
            store.electing = True
            store.touch()
            tasks.start_soon(want, one, "other")
            await anyio.sleep(1.8)
            store.electing = False
            store.raft_term += 1
            store.touch()
            await anyio.sleep(5)
            assert mode_of(held) == "distributed"
            assert got == ["distributed"]
        await settle(2)
        assert got == ["distributed", "distributed"]


async def test_an_outage_while_waiting() -> None:
    """Those who wait when it is declared: one is refused, one is LOCAL after the holder, one waits it out."""
    store = MemoryStore()
    log: list[tuple[str, str, float]] = []
    async with connected(store) as tide, anyio.create_task_group() as tasks:

        async def want(on_outage: str) -> None:
            try:
                async with tide.lock("orders", on_outage=on_outage, timeout=100) as held:  # type: ignore[arg-type]
                    log.append((on_outage, held.mode, trio.current_time()))
                    await anyio.sleep(1)
            except LockUnavailable:
                log.append((on_outage, "refused", trio.current_time()))

        with pytest.raises(LockLost):
            async with tide.lock("orders"):
                for on_outage in ("fail", "local", "wait"):
                    tasks.start_soon(want, on_outage)
                await anyio.sleep(1)
                lose_all(store)
                await tide.health.wait_for(HealthState.UNAVAILABLE)
                await anyio.sleep(1)
                assert [entry[:2] for entry in log] == [("fail", "refused")]
                await anyio.sleep(100)
        lost_at = trio.current_time()
        await anyio.sleep(3)
        assert [entry[:2] for entry in log] == [("fail", "refused"), ("local", "local")]
        assert lost_at <= log[1][2] < lost_at + 0.2
        heal(store)
        await anyio.sleep(10)
        assert [entry[:2] for entry in log][2:] == [("wait", "distributed")]
    assert lock_keys(store) == []


# LOCAL ----------------------------------------------------------------------------------------------------------


async def test_a_local_lock_never_passes_for_a_distributed_one() -> None:
    """A LOCAL lock has no token, no revision and no guard; the request in which it is taken is marked."""
    store = MemoryStore()
    async with connected(store, profile="availability") as tide:
        lose_all(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        with request() as record:
            async with tide.lock("orders") as held:
                assert mode_of(held) == "local"
                held.check()
                for ask in (lambda: held.token, lambda: held.revision, lambda: held.deadline, held.guard):
                    with pytest.raises(NotDistributed, match="LOCAL"):
                        ask()
                assert tide.status().locks[0].mode is LockMode.LOCAL
                assert tide.status().locks[0].token is None
            assert record.marks["lock"].source is LockMode.LOCAL
            assert record.marks["lock"].outage_id


async def test_local_locks_exclude_each_other() -> None:
    """In an outage coroutines of one process, and processes of one machine, are in the body one at a time."""
    store = MemoryStore()
    inside = most = 0
    async with connected_many(store, 3, profile="availability") as tides, anyio.create_task_group() as tasks:
        lose_all(store)
        for tide in tides:
            await tide.health.wait_for(HealthState.UNAVAILABLE)

        async def work(number: int) -> None:
            nonlocal inside, most
            for ttl in (15, 20):
                async with tides[number].lock("orders", ttl=ttl) as held:
                    assert mode_of(held) == "local"
                    inside += 1
                    most = max(most, inside)
                    await anyio.sleep(0.05)
                    inside -= 1

        for number in range(3):
            for _ in range(3):
                tasks.start_soon(work, number)
    assert most == 1


async def test_a_local_lock_waits_for_the_distributed_one_of_this_machine() -> None:
    """Who holds the lock DISTRIBUTED when the outage begins keeps those of this machine from a LOCAL one."""
    store = MemoryStore()
    async with connected_many(store, 2, profile="availability") as (one, two):
        async with one.lock("orders", ttl=60):
            lose_all(store)
            await two.health.wait_for(HealthState.UNAVAILABLE)
            with pytest.raises(LockTimeout):
                async with two.lock("orders", timeout=1):
                    raise AssertionError
        async with two.lock("orders", timeout=1) as held:
            assert mode_of(held) == "local"


async def test_held_when_the_outage_begins_it_turns_local_at_its_deadline() -> None:
    """Opened with "local" it is DISTRIBUTED until the deadline, then LOCAL, and with etcd it is as before."""
    store = MemoryStore()
    async with connected(store) as tide, tide.lock("orders", on_outage="local") as held:
        token, deadline = held.token, held.deadline
        lose_all(store)
        await anyio.sleep_until(held.deadline - 0.01)
        assert held.deadline >= deadline
        assert mode_of(held) == "distributed"
        await anyio.sleep(0.02)
        assert mode_of(held) == "local"
        await anyio.sleep(300)
        held.check()
        heal(store)
        await anyio.sleep(5)
        assert mode_of(held) == "distributed"
        assert held.token == token
        await anyio.sleep(60)
        held.check()
    assert lock_keys(store) == []


@pytest.mark.parametrize("on_outage", ["fail", "wait"])
async def test_otherwise_it_is_lost_at_its_deadline(on_outage: str) -> None:
    """Opened with another word the body is cancelled at the deadline, not before, and LockLost says why."""
    store = MemoryStore()
    async with connected(store) as tide:
        with pytest.raises(LockLost, match="deadline"):
            async with tide.lock("orders", on_outage=on_outage) as held:  # type: ignore[arg-type]
                lose_all(store)
                await anyio.sleep_until(held.deadline - 0.01)
                held.check()
                deadline = held.deadline
                await anyio.sleep(100)
        assert trio.current_time() == pytest.approx(deadline, abs=0.05)


async def test_a_deadline_without_an_outage_is_a_loss() -> None:
    """A session not proven while etcd is there never makes a lock LOCAL: others may have it in order."""
    store = MemoryStore()
    async with connected(store) as tide:
        with pytest.raises(LockLost):
            async with tide.lock("orders", on_outage="local"):
                store.stale = set(store.members)
                await anyio.sleep(100)


async def test_a_definite_no_is_never_answered_with_a_local_lock() -> None:
    """In an outage of this client's view, a key seen deleted is a loss, "local" or not."""
    store = MemoryStore()
    async with connected(store) as tide:
        with pytest.raises(LockLost):
            async with tide.lock("orders", on_outage="local"):
                store.revoke(next(iter(store.leases)))
                await anyio.sleep(100)


# Afterwards -----------------------------------------------------------------------------------------------------


async def test_taken_local_it_becomes_distributed_if_nobody_else_has_it() -> None:
    """After the outage a LOCAL lock goes through the line once: free, it is DISTRIBUTED with its own token."""
    store = MemoryStore()
    async with connected(store, profile="availability") as tide:
        async with tide.lock("orders") as held:
            before = held.token
        lose_all(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        async with tide.lock("orders") as held:
            assert mode_of(held) == "local"
            heal(store)
            await anyio.sleep(8)
            assert mode_of(held) == "distributed"
            assert held.token > before
            assert len(lock_keys(store)) == 1
            with pytest.raises(LockTimeout):
                async with tide.lock("orders", timeout=50):
                    raise AssertionError
            held.check()
            token = held.token
        async with tide.lock("orders", timeout=5) as held:
            assert held.token > token
        await settle(1)
    assert lock_keys(store) == []


async def test_taken_local_it_is_in_conflict_if_somebody_else_has_it() -> None:
    """Somebody on another machine has the lock when etcd is back: LockConflict ends the body."""
    store = MemoryStore()
    async with connected(store, profile="availability") as tide:
        lose_all(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        with pytest.raises(LockConflict, match="orders/77"):
            async with tide.lock("orders") as held:
                heal(store)
                await store.call(Put(b"/locks/orders/77", b""), member=store.members[0], timeout=1)
                with anyio.move_on_after(30) as waiting:
                    await anyio.sleep_forever()
                assert waiting.cancelled_caught
                held.check()
        await settle()
        assert lock_keys(store) == [b"/locks/orders/77"]


async def test_a_turned_lock_whose_key_is_gone_goes_through_the_line_once() -> None:
    """Turned LOCAL, and its lease ended meanwhile: DISTRIBUTED with a new token if free, else LockConflict."""
    for taken in (False, True):
        store = MemoryStore()
        async with connected(store) as tide:
            try:
                async with tide.lock("orders", on_outage="local") as held:
                    token = held.token
                    lose_all(store)
                    await anyio.sleep(60)
                    assert mode_of(held) == "local"
                    store.revoke(next(iter(store.leases)))
                    store.down = set()
                    if taken:
                        await store.call(Put(b"/locks/orders/77", b""), member=store.members[0], timeout=1)
                    store.touch()
                    await anyio.sleep(20)
                    assert mode_of(held) == "distributed"
                    assert held.token > token
                    assert not taken
            except LockConflict:
                assert taken
        await settle()


async def test_a_waiter_of_this_process_does_not_put_a_local_hold_in_conflict() -> None:
    """A waiter of the same process is back with etcd: the LOCAL hold takes its place, the waiter waits."""
    store = MemoryStore()
    order: list[str] = []
    async with connected(store) as tide, anyio.create_task_group() as tasks:
        lose_all(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)

        async def wait() -> None:
            async with tide.lock("orders", on_outage="wait", timeout=200) as held:
                order.append(f"waiter {held.mode}")

        async with tide.lock("orders", on_outage="local") as held:
            tasks.start_soon(wait)
            await anyio.sleep(5)
            heal(store)
            await anyio.sleep(20)
            assert mode_of(held) == "distributed"
            order.append("holder")
            token = held.token
        await settle(2)
        assert order == ["holder", "waiter distributed"]
        async with tide.lock("orders") as after:
            assert after.token > token
    assert lock_keys(store) == []


async def test_an_outage_while_releasing() -> None:
    """Left while etcd is away, the key is deleted before the session counts again; then others have the lock."""
    store = MemoryStore()
    async with connected_many(store, 2) as (one, two):
        async with one.lock("orders", ttl=60):
            lose_all(store)
            await one.health.wait_for(HealthState.UNAVAILABLE)
        await anyio.sleep(20)
        assert len(lock_keys(store)) == 1
        heal(store)
        await one.health.wait_for(HealthState.AVAILABLE)
        await two.health.wait_for(HealthState.AVAILABLE)
        async with two.lock("orders", timeout=5):
            pass
        async with one.lock("orders", timeout=5, ttl=60):
            await anyio.sleep(30)
    assert lock_keys(store) == []


async def test_a_local_hold_left_on_its_way_back_leaves_no_key() -> None:
    """Etcd is back, a key is being made for a LOCAL hold, and its body ends meanwhile: the key goes, too."""
    for after in (0.0, 0.1, 0.3, 0.5, 0.7):
        store = MemoryStore()
        async with connected_many(store, 2, profile="availability") as (one, two):
            lose_all(store)
            for tide in (one, two):
                await tide.health.wait_for(HealthState.UNAVAILABLE)
            async with one.lock("orders"):
                store.delay = 0.1
                heal(store)
                await one.health.wait_for(HealthState.AVAILABLE)
                await anyio.sleep(after)
            await settle(5)
            assert lock_keys(store) == []
            assert one._parts.locks._cohorts == {}
            async with two.lock("orders", on_outage="fail", timeout=5):
                pass


async def test_who_waits_out_an_outage_keeps_nobody_from_a_local_lock() -> None:
    """A waiter that has the host lock already, and no trust in its session, lets go of it for the outage."""
    store = MemoryStore()
    async with connected(store) as tide, anyio.create_task_group() as tasks:
        async with tide.lock("warm"):
            pass
        got: list[str] = []

        async def want(on_outage: str) -> None:
            async with tide.lock("orders", on_outage=on_outage, timeout=100) as held:  # type: ignore[arg-type]
                got.append(mode_of(held))

        store.stale = set(store.members)
        await anyio.sleep(10)
        tasks.start_soon(want, "wait")
        await anyio.sleep(0.5)
        assert len(lock_keys(store)) == 1
        lose_all(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        async with tide.lock("orders", on_outage="local", timeout=5) as held:
            assert mode_of(held) == "local"
            assert not got
        store.stale = set()
        heal(store)
        await anyio.sleep(10)
        assert got == ["distributed"]


@pytest.mark.parametrize("on_outage", ["fail", "local"])
async def test_who_waits_for_the_host_lock_is_told_of_the_outage(tmp_path: Path, on_outage: str) -> None:
    """First in etcd's line, it waits for a neighbour's LOCAL lock: in an outage it is refused, too."""
    store, cut = MemoryStore(), MemoryStore()
    async with (
        connected_on(store, tmp_path) as one,
        connected_on(Cuttable(store, cut), tmp_path, profile="availability") as two,
        anyio.create_task_group() as tasks,
    ):
        ended: list[str] = []

        async def want() -> None:
            try:
                async with one.lock("orders", ttl=60, on_outage=on_outage, timeout=300) as held:  # type: ignore[arg-type]
                    ended.append(mode_of(held))
            except LockUnavailable:
                ended.append("refused")

        lose_all(cut)
        await two.health.wait_for(HealthState.UNAVAILABLE)
        async with two.lock("orders"):
            tasks.start_soon(want)
            await anyio.sleep(5)
            assert len(lock_keys(store)) == 1
            lose_all(store)
            await one.health.wait_for(HealthState.UNAVAILABLE)
            await anyio.sleep(0.5)
            assert ended == (["refused"] if on_outage == "fail" else [])
        await anyio.sleep(1)
        assert ended == (["refused"] if on_outage == "fail" else ["local"])


@pytest.mark.parametrize("ttl", [5, 6, 8, 15])
@pytest.mark.parametrize("after", [0.0, 0.5, 1.0, 1.5])
async def test_whatever_its_ttl_it_turns_local(ttl: int, after: float) -> None:
    """The deadline of a short ttl comes before the outage is declared: it is LOCAL all the same, not lost."""
    store = MemoryStore()
    async with connected(store) as tide, tide.lock("orders", ttl=ttl, on_outage="local") as held:
        token = held.token
        await anyio.sleep(ttl + after)
        lose_all(store)
        await anyio.sleep_until(held.deadline + 0.01)
        assert mode_of(held) == "local"
        await anyio.sleep(10)
        held.check()
        heal(store)
        await anyio.sleep(5)
        assert mode_of(held) == "distributed"
        assert held.token == token


async def test_turned_local_and_back_before_an_outage_is_declared() -> None:
    """LOCAL at the deadline of a short ttl, and etcd is back before an outage is declared: DISTRIBUTED again."""
    store = MemoryStore()
    async with connected(store) as tide, tide.lock("orders", ttl=5, on_outage="local") as held:
        token = held.token
        await anyio.sleep_until(held.deadline - 2.4)
        lose_all(store)
        await anyio.sleep_until(held.deadline + 0.01)
        assert mode_of(held) == "local"
        assert tide.health.state is HealthState.AVAILABLE
        heal(store)
        await anyio.sleep(2)
        assert mode_of(held) == "distributed"
        assert held.token == token
        await anyio.sleep(30)
        held.check()


@pytest.mark.parametrize("after", [0.0, 0.4, 0.8, 1.2, 1.6])
async def test_an_election_costs_no_lock_however_short_its_ttl(after: float) -> None:
    """Whenever between two renewals an election of 1.8 s begins: the lock stays DISTRIBUTED."""
    store = MemoryStore()
    async with connected(store) as tide, tide.lock("orders", ttl=5, on_outage="local") as held:
        await anyio.sleep(5 + after)
        store.electing = True
        store.touch()
        for _ in range(18):
            await anyio.sleep(0.1)
            assert mode_of(held) == "distributed"
        store.electing = False
        store.touch()
        for _ in range(100):
            await anyio.sleep(0.1)
            assert mode_of(held) == "distributed"


# The ledger -----------------------------------------------------------------------------------------------------


async def test_holds_in_an_outage_are_written_down_and_told(tmp_path: Path) -> None:
    """Every hold that touches an outage is on disk before anything else happens, and in etcd afterwards."""
    store = MemoryStore()
    async with connected_on(store, tmp_path, profile="availability") as tide:
        async with tide.lock("before"):
            pass
        async with tide.lock("across"):
            lose_all(store)
            await tide.health.wait_for(HealthState.UNAVAILABLE)
            async with tide.lock("orders"):
                (file,) = tmp_path.rglob("*.jsonl")
                found = {hold.name: hold for hold in read(file)}
                assert found["orders"].mode is LockMode.LOCAL
                assert found["across"].mode is LockMode.DISTRIBUTED
            assert all(hold.ended for hold in read(file) if hold.name == "orders")
            heal(store)
            await anyio.sleep(5)
        await anyio.sleep(5)
        published = [decode(e.value) for k, e in store._newest.items() if k.startswith(b"/tideover/ledger/")]
        assert sorted(hold.name for hold in published) == ["across", "orders"]
        assert all(hold.ended for hold in published)
        assert tide.status().lock_error is None
    assert not list(tmp_path.rglob("*.jsonl"))


async def test_a_ledger_that_waits_for_etcd_is_no_trouble(tmp_path: Path) -> None:
    """In an outage it is published later: nothing that does not work, and LOCAL locks are not said to fail."""
    store = MemoryStore()
    async with connected_on(store, tmp_path / "a", profile="availability") as tide:
        lose_all(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        async with tide.lock("yesterday"):
            pass
        heal(store)
        await tide.health.wait_for(HealthState.AVAILABLE)
        await anyio.sleep(1)
        # After an outage it is looked at often, and so in the next one.
        lose_all(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        async with tide.lock("orders"):
            for _ in range(100):
                await anyio.sleep(1)
                report = tide.status()
                assert report.lock_error is None
            assert report.host_locks
            assert not any("LOCAL locks" in str(each) for each in report.fails)
            assert any("Locks of this host" in str(each) for each in report.works)


async def test_what_is_over_and_published_is_not_kept_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of holds that are over and published a process keeps the latest in memory; all stand in etcd."""
    monkeypatch.setattr("tideover.locks.ledger._KEPT_PUBLISHED", 3)
    store = MemoryStore()
    async with connected_on(store, tmp_path / "a", profile="availability") as tide:
        lose_all(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        for number in range(8):
            async with tide.lock(f"orders/{number}"):
                pass
        assert next(iter(tide._parts.locks._ledger._own.values())).name == "orders/0"
        heal(store)
        await tide.health.wait_for(HealthState.AVAILABLE)
        await anyio.sleep(5)
        kept = [hold.name for hold in tide._parts.locks._ledger._own.values()]
        assert kept == ["orders/5", "orders/6", "orders/7"]
        published = [decode(e.value) for k, e in store._newest.items() if k.startswith(b"/tideover/ledger/")]
        assert sorted(hold.name for hold in published) == [f"orders/{number}" for number in range(8)]


async def test_of_what_others_held_the_latest_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the holds that others have published a process keeps as many in memory as it may, those it read last."""
    monkeypatch.setattr("tideover.locks.ledger._MOST_OTHERS", 3)
    store = MemoryStore()
    async with (
        connected_on(store, tmp_path / "a", profile="availability") as one,
        connected_on(store, tmp_path / "b", profile="availability") as two,
    ):
        lose_all(store)
        await one.health.wait_for(HealthState.UNAVAILABLE)
        await two.health.wait_for(HealthState.UNAVAILABLE)
        async with two.lock("another"):
            pass
        for number in range(8):
            async with one.lock(f"orders/{number}"):
                pass
        heal(store)
        await two.health.wait_for(HealthState.AVAILABLE)
        await anyio.sleep(10)
        assert len(two._parts.locks._ledger._others) == 3


async def test_overlaps_are_found_and_reported(tmp_path: Path) -> None:
    """Two machines hold one lock LOCAL at the same time: both report a certain conflict."""
    store = MemoryStore()
    async with (
        connected_on(store, tmp_path / "a", profile="availability") as one,
        connected_on(store, tmp_path / "b", profile="availability") as two,
    ):
        lose_all(store)
        await one.health.wait_for(HealthState.UNAVAILABLE)
        await two.health.wait_for(HealthState.UNAVAILABLE)
        async with one.lock("orders"), two.lock("orders") as held:
            assert mode_of(held) == "local"
            await anyio.sleep(5)
        async with one.lock("alone"):
            await anyio.sleep(5)
        heal(store)
        await anyio.sleep(10)
        for tide in (one, two):
            (conflict,) = tide.status().lock_conflicts
            assert conflict.name == "orders"
            assert conflict.certain
            assert conflict.seconds == pytest.approx(5, abs=0.5)


async def test_who_saw_no_outage_is_found_too(tmp_path: Path) -> None:
    """A process cut off from etcd holds LOCAL what another one holds in full order: both report it."""
    store, cut = MemoryStore(), MemoryStore()
    async with (
        connected_on(store, tmp_path / "a") as one,
        connected_on(Cuttable(store, cut), tmp_path / "b", profile="availability") as two,
    ):
        lose_all(cut)
        await two.health.wait_for(HealthState.UNAVAILABLE)
        async with two.lock("orders") as local:
            async with one.lock("orders") as held:
                assert (local.mode, held.mode) == (LockMode.LOCAL, LockMode.DISTRIBUTED)
                await anyio.sleep(3)
        heal(cut)
        await anyio.sleep(90)
        for tide in (one, two):
            assert [(c.name, c.certain) for c in tide.status().lock_conflicts] == [("orders", True)]


BEGAN = Stamp(1_000_000_000.0, 1.0, "mock")
REMEMBERED = Hold("dead-1", "orders", "dead", "other/1", LockMode.LOCAL, 0, BEGAN, None, BEGAN)


async def test_holds_of_a_process_that_died_are_told_by_the_next(tmp_path: Path) -> None:
    """What a killed process has left in its file is published by whoever comes next on the machine."""
    store = MemoryStore()
    async with connected_on(store, tmp_path) as tide:
        folder = tide._parts._ledger_folder(tmp_path)
    dead = LedgerFile(folder, "dead")
    dead.write(REMEMBERED)
    dead.close(keep=True)
    (left,) = folder.glob("*.jsonl")
    os.utime(left, (1, 1))
    async with connected_on(store, tmp_path) as tide:
        async with tide.lock("x"):
            pass
        await anyio.sleep(5)
        assert any(k == b"/tideover/ledger/dead-1" for k in store._newest)
        assert not left.exists()


ODD_LINES = b"\n".join(
    [b"[" * 2000, encode(REMEMBERED).replace(b'"token":0', b'"token":1e999'), b"\xff", b"{" * 70_000, b"null"]
)


async def test_what_is_no_hold_harms_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Odd entries and odd files of the ledger are left out, named once, and forgotten when they are gone.

    What others have held is told nevertheless, conflicts are found, no task dies, and the end is an ordinary one.
    """
    store = MemoryStore()
    key = b"/tideover/ledger/odd"

    async def write(op: Op[Any]) -> None:
        await store.call(op, member=store.members[0], timeout=1)

    await write(Put(key, b'{"token":1e999}'))
    async with connected_on(store, tmp_path) as tide:
        folder = tide._parts._ledger_folder(tmp_path)
        dead = LedgerFile(folder, "dead")
        dead.write(REMEMBERED)
        dead.close(keep=True)
        (left,) = folder.glob("*.jsonl")
        left.write_bytes(ODD_LINES + b"\n" + left.read_bytes())
        os.utime(left, (1, 1))
        os.mkfifo(folder / "fifo.jsonl")
        (folder / "endless.jsonl").symlink_to("/dev/zero")
        async with tide.lock("x"):
            pass
        await anyio.sleep(65)
        assert b"/tideover/ledger/dead-1" in store._newest
        assert not left.exists()
        assert {each.name for each in folder.iterdir()} == {"fifo.jsonl", "endless.jsonl"}
        status = tide.status()
        assert "is left alone: it is" in (status.lock_error or "")
        assert [(each.key, each.revision) for each in status.rejected] == [
            (key.decode(), store._newest[key].mod_revision)
        ]
        assert await tide.lock_conflicts() == ()
        for odd in folder.iterdir():
            odd.unlink()
        await write(Delete(key))
        await anyio.sleep(20)
        status = tide.status()
        assert (status.rejected, status.lock_error, status.restarts) == ((), None, 0)
    assert sum("describes no held lock" in record.getMessage() for record in caplog.records) == 1


# Refusals that are no outage ------------------------------------------------------------------------------------


async def test_a_refused_permission_is_no_outage() -> None:
    """Whoever may not write the lock's key is told so, "local" or not; the next in line is not kept waiting."""
    store = FaultyStore(MemoryStore())
    async with connected(store) as tide:
        async with tide.lock("warm"):
            pass
        store.inject("PERMISSION_DENIED", "etcdserver: permission denied", when=touches("orders", Put))
        with pytest.raises(PermissionDenied):
            async with tide.lock("orders", on_outage="local", timeout=5):
                raise AssertionError
        async with tide.lock("orders", timeout=5) as held:
            assert mode_of(held) == "distributed"


async def test_a_full_database_is_no_outage() -> None:
    """etcd takes no writes because its quota is used up: SpaceExhausted, and nothing is LOCAL."""
    store = FaultyStore(MemoryStore())
    async with connected(store) as tide:
        async with tide.lock("warm"):
            pass
        message = "etcdserver: mvcc: database space exceeded"
        store.inject("RESOURCE_EXHAUSTED", message, when=touches("orders", Put), times=100)
        with pytest.raises(SpaceExhausted):
            async with tide.lock("orders", on_outage="local", timeout=5):
                raise AssertionError


async def test_without_a_place_for_host_locks_nothing_is_local(tmp_path: Path) -> None:
    """A folder that cannot be used: locks work while etcd is there, loudly; LOCAL ones are refused."""
    (tmp_path / "file").write_text("")
    store = MemoryStore()
    async with connected_on(store, tmp_path / "file" / "below", profile="availability") as tide:
        async with tide.lock("orders") as held:
            assert mode_of(held) == "distributed"
            assert "host locks" in (tide.status().lock_error or "")
        lose_all(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        with pytest.raises(LockUnavailable, match="no place"):
            async with tide.lock("orders"):
                raise AssertionError


async def test_a_forked_child_is_refused() -> None:
    """In a child that was forked with a coordinator open, locks raise Closed and say why."""
    async with connected(MemoryStore()) as tide:
        async with tide.lock("orders"):
            read, write = os.pipe()
            child = os.fork()
            if not child:  # pragma: no cover - another process
                try:
                    tide.lock("orders")
                    await tide.lock("orders").__aenter__()
                except Closed as exc:
                    os.write(write, str(exc).encode())
                finally:
                    os._exit(0)
            os.close(write)
            os.waitpid(child, 0)
            assert b"forked" in os.read(read, 1000)
            os.close(read)


async def test_what_is_recorded(caplog: pytest.LogCaptureFixture) -> None:
    """A turn, a loss and a conflict are each one line in the log, with the lock's name."""
    store = MemoryStore()
    async with connected(store) as tide:
        with pytest.raises(LockConflict):
            async with tide.lock("orders", on_outage="local") as held:
                lose_all(store)
                await anyio.sleep_until(held.deadline + 1)
                store.revoke(next(iter(store.leases)))
                await store_put(store, b"/locks/orders/77")
                heal(store)
                await anyio.sleep(60)
    lines = [record.getMessage() for record in caplog.records if "lock." in record.getMessage()]
    assert [line.partition(": ")[0] for line in lines] == ["tideover.lock.turned", "tideover.lock.conflict"]
    assert all("'orders'" in line for line in lines)


async def store_put(store: MemoryStore, key: bytes) -> None:
    """Make a key whoever answers: as somebody on another machine does."""
    down, store.down = store.down, set()
    await store.call(Put(key, b""), member=store.members[0], timeout=1)
    store.down = down


# Closing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("away", [False, True], ids=["available", "away"])
async def test_closing_the_coordinator_ends_all_waiting(away: bool) -> None:
    """Whoever holds or waits, here, in etcd's line or for the end of an outage, is told; nobody waits for ever."""
    store = MemoryStore()
    ended: list[str] = []

    async def hold(tide: Coordinator, name: str, on_outage: str) -> None:
        try:
            async with tide.lock(name, on_outage=on_outage):  # type: ignore[arg-type]
                await anyio.sleep(1000)
        except TideoverError as exc:
            ended.append(type(exc).__name__)

    async with anyio.create_task_group() as tasks, connected(store) as other, other.lock("elsewhere", ttl=300):
        async with connected(store) as tide:
            tasks.start_soon(hold, tide, "orders", "wait")
            await anyio.sleep(0.1)
            tasks.start_soon(hold, tide, "orders", "wait")
            tasks.start_soon(hold, tide, "elsewhere", "wait")
            await anyio.sleep(0.1)
            if away:
                lose_all(store)
                await tide.health.wait_for(HealthState.UNAVAILABLE)
                tasks.start_soon(hold, tide, "third", "wait")
                tasks.start_soon(hold, tide, "fourth", "local")
                await anyio.sleep(0.1)
        with anyio.fail_after(20):
            while len(ended) < (5 if away else 3) - away:
                await anyio.sleep(0.1)
        if away:
            heal(store)
        tasks.cancel_scope.cancel()
    assert set(ended) <= {"Closed", "LockLost"}
    assert "LockLost" in ended
