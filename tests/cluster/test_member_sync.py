"""The members of a cluster in memory: who is learned, who is not, and what that does to health."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import anyio
import pytest

from tests.support import connected, mock_clock
from tideover.coordinator.coordinator import Coordinator
from tideover.options import Options
from tideover.store.operations import MemberList, Range
from tideover.testing import FaultyStore, MemoryStore
from tideover.types import ClusterMember, Diagnosis, HealthState

pytestmark = pytest.mark.anyio

FIRST, SECOND, THIRD = "memory-1:2379", "memory-2:2379", "memory-3:2379"


def advertise(store: MemoryStore, *urls: str) -> None:
    """Let all members but the first advertise these URLs."""
    first, *others = store.listed
    store.listed = (first, *(replace(member, client_urls=urls) for member in others))


def members(tide: Coordinator) -> dict[str, tuple[str, bool | None]]:
    """Return endpoint to origin and whether it answers."""
    return {m.endpoint: (m.origin, m.answers) for m in tide.status().members}


async def test_members_that_answer_join() -> None:
    """Told of one, a client has all three within 2 s, and goes on using the one it was told of."""
    store = MemoryStore(given=1)
    async with connected(store) as tide:
        await anyio.sleep(2)
        assert members(tide) == {FIRST: ("given", True), SECOND: ("learned", True), THIRD: ("learned", True)}
        assert {(m.name, m.id) for m in tide.status().members[1:]} == {("memory-2", "2"), ("memory-3", "3")}
        await anyio.sleep(600)
        assert tide._parts.client.state.active == FIRST


async def test_the_only_member_told_of_dies() -> None:
    """It dies: another one is in use, no state change, and a fetch is answered by the quorum at once."""
    store = MemoryStore(given=1)
    async with connected(store) as tide:
        await tide.config.put("a", "1")
        await anyio.sleep(60)
        store.down = {FIRST}
        store.touch()
        began = anyio.current_time()
        assert (await tide.config.fetch("a")).source == "quorum"
        assert anyio.current_time() - began < 0.2
        assert tide.health.state is HealthState.AVAILABLE


async def test_a_frozen_member_costs_a_read_less_than_a_second() -> None:
    """The member in use freezes: each fetch, begun before or after it is noticed, takes under 0.8 s."""
    store = MemoryStore()
    async with connected(store) as tide:
        await tide.config.put("a", "1")
        await anyio.sleep(60)
        store.frozen = {tide._parts.client.state.active}
        slowest = 0.0

        async def fetch() -> None:
            nonlocal slowest
            began = anyio.current_time()
            assert (await tide.config.fetch("a")).source == "quorum"
            slowest = max(slowest, anyio.current_time() - began)

        async with anyio.create_task_group() as tasks:
            for _ in range(40):
                tasks.start_soon(fetch)
                await anyio.sleep(0.03)
        assert 0.5 <= slowest < 0.8


@pytest.mark.parametrize("how", ["down", "frozen"])
@pytest.mark.parametrize(("seconds", "size"), [(3, 1), (20, 1), (600, 1), (3, 3), (20, 3), (600, 3)])
async def test_a_member_is_back_within_two_seconds(how: str, seconds: float, size: int) -> None:
    """However long it was away, and be it the only one: it is known to answer within 2 s of its return."""
    store = MemoryStore(size)
    async with connected(store) as tide:
        await anyio.sleep(10)
        away = tide._parts.client.state.active
        setattr(store, how, {away})
        store.touch()
        await anyio.sleep(seconds + 4)
        assert members(tide)[away] == ("given", False)
        setattr(store, how, set())
        store.touch()
        with anyio.fail_after(2):
            while members(tide)[away][1] is not True:
                await tide._parts.client.state.changed.wait()
            await tide.health.wait_for(HealthState.AVAILABLE)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://nowhere:2379", "failed to connect to all addresses"),
        ("http://0.0.0.0:2379", "names no host"),
        ("http://[::]:2379", "names no host"),
        ("http://localhost:2379", "the member's own machine"),
        ("http://127.0.0.1:2379", "the member's own machine"),
        ("https://memory-2:2379", "with TLS, unlike this client"),
        ("unix://socket:1", "not an address in a network"),
        ("http://elsewhere:2379", "another member answers"),
        ("http://foreign:2379", "another member answers"),
        ("nonsense", "not an address in a network"),
        ("", "has not been started"),
    ],
)
async def test_addresses_of_no_use_change_nothing(url: str, says: str) -> None:
    """Advertised addresses that lead nowhere or to others are reported; health and calls are as without them."""
    store = MemoryStore(given=1)
    advertise(store, *([url] if url else []))
    store.strangers = {"foreign:2379": 1234, "elsewhere:2379": store.cluster_id}
    async with connected(store) as tide:
        await tide.config.put("a", "1")
        await anyio.sleep(120)
        assert tide.health.state is HealthState.AVAILABLE
        assert tide.health.seconds >= 120
        assert tide._parts.client.state.members == (FIRST,)
        assert store.members == (FIRST,)
        unused = [m for m in tide.status().members if m.origin == "learned"]
        assert [m.name for m in unused] == ["memory-2", "memory-3"]
        assert all(says in (m.error or "") and m.answers is None for m in unused)
        store.calls.clear()
        await anyio.sleep(600)
        assert {member for member, _ in store.calls} == {FIRST}
        assert 8 <= len([op for _, op in store.calls if isinstance(op, MemberList)]) <= 13


@pytest.mark.parametrize("reachable", [True, False])
@pytest.mark.parametrize("sync", [True, False])
async def test_one_of_three_declares_a_lost_quorum_as_fast(reachable: bool, sync: bool) -> None:
    """A client that knows one endpoint of three has the list's word for it: DEGRADED 3 s after the first sign."""
    store = MemoryStore(given=1)
    if not reachable:
        advertise(store, "http://nowhere:2379")
    async with connected(store, sync_members=sync) as tide:
        await anyio.sleep(60)
        store.down = {SECOND, THIRD}
        store.touch()
        began = anyio.current_time()
        await tide.health.wait_for(HealthState.DEGRADED, timeout=9)
        assert anyio.current_time() - began < 4.5
        assert tide.health.diagnosis is Diagnosis.QUORUM_LOST


