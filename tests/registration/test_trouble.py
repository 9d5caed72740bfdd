"""Who is the cause of trouble does not cost the other registrations of its session more than a moment."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio
import pytest

from tests.registration.support import heal, lose_all, published
from tests.support import connected
from tideover import Coordinator, HealthState, Registered, Registration, RegistrationState
from tideover.registration.rules import SPREAD
from tideover.store.leases import LeaseKeepAlive, LeaseRevoke
from tideover.store.operations import Delete, Op, Put, Result
from tideover.store.transactions import Txn
from tideover.testing import FaultyStore, MemoryStore

pytestmark = pytest.mark.anyio

TTL = 6


class Rights:
    """What etcd 3.5.28 and later refuse to a user who may not write under a prefix.

    Args:
        memory: The cluster behind it.
    """

    def __init__(self, memory: MemoryStore) -> None:
        self.store = FaultyStore(memory)
        self.denied: bytes | None = None
        self.renewals_too = True
        self._memory = memory
        self.store.inject("PERMISSION_DENIED", "etcdserver: permission denied", times=10**9, when=self._is_denied)

    def _is_denied(self, op: Op[Result]) -> bool:
        if self.denied is None:
            return False
        leases = {op.lease} if isinstance(op, (LeaseRevoke, LeaseKeepAlive)) else set()
        if isinstance(op, LeaseKeepAlive) and not self.renewals_too:
            return False
        if isinstance(op, Txn):
            written = [step for step in (*op.then, *op.otherwise) if isinstance(step, (Put, Delete))]
            if any(step.key.startswith(self.denied) for step in written):
                return True
            leases = {step.lease for step in written if isinstance(step, Put) and step.lease}
        held = [self._memory._leases.by_id[lease].keys for lease in leases if lease in self._memory.leases]
        return any(key.startswith(self.denied) for keys in held for key in keys)


async def begin(tide: Coordinator, service: str, count: int = 1) -> list[Registered]:
    """Register some endpoints of a service, and wait until they are there."""
    found = [
        tide._parts.registrations.start(Registration(service, f"http://10.0.0.7:{8000 + n}", ttl=TTL))
        for n in range(count)
    ]
    for each in found:
        await each.wait_registered()
    return found


async def never_missing(memory: MemoryStore, count: int, seconds: float) -> None:
    """Let some time pass; but for the moment in which one key is put again, all are there."""
    until = anyio.current_time() + seconds
    while anyio.current_time() < until:
        assert sum(key.startswith(b"/services/api/") for key in memory._newest) >= count - 1
        await anyio.sleep(0.02)


async def test_one_whose_key_is_refused_does_not_cost_the_others_their_lease() -> None:
    """Of twenty registrations one may not be written any more, so that etcd renews the lease for none: the others
    are under a new one before the old one has ended, each key away for no longer than one write, and none has come
    back. The one is told as refused, and has a session of its own once it is allowed again, for good."""
    rights = Rights(memory := MemoryStore())
    async with connected(rights.store) as tide:
        (culprit,) = await begin(tide, "web")
        others = await begin(tide, "api", 19)
        (old,) = memory.leases
        rights.denied = b"/services/web/"
        await never_missing(memory, 19, 2 * TTL)
        assert old not in memory.leases
        assert all(each.registered and each.status.comebacks == 0 for each in others)
        assert culprit.status.state is RegistrationState.REFUSED
        assert "permission denied" in (culprit.status.error or "").lower()
        assert published(memory, "web") == []
        rights.denied = None
        await culprit.wait_registered()
        assert len(memory.leases) == 2
        rights.denied = b"/services/web/"
        leases = memory.leases
        await never_missing(memory, 19, 2 * TTL)
        assert len(leases & memory.leases) == 1, "the others have stayed where they were"
        assert culprit.status.state is RegistrationState.REFUSED
    assert not memory.leases


async def test_who_moves_is_not_told_that_its_key_was_deleted(caplog: pytest.LogCaptureFixture) -> None:
    """The others move while etcd is slow, so that somebody looks between the delete and the put: no line says that
    a key is gone, because nobody has taken it away."""
    caplog.set_level(logging.WARNING, "tideover")
    rights = Rights(memory := MemoryStore())
    async with connected(rights.store) as tide:
        await begin(tide, "web")
        others = await begin(tide, "api", 9)
        memory.delay = 0.15
        rights.denied = b"/services/web/"
        await anyio.sleep(2 * TTL)
        assert all(each.registered and each.status.comebacks == 0 for each in others)
        assert not [record.message for record in caplog.records if "gone" in record.message]


async def test_a_change_refused_for_anothers_key_is_no_refusal() -> None:
    """Where nothing may be written under a lease because of another registration's key, etcd's no does not count
    for one whose own key may be: it is never shown as refused, and its change is there within 5 s."""
    rights = Rights(MemoryStore())
    async with connected(rights.store) as tide:
        (culprit,) = await begin(tide, "web")
        one, other = await begin(tide, "api", 2)
        rights.denied, rights.renewals_too = b"/services/web/", False
        assert await one.update(weight=0) is False
        assert one.status.state is RegistrationState.REGISTERED
        await anyio.sleep(3)
        assert one._publisher.is_current
        assert other.registered
        assert culprit.status.state is RegistrationState.REFUSED


async def test_a_key_that_cannot_be_deleted_does_not_cost_the_others_their_lease(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One ends that may not be written any more: as long as its key is there the lease counts as renewed for none,
    so the others leave it, and its key is gone when the log has said."""
    caplog.set_level(logging.WARNING, "tideover")
    rights = Rights(memory := MemoryStore())
    async with connected(rights.store) as tide:
        (culprit,) = await begin(tide, "web")
        others = await begin(tide, "api", 9)
        rights.denied, rights.renewals_too = b"/services/web/", False
        await culprit.deregister()
        assert published(memory, "web")
        (line,) = [record.message for record in caplog.records if "given up" in record.message]
        assert "not deregistered (" in line
        assert "permission denied" in line.lower()
        within = float(line.partition("in etcd for ")[2].partition(" s at the most")[0])
        await never_missing(memory, 9, within)
        assert published(memory, "web") == []
        assert all(each.registered and each.status.comebacks == 0 for each in others)


