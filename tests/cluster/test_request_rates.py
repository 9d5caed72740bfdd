"""How much an idle process asks of etcd while its members refuse, in whatever way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import anyio
import pytest

from tests.counting import CountingStore
from tests.support import connected
from tideover.coordinator.coordinator import Coordinator
from tideover.errors import AuthenticationFailed, LeadershipLost
from tideover.store.operations import Put, Range
from tideover.testing import MemoryStore
from tideover.types import Diagnosis, HealthState

pytestmark = pytest.mark.anyio

UNAUTHENTICATED = ("INVALID_ARGUMENT", "etcdserver: authentication failed, invalid user ID or password")
DENIED = ("PERMISSION_DENIED", "etcdserver: permission denied")

State = Callable[[CountingStore, MemoryStore, str], None]


def refused(store: CountingStore, memory: MemoryStore, active: str) -> None:
    """All members refuse connections."""
    memory.down = set(memory.members)


def silent(store: CountingStore, memory: MemoryStore, active: str) -> None:
    """All members accept connections and say nothing."""
    memory.frozen = set(memory.members)


def leaderless(store: CountingStore, memory: MemoryStore, active: str) -> None:
    """All members are there and elect nobody."""
    memory.electing = True


def survivor(store: CountingStore, memory: MemoryStore, active: str) -> None:
    """The member in use is left alone."""
    memory.down = {member for member in memory.members if member != active}


def one_speaks(store: CountingStore, memory: MemoryStore, active: str) -> None:
    """Of three members two are silent."""
    memory.frozen = {member for member in memory.members if member != active}


def one_refuses(store: CountingStore, memory: MemoryStore, active: str) -> None:
    """Of three members one refuses connections: the one in use."""
    memory.down = {active}


def unauthenticated(store: CountingStore, memory: MemoryStore, active: str) -> None:
    """A quorum refuses the password."""
    store.refuse = lambda key, member: UNAUTHENTICATED


def denied(store: CountingStore, memory: MemoryStore, active: str) -> None:
    """The user may do nothing any more."""
    store.refuse = lambda key, member: DENIED


def prefixes_denied(store: CountingStore, memory: MemoryStore, active: str) -> None:
    """What is followed may not be read."""
    store.refuse = lambda key, member: DENIED if key is not None and key.startswith(b"/config/p") else None


def each_another(store: CountingStore, memory: MemoryStore, active: str) -> None:
    """One member refuses connections, one is silent, one refuses the password."""
    first, second, third = memory.members
    memory.down, memory.frozen = {first}, {second}
    store.refuse = lambda key, member: UNAUTHENTICATED if member == third else None


STATES: list[State] = [
    refused,
    silent,
    leaderless,
    survivor,
    one_speaks,
    one_refuses,
    unauthenticated,
    denied,
    prefixes_denied,
    each_another,
]


@pytest.mark.parametrize("start", [False, True], ids=["running", "from the start"])
@pytest.mark.parametrize(("prefixes", "services"), [(2, 0), (10, 3)])
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
async def test_an_idle_process_asks_little_whatever_is_wrong(
    state: State, prefixes: int, services: int, start: bool
) -> None:
    """At most five requests a second over any 10 s, however much is followed, once 8 s have told all there is.

    Those cost seven a second, and for each prefix or service two: what was asked as it began, and what a survivor
    has.
    """
    memory = MemoryStore()
    store = CountingStore(memory)
    follow = tuple(f"p{number}/" for number in range(prefixes))
    if start:
        state(store, memory, memory.members[0])
    async with connected(store, follow=follow, username="app", password="secret") as tide:
        for number in range(services):
            tide.discover(f"service-{number}")
        if not start:
            await anyio.sleep(61)
            state(store, memory, tide._parts.client.state.active)
            memory.touch()
        began = anyio.current_time()
        await anyio.sleep(60)
    assert store.most(began + 8, began + 60, 10) <= 5
    first = [at for at in store.requests if began <= at < began + 8]
    # With a member left that has a quorum all begin again there: a history, a past, a version and a watch each.
    each = 5 if state is one_refuses else 2
    assert len(first) <= 8 * 7 + each * (prefixes + services)


@pytest.mark.parametrize(("leases", "leaderships"), [(1, 0), (3, 0), (0, 3), (3, 3)])
@pytest.mark.parametrize("state", [refused, silent, leaderless, unauthenticated])
async def test_what_is_held_adds_little(state: State, leases: int, leaderships: int) -> None:
    """With leases and leaderships to renew, and keys to watch, it is still at most five a second, over any 10 s.

    So it is when the leaderships have been lost, and those who led stand again.
    """
    memory = MemoryStore()
    store = CountingStore(memory)
    async with connected(store, username="app", password="secret") as tide:
        async with anyio.create_task_group() as tasks:
            for number in range(leases):
                tasks.start_soon(_register, tide, f"shop-{number}")
            for number in range(leaderships):
                tasks.start_soon(_lead, tide, f"job-{number}")
            await anyio.sleep(61)
            state(store, memory, tide._parts.client.state.active)
            memory.touch()
            began = anyio.current_time()
            await anyio.sleep(90)
            tasks.cancel_scope.cancel()
    assert store.most(began + 8, began + 90, 10) <= 5


@pytest.mark.parametrize("leases", [1, 3])
async def test_a_denied_lease_adds_little(leases: int) -> None:
    """A lease whose renewals nobody may prove any more is tried ever more seldom, and at one member."""
    memory = MemoryStore()
    store = CountingStore(memory)
    async with connected(store, username="app", password="secret") as tide:
        async with anyio.create_task_group() as tasks:
            for number in range(leases):
                tasks.start_soon(_register, tide, f"shop-{number}")
            await anyio.sleep(61)
            denied(store, memory, tide._parts.client.state.active)
            began = anyio.current_time()
            await anyio.sleep(90)
            tasks.cancel_scope.cancel()
    assert store.most(began + 8, began + 90, 10) <= 5


async def _register(tide: Coordinator, name: str) -> None:
    async with tide.register(name, "http://10.0.0.1:80"):
        await anyio.sleep_forever()


async def _lead(tide: Coordinator, name: str) -> None:
    while True:
        with suppress(LeadershipLost, AuthenticationFailed):
            async with tide.leader(name, ttl=15):
                await anyio.sleep_forever()
        await anyio.sleep(10)


@pytest.mark.parametrize("state", [refused, silent, leaderless, survivor, unauthenticated, each_another])
async def test_asking_little_costs_no_time_at_the_end(state: State) -> None:
    """After ten minutes of it the state is AVAILABLE within 2 s of the end, the content live within one more."""
    memory = MemoryStore()
    store = CountingStore(memory)
    async with connected(store, username="app", password="secret") as tide:
        await tide.config.put("a", "1")
        state(store, memory, tide._parts.client.state.active)
        memory.touch()
        for end in (600.0, 600.3, 600.6):
            await anyio.sleep(end)
            assert tide.health.state is not HealthState.AVAILABLE
            memory.down, memory.frozen, memory.electing = set(), set(), False
            refuse, store.refuse = store.refuse, lambda key, member: None
            memory.touch()
            await tide.health.wait_for(HealthState.AVAILABLE, timeout=2)
            await anyio.sleep(1)
            assert tide.config.read("a").source == "live"
            store.refuse = refuse
            state(store, memory, tide._parts.client.state.active)
            memory.touch()


async def test_a_survivor_that_has_nothing_new_is_not_read_again() -> None:
    """What a survivor has is read once, and stays labelled as its; when it learns more that is read."""
    memory = MemoryStore()
    store = CountingStore(memory)
    async with connected(store) as tide:
        await tide.config.put("a", "1")
        survivor(store, memory, tide._parts.client.state.active)
        memory.touch()
        await tide.health.wait_for(HealthState.DEGRADED, timeout=8)
        await anyio.sleep(20)
        memory.calls.clear()
        for _ in range(60):
            await anyio.sleep(1)
            assert tide.config.read("a").source == "member"
        # The probes ask for one key.
        assert [op for _, op in memory.calls if isinstance(op, Range) and op.limit != 1] == []
        assert tide.health.diagnosis is Diagnosis.QUORUM_LOST
        # What it had not applied by then.
        memory.electing, memory.down = False, set()
        await memory.call(Put(b"/config/a", b"2"), member=memory.members[0], timeout=1)
        survivor(store, memory, tide._parts.client.state.active)
        await anyio.sleep(9)
        assert tide.config.get("a") == "2"