async def test_a_member_is_not_counted_twice() -> None:
    """One member given under two names, two others dead: a lost quorum, not two members electing a leader."""
    store = MemoryStore(given=1)
    store.aliases = {"twin:2379": FIRST}
    store._members += ("twin:2379",)
    async with connected(store) as tide:
        await anyio.sleep(60)
        assert {m.name for m in tide.status().members} == {"memory-1", "memory-2", "memory-3"}
        store.down = {SECOND, THIRD}
        store.touch()
        await tide.health.wait_for(HealthState.DEGRADED, timeout=4.5)


async def test_a_given_name_is_preferred_to_the_advertised_address() -> None:
    """A member reached by another name than it advertises is not connected to, nor asked, a second time."""
    store = MemoryStore(given=1)
    store.aliases = {f"10.0.0.{n}:2379": f"memory-{n}:2379" for n in (1, 2, 3)}
    store.listed = tuple(replace(m, client_urls=(f"http://10.0.0.{m.id}:2379",)) for m in store.listed)
    async with connected(store) as tide:
        await anyio.sleep(120)
        assert set(tide._parts.client.state.members) == {FIRST, "10.0.0.2:2379", "10.0.0.3:2379"}
        assert set(store.members) == set(tide._parts.client.state.members)


async def test_a_given_endpoint_that_comes_back_replaces_the_advertised_one() -> None:
    """While the given address does not answer, the advertised one serves; once it does, the other is given up."""
    store = MemoryStore(given=2)
    store.aliases = {"10.0.0.2:2379": SECOND, "second:2379": "nobody"}
    store._members = (FIRST, "second:2379")
    store.down = {"nobody"}
    advertise(store, "http://10.0.0.2:2379")
    store.listed = store.listed[:2]
    async with connected(store) as tide:
        await anyio.sleep(120)
        assert members(tide)["10.0.0.2:2379"] == ("learned", True)
        store.aliases["second:2379"] = SECOND
        store.touch()
        await anyio.sleep(120)
        assert members(tide) == {FIRST: ("given", True), "second:2379": ("given", True)}


async def test_who_leaves_the_cluster_is_given_up() -> None:
    """A learned member that is removed from the list is closed within 75 s, and a new one joins."""
    store = MemoryStore(4, given=1)
    everybody = store.listed
    store.listed = everybody[:3]
    async with connected(store) as tide:
        await anyio.sleep(5)
        store.down = {FIRST}
        store.touch()
        await anyio.sleep(5)
        used = tide._parts.client.state.active
        assert used != FIRST
        store.listed = (everybody[0], everybody[3], *(m for m in everybody if f"{m.name}:2379" == used))
        await anyio.sleep(75)
        assert set(store.members) == {FIRST, used, "memory-4:2379"}
        assert tide._parts.client.state.active == used
        assert tide.health.state is HealthState.AVAILABLE
        await tide.config.put("a", "1")
        assert tide.config.read("a").source == "live"