async def test_where_all_are_refused_nobody_is_kept_from_anybody() -> None:
    """A user who may write nothing any more: all are refused, and back under one lease when that is over."""
    rights = Rights(memory := MemoryStore())
    async with connected(rights.store) as tide:
        found = await begin(tide, "api", 5)
        rights.denied = b"/services/"
        await anyio.sleep(3 * TTL)
        assert all(each.status.state is RegistrationState.REFUSED for each in found)
        rights.denied = None
        await anyio.sleep(6)
        assert all(each.registered for each in found)
        assert len(memory.leases) == 1


@pytest.mark.parametrize("ends", [1, 4])
async def test_given_up_while_etcd_was_away(ends: int) -> None:
    """Registrations that end in an outage, some or all of a session: once etcd is back their keys go, at the
    latest with the lease, and the others stay, under the lease that they had."""
    memory = MemoryStore()
    async with connected(memory) as tide:
        found = await begin(tide, "api", 4)
        (lease,) = memory.leases
        lose_all(memory)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        for each in found[:ends]:
            await each.deregister()
        await anyio.sleep(60)
        heal(memory)
        await anyio.sleep(TTL + 2)
        assert len(published(memory)) == 4 - ends
        assert all(each.registered and each.status.comebacks == 0 for each in found[ends:])
        assert memory.leases == ({lease} if ends < 4 else set())


async def test_a_lost_session_costs_all_of_them_a_moment() -> None:
    """The shared lease is taken away: all are back within the spread, under one new lease, once each."""
    memory = MemoryStore()
    async with connected(memory) as tide:
        found = await begin(tide, "api", 20)
        memory.revoke(*memory.leases)
        await anyio.sleep(SPREAD + 0.5)
        assert len(published(memory)) == 20
        assert [each.status.comebacks for each in found] == [1] * 20
        assert len(memory.leases) == 1


async def test_no_lease_is_asked_for_by_each() -> None:
    """Where no lease is to be had, twenty registrations ask for one together, and each knows why there is none."""
    memory = MemoryStore()
    memory.alarms = {"NOSPACE"}
    store = FaultyStore(memory)
    async with connected(store) as tide:
        found = [
            tide._parts.registrations.start(Registration("api", f"http://10.0.0.7:{8000 + n}", ttl=TTL))
            for n in range(20)
        ]
        await anyio.sleep(0.1)
        assert {each.status.state for each in found} == {RegistrationState.REFUSED}
        assert len({each.status.error for each in found}) == 1
        memory.alarms = set()
        await anyio.sleep(6)
        assert all(each.registered for each in found)
        assert len(memory.leases) == 1