async def test_a_stranger_at_a_learned_address_is_left() -> None:
    """A learned address that was given to another cluster's member is dropped; nothing is read from there."""
    store = MemoryStore(given=1)
    async with connected(store) as tide:
        await tide.config.put("a", "1")
        await anyio.sleep(10)
        store.strangers = {SECOND: 1234, THIRD: 1234}
        store.down = {FIRST}
        store.touch()
        await anyio.sleep(2)
        assert tide._parts.client.state.members == (FIRST,)
        assert tide._parts.client.state.proof
        assert (
            tide._parts.client.state.proof.header.cluster_id
            == tide._parts.client.state.roll.cluster_id
            == store.cluster_id
        )
        assert tide.config.get("a") == "1"
        assert tide.status().config[0].resets == 0
        assert (tide.status().identity.foreign, "another cluster" in tide.status().sentence) == ((), False)
        store.down = set()
        store.touch()
        await anyio.sleep(3)
        assert tide.health.state is HealthState.AVAILABLE
        assert store.members == (FIRST,)


async def test_a_stranger_among_the_endpoints_is_not_called_well() -> None:
    """It answers whoever asks which member it is; that is no reason to send anything there."""
    store = MemoryStore()
    store.strangers = {THIRD: 1234}
    async with connected(store) as tide:
        await anyio.sleep(2)
        for _ in range(20):
            tide._parts.client.state.breakers.suspect()
            await anyio.sleep(30)
            assert members(tide)[THIRD] == ("given", False)
        assert tide.status().identity.foreign == (THIRD,)


class Renewing(MemoryStore):
    """Counts the connections that were given up."""

    renewed = 0

    def renew(self, member: str) -> None:
        """Count it."""
        self.renewed += 1


async def test_a_stranger_among_the_endpoints_is_asked_seldom() -> None:
    """It is not away: in an hour it is connected to and asked every half minute at the most."""
    store = Renewing()
    store.strangers = {THIRD: 1234}
    async with connected(store) as tide:
        await anyio.sleep(60)
        store.calls.clear()
        store.renewed = 0
        await anyio.sleep(3600)
        assert 60 < sum(member == THIRD and isinstance(op, Range) for member, op in store.calls) <= 120
        assert store.renewed <= 120
        # And when it is one of ours it is used again.
        store.strangers = {}
        await anyio.sleep(32)
        assert members(tide)[THIRD] == ("given", True)


@pytest.mark.parametrize(
    "listed",
    [
        (),
        (ClusterMember(0, "proxy", ("http://memory-2:2379",)),),
        (ClusterMember(2, "memory-2", ("http://memory-2:2379",)),),
    ],
)
async def test_a_list_without_the_one_who_says_it_is_not_believed(listed: tuple[ClusterMember, ...]) -> None:
    """A proxy may list itself: a list without the member that answered changes nothing."""
    store = MemoryStore(given=1)
    store.listed = listed
    async with connected(store) as tide:
        await anyio.sleep(600)
        assert [m.endpoint for m in tide.status().members] == [FIRST]
        assert tide.health.state is HealthState.AVAILABLE
        assert len([op for _, op in store.calls if isinstance(op, MemberList)]) <= 13


async def test_a_refused_list_changes_nothing() -> None:
    """Where the list is denied, the client goes on with what it was told, and AVAILABLE."""
    store = FaultyStore(MemoryStore(given=1))
    store.inject("PERMISSION_DENIED", "etcdserver: permission denied", op=MemberList, times=1000)
    async with connected(store) as tide:
        await anyio.sleep(300)
        assert [m.endpoint for m in tide.status().members] == [FIRST]
        assert tide.health.state is HealthState.AVAILABLE
        assert tide.status().restarts == 0


async def test_learners_are_neither_used_nor_counted() -> None:
    """A learner on the list does not join, and of one voter and one learner the voter alone is the quorum."""
    store = MemoryStore(2, given=1)
    store.listed = (store.listed[0], replace(store.listed[1], learner=True))
    async with connected(store) as tide:
        await anyio.sleep(60)
        assert [m.endpoint for m in tide.status().members] == [FIRST]
        assert tide._parts.client.state.roll.size == 1


async def test_a_rebuilt_cluster_is_learned_anew() -> None:
    """When another cluster answers at the given endpoint, the former one's members are forgotten."""
    store = MemoryStore(given=1)
    async with connected(store) as tide:
        await anyio.sleep(10)
        store.cluster_id = 88
        store.listed = tuple(replace(m, id=m.id) for m in store.listed[:1])
        await anyio.sleep(30)
        assert [m.endpoint for m in tide.status().members] == [FIRST]
        assert tide._parts.client.state.roll.cluster_id == 88
        assert tide._parts.client.state.roll.size == 1