def left_by(memory: MemoryStore, marked: list[bytes]) -> Callable[[Op[Result]], bool]:
    """Note which keys are marked as leaving; no fault strikes."""

    def look(op: Op[Result]) -> bool:
        if isinstance(op, Txn):
            marked.extend(step.key for step in op.then if isinstance(step, Put) and b'"leaving"' in step.value)
        return False

    return look


async def test_many_leave_in_common() -> None:
    """Two hundred registrations end with the coordinator: all are marked as leaving, many in each transaction, and
    one call takes them away; no transaction has more than etcd's 128 operations."""
    store = FaultyStore(memory := MemoryStore())
    marked: list[bytes] = []
    portions: list[int] = []
    look = left_by(memory, marked)

    def count(op: Op[Result]) -> bool:
        before = len(marked)
        look(op)
        if len(marked) > before:
            assert isinstance(op, Txn)
            assert max(len(op.compares), len(op.then)) <= 128
            portions.append(len(marked) - before)
        return False

    async with connected(store) as tide:
        await begin(tide, "api", 200)
        store.inject("UNAVAILABLE", when=count)
        began = anyio.current_time()
    assert anyio.current_time() - began < 0.1
    assert len(set(marked)) == len(marked) == 200
    assert len(portions) <= 4
    assert published(memory) == []
    assert not memory.leases


async def test_at_rest_a_registration_has_no_task() -> None:
    """Thirty registrations at rest need as many tasks as one, but for what watches their keys."""
    counts = []
    for count in (1, 30):
        memory = MemoryStore()
        async with connected(memory) as tide:
            await begin(tide, "api", count)
            await anyio.sleep(5)
            watching = sum("KeyWatch" in str(task.name) or "doubt" in str(task.name) for task in _tasks())
            counts.append(len(_tasks()) - watching)
    assert counts[0] == counts[1]


def _tasks() -> list[anyio.TaskInfo]:
    return anyio.get_running_tasks()


class Searched(Rights):
    """Such a cluster, which is away as soon as somebody asks which keys may be written."""

    searches = 0

    def _is_denied(self, op: Op[Result]) -> bool:
        if isinstance(op, Txn) and len({compare.key for compare in op.compares}) < len(op.compares):
            self.searches += 1
            if self.searches == 1:
                lose_all(self._memory)
        return super()._is_denied(op) and not self._memory.down


async def test_a_search_for_the_culprit_that_an_outage_interrupts() -> None:
    """Etcd is away for half a minute as soon as the culprit among twenty is searched: afterwards it is found, the
    others are there, and none of them was ever told that it may not be written."""
    rights = Searched(memory := MemoryStore())
    async with connected(rights.store) as tide:
        (culprit,) = await begin(tide, "web")
        others = await begin(tide, "api", 19)
        rights.denied = b"/services/web/"
        with anyio.fail_after(3 * TTL):
            while not rights.searches:
                await anyio.sleep(0.05)
        await anyio.sleep(30)
        assert tide.health.state is HealthState.UNAVAILABLE
        assert all(each.status.state is not RegistrationState.REFUSED for each in others)
        heal(memory)
        with anyio.fail_after(SPREAD + 3 * TTL):
            while not (
                culprit.status.state is RegistrationState.REFUSED and all(each.registered for each in others)
            ):
                assert all(each.status.state is not RegistrationState.REFUSED for each in others)
                await anyio.sleep(0.05)
        assert rights.searches > 1
        assert len(published(memory)) == 19


async def test_a_thousand_end_in_a_declared_outage() -> None:
    """A thousand registrations end with their coordinator while no member answers: within what closing has, and
    after the outage their keys go with the one lease that they share."""
    memory = MemoryStore()
    async with connected(memory) as tide:
        await begin(tide, "api", 1000)
        (lease,) = memory.leases
        lose_all(memory)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        began = anyio.current_time()
    assert anyio.current_time() - began <= 5
    heal(memory)
    assert memory.leases <= {lease}
    await anyio.sleep(TTL + 1)
    assert published(memory) == []