# Names ---------------------------------------------------------------------------------------------------------


class Zone:
    """A name server."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: Sequence[str] = addresses
        self.delay = 0.0
        self.asked: list[float] = []

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(anyio.current_time())
        await anyio.sleep(self.delay)
        if not self.addresses:
            raise OSError("no such host")
        return self.addresses


def named(store: MemoryStore, zone: Zone) -> Coordinator:
    """Return a coordinator that is told of one name."""
    store.aliases = {"etcd:2379": FIRST} | {f"10.0.0.{n}:2379": f"memory-{n}:2379" for n in range(1, 5)}
    store._members = ("etcd:2379",)
    options = Options(endpoints=("etcd:2379",), cache_dir=False, sync_members=False)
    chance = random.Random(7).random
    return Coordinator(options, store=store, clock=mock_clock(), chance=chance, resolver=zone.resolve)


async def test_each_address_of_a_name_is_a_member() -> None:
    """A name with three addresses becomes three members, and the loss of the one in use is nothing."""
    store, zone = MemoryStore(), Zone("10.0.0.1", "10.0.0.2", "10.0.0.3")
    async with named(store, zone) as tide:
        await tide.config.put("a", "1")
        await anyio.sleep(65)
        assert members(tide) == {f"10.0.0.{n}:2379": ("given", True) for n in (1, 2, 3)}
        store.down = {store.aliases[tide._parts.client.state.active]}
        store.touch()
        assert (await tide.config.fetch("a")).source == "quorum"
        assert tide.health.state is HealthState.AVAILABLE


async def test_addresses_come_and_go() -> None:
    """A member that moves is found at its new address; the old one is given up, but not before it is silent."""
    store, zone = MemoryStore(4), Zone("10.0.0.1", "10.0.0.2", "10.0.0.3")
    async with named(store, zone) as tide:
        await anyio.sleep(65)
        zone.addresses = ("10.0.0.1", "10.0.0.2", "10.0.0.4")
        await anyio.sleep(65)
        assert set(members(tide)) == {f"10.0.0.{n}:2379" for n in (1, 2, 3, 4)}
        store.down = {THIRD}
        store.touch()
        await anyio.sleep(8)
        assert set(members(tide)) == {f"10.0.0.{n}:2379" for n in (1, 2, 4)}


async def test_an_address_that_is_told_of_before_anybody_answers_there() -> None:
    """A member moves, and its name with it before it serves there: it joins within 6 s of serving, not of 60."""
    store, zone = MemoryStore(4), Zone("10.0.0.1", "10.0.0.2", "10.0.0.3")
    async with named(store, zone) as tide:
        await anyio.sleep(65)
        store.down = {THIRD, "memory-4:2379"}
        zone.addresses = ("10.0.0.1", "10.0.0.2", "10.0.0.4")
        store.touch()
        await anyio.sleep(20)
        assert set(members(tide)) == {f"10.0.0.{n}:2379" for n in (1, 2)}
        store.down = {THIRD}
        store.touch()
        await anyio.sleep(6.1)
        assert set(members(tide)) == {f"10.0.0.{n}:2379" for n in (1, 2, 4)}


async def test_names_are_looked_up_in_an_outage() -> None:
    """All members move while none answers: the new addresses are in use within 5 s, and asked for every 2 s."""
    store, zone = MemoryStore(4), Zone("10.0.0.1", "10.0.0.2")
    async with named(store, zone) as tide:
        await anyio.sleep(65)
        store.down = {FIRST, SECOND}
        store.touch()
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        began = anyio.current_time()
        await anyio.sleep(600)
        assert 600 / 3.2 <= len([at for at in zone.asked if at > began]) <= 600 / 2 + 1
        store.down = {FIRST}
        store.aliases["10.0.0.3:2379"] = SECOND
        store.aliases["10.0.0.2:2379"] = FIRST
        zone.addresses = ("10.0.0.3", "10.0.0.4")
        await tide.health.wait_for(HealthState.AVAILABLE, timeout=5)


@pytest.mark.parametrize("delay", [0.0, 3600.0])
async def test_a_silent_name_server_changes_nothing(delay: float) -> None:
    """A name that is looked up in vain, or for an hour, stays the member that it is."""
    store, zone = MemoryStore(1), Zone()
    zone.delay = delay
    async with named(store, zone) as tide:
        await anyio.sleep(300)
        assert members(tide) == {"etcd:2379": ("given", True)}
        assert tide.status().restarts == 0
