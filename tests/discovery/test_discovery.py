"""`tide.discover` on a cluster in memory: what it lists and picks, with etcd and without it."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from tests.support import connected, mock_clock, request
from tideover import (
    Closed,
    EndpointsUnknown,
    NoEndpoints,
    NotFollowed,
    PermissionDenied,
    ServiceView,
    TooStale,
    Unavailable,
    discover,
)
from tideover.coordinator.coordinator import Coordinator
from tideover.coordinator.rules.sentence import _describe_service
from tideover.discovery.discovery import MOST_SERVICES
from tideover.discovery.endpoint import Endpoint
from tideover.options import Options
from tideover.store.operations import Delete, Put, Range
from tideover.testing import FaultyStore, MemoryStore
from tideover.types import HealthState, Source

pytestmark = pytest.mark.anyio

SERVICE = "billing"


def endpoint(n: int, *, weight: float = 1.0, incarnation: str = "one") -> Endpoint:
    """Return the endpoint of instance number `n`."""
    return Endpoint(f"http://10.0.0.{n}:80", weight, {}, f"i{n:03}", incarnation, SERVICE)


async def publish(store: MemoryStore, *endpoints: Endpoint) -> None:
    """Put endpoints into etcd, as other processes would."""
    for each in endpoints:
        await store.call(Put(f"/{each.key}".encode(), each.encode()), member=well(store), timeout=1)


async def withdraw(store: MemoryStore, *endpoints: Endpoint) -> None:
    """Take endpoints away, as when their leases end."""
    for each in endpoints:
        await store.call(Delete(f"/{each.key}".encode()), member=well(store), timeout=1)


def well(store: MemoryStore) -> str:
    """Return a member that answers."""
    return next(m for m in store.members if m not in store.down | store.frozen)


async def go_dark(store: MemoryStore, tide: Coordinator) -> None:
    """Take the whole cluster away and wait until that is declared."""
    store.down = set(store.members)
    store.touch()
    await tide.health.wait_for(HealthState.UNAVAILABLE)


async def come_back(store: MemoryStore, view: ServiceView) -> None:
    """Bring the cluster back and wait until the list is live."""
    store.down = set()
    store.touch()
    with anyio.fail_after(30):
        while view.source is not Source.LIVE:
            await anyio.sleep(0.01)


def instances(view: ServiceView) -> list[str]:
    """Return the numbers of the instances listed."""
    return [each.instance for each in view.endpoints]


FIVE = tuple(endpoint(n) for n in range(5))


# Listing -------------------------------------------------------------------------------------------------------


async def test_what_is_registered_is_listed() -> None:
    """Endpoints of the service are listed in the order of their instances, and only they; changes come at once."""
    store = MemoryStore()
    await publish(store, *reversed(FIVE), Endpoint("http://x", 1, {}, "i", "one", "billing/eu"))
    async with connected(store) as tide:
        view = tide.discover(SERVICE)
        assert await view.wait_for(5, timeout=1) == FIVE
        assert (view.source, view.stale, view.held) == (Source.LIVE, False, ())
        await publish(store, endpoint(9), endpoint(0, weight=7))
        await anyio.sleep(0.01)
        assert instances(view) == ["i000", "i001", "i002", "i003", "i004", "i009"]
        assert view.endpoints[0].weight == 7
        await withdraw(store, endpoint(9))
        await anyio.sleep(0.01)
        assert instances(view)[-1] == "i004"


async def test_the_newest_incarnation_counts() -> None:
    """Of two registrations of an instance the one created last is listed, whatever becomes of the other."""
    store = MemoryStore()
    await publish(store, endpoint(1, incarnation="zz"), endpoint(1, incarnation="aa"))
    async with connected(store) as tide:
        view = tide.discover(SERVICE)
        assert [e.incarnation for e in await view.wait_for(1, timeout=1)] == ["aa"]
        await publish(store, endpoint(1, incarnation="mm"))
        await withdraw(store, endpoint(1, incarnation="aa"), endpoint(1, incarnation="zz"))
        await anyio.sleep(0.01)
        assert [e.incarnation for e in view.endpoints] == ["mm"]
        assert view.held == ()


async def test_what_cannot_be_read_is_left_out_and_said() -> None:
    """A value of a newer format harms nothing else, and the status has it in words."""
    store = MemoryStore()
    await publish(store, *FIVE)
    await store.call(Put(b"/services/billing/x/y", b'{"needs": 99}'), member=store.members[0], timeout=1)
    await store.call(Put(b"/services/billing/\xff/y", b"{}"), member=store.members[0], timeout=1)
    async with connected(store) as tide:
        assert await tide.discover(SERVICE).wait_for(1, timeout=1) == FIVE
        (status,) = tide.status().services
        assert len(status.refused) == 2
        assert "needs format 99" in str(status.refused)


async def test_unknown_differs_from_none() -> None:
    """Never read is EndpointsUnknown, an Unavailable; known to be empty is NoEndpoints, which is none."""
    store = MemoryStore()
    async with connected(store) as tide:
        view = tide.discover(SERVICE)
        with pytest.raises(EndpointsUnknown, match="have not been read yet"):
            view.pick()
        assert await view.wait_for(0, timeout=1) == ()
        with pytest.raises(NoEndpoints, match=r"'billing' has no endpoints$") as none:
            view.pick()
        assert not isinstance(none.value, Unavailable)
        assert none.value.age < 10
        await go_dark(store, tide)
        with pytest.raises(NoEndpoints, match=r"has no endpoints, as of \d+ s ago: no etcd member answers"):
            view.pick()
        other = tide.discover("other")
        with pytest.raises(Unavailable, match="'other' are not known: no etcd member answers"):
            other.pick()
        with pytest.raises(EndpointsUnknown):
            _ = other.endpoints
        assert (other.age, other.synced, other.source, other.stale) == (math.inf, False, None, True)


async def test_weight_0_is_listed_and_never_picked() -> None:
    """A drained endpoint is in the list; when all are drained the error says so."""
    store = MemoryStore()
    await publish(store, endpoint(1, weight=0), endpoint(2))
    async with connected(store) as tide:
        view = tide.discover(SERVICE)
        await view.wait_for(2, timeout=1)
        assert {view.pick().instance for _ in range(20)} == {"i002"}
        await publish(store, endpoint(2, weight=0))
        await anyio.sleep(0.01)
        with pytest.raises(NoEndpoints, match="all 2 endpoints of 'billing' have weight 0"):
            view.pick()


# Outages -------------------------------------------------------------------------------------------------------


async def test_an_outage_freezes_the_list() -> None:
    """In ten minutes without etcd the list stays, with its source and age; each request is marked once."""
    store = MemoryStore()
    await publish(store, *FIVE)
    async with connected(store) as tide:
        view = tide.discover(SERVICE)
        await view.wait_for(5, timeout=1)
        with request() as healthy:
            view.pick()
        assert not healthy.marks
        await go_dark(store, tide)
        await anyio.sleep(600)
        with request() as record:
            assert view.pick() in FIVE
            mark = record.marks["discovery"]
            assert view.endpoints == FIVE
        assert record.marks["discovery"] is mark
        assert (mark.source, mark.reason) == (Source.MEMORY, "backend_unavailable")
        assert 600 < mark.age < 610
        assert view.stale
        assert "The 5 endpoints of 'billing' are served from memory, 10 min 3 s old." in tide.status().sentence
        for endpoints, said in ((1, "The endpoint of 'billing' is"), (0, "The empty list of 'billing' is")):
            (status,) = tide.status().services
            described = _describe_service(replace(status, endpoints=endpoints))
            assert described == f"{said} served from memory, 10 min 3 s old."


async def test_leases_that_end_after_the_outage_are_held() -> None:
    """Three of five vanish after recovery: all stay for 30 s; what has not come back by then goes within 60 s."""
    store = MemoryStore()
    await publish(store, *FIVE)
    async with connected(store) as tide:
        view = tide.discover(SERVICE)
        await view.wait_for(5, timeout=1)
        await go_dark(store, tide)
        await anyio.sleep(60)
        await come_back(store, view)
        await anyio.sleep(5)
        await withdraw(store, *FIVE[:3])
        await anyio.sleep(1)
        assert view.endpoints == FIVE
        assert view.held == FIVE[:3]
        assert "'billing' has 5 endpoints, 3 of them no longer in etcd." in tide.status().sentence
        await publish(store, FIVE[0])
        await anyio.sleep(20)
        assert view.held == FIVE[1:3]
        assert view.endpoints == FIVE
        await anyio.sleep(6)
        assert view.endpoints == (FIVE[0], *FIVE[3:])


async def test_a_rebuilt_empty_cluster_does_not_empty_the_list_at_once() -> None:
    """All keys gone after the outage: the list is full for 30 s of proof, and empty within 60 s."""
    store = MemoryStore()
    await publish(store, *FIVE)
    async with connected(store) as tide:
        view = tide.discover(SERVICE)
        await view.wait_for(5, timeout=1)
        await go_dark(store, tide)
        store.down = set()
        await withdraw(store, *FIVE)
        store.down = set(store.members)
        await anyio.sleep(60)
        await come_back(store, view)
        await anyio.sleep(29)
        assert view.endpoints == FIVE
        await anyio.sleep(31)
        assert view.endpoints == ()
        with pytest.raises(NoEndpoints):
            view.pick()


async def test_a_reset_is_held_like_an_outage() -> None:
    """Another history, without any outage: what it lacks is held for 30 s; what it has is listed at once."""
    store = MemoryStore()
    await publish(store, *FIVE)
    async with connected(store) as tide:
        view = tide.discover(SERVICE)
        await view.wait_for(5, timeout=1)
        store.rebuild({f"/{endpoint(7).key}".encode(): endpoint(7).encode()})
        with anyio.fail_after(30):
            while not view.held:
                await anyio.sleep(0.1)
        assert instances(view) == ["i000", "i001", "i002", "i003", "i004", "i007"]
        await anyio.sleep(25)
        assert len(view.endpoints) == 6
        await anyio.sleep(36)
        assert instances(view) == ["i007"]


async def test_a_survivor_can_add_but_not_remove() -> None:
    """Without a quorum a surviving member's list adds endpoints; what it lacks stays."""
    store = MemoryStore()
    await publish(store, *FIVE)
    async with connected(store) as tide:
        view = tide.discover(SERVICE)
        await view.wait_for(5, timeout=1)
        store.frozen = set(store.members)
        store.touch()
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        store.frozen = set()
        await withdraw(store, FIVE[0])
        await publish(store, endpoint(8))
        store.down = set(store.members[1:])
        store.touch()
        await tide.health.wait_for(HealthState.DEGRADED)
        await anyio.sleep(10)
        assert view.source is Source.MEMBER
        assert instances(view) == ["i000", "i001", "i002", "i003", "i004", "i008"]


async def test_scale_down_in_ordinary_times() -> None:
    """One that leaves has left at once; of thirty 29 have left within 20 s, and none before it was gone."""
    store, many = MemoryStore(), tuple(endpoint(n) for n in range(30))
    await publish(store, *many)
    async with connected(store) as tide:
        view = tide.discover(SERVICE)
        await view.wait_for(30, timeout=1)
        await anyio.sleep(100)
        await withdraw(store, many[0])
        await anyio.sleep(0.01)
        assert len(view.endpoints) == 29
        await anyio.sleep(11)
        await withdraw(store, *many[1:29])
        await anyio.sleep(0.01)
        assert len(view.endpoints) == 19
        await anyio.sleep(10)
        assert len(view.endpoints) == 9
        await anyio.sleep(10)
        assert view.endpoints == many[29:]


async def test_who_leaves_by_itself_is_not_held() -> None:
    """A rolling restart, or a service that ends: each endpoint is out of the list when its process says so."""
    store = MemoryStore()
    async with connected(store) as other, connected(store) as tide:
        view = tide.discover(SERVICE)
        await view.wait_for(0, timeout=1)
        async with AsyncExitStack() as stack:
            for n in range(3):
                await stack.enter_async_context(other.register(SERVICE, f"http://10.0.0.{n}:80"))
            await view.wait_for(3, timeout=1)
            await publish(store, endpoint(7), endpoint(8))
            for here in other.registrations:
                await here.deregister()
                await anyio.sleep(0.01)
                assert here.endpoint.url not in [each.url for each in view.endpoints]
                assert view.held == ()
        assert instances(view) == ["i007", "i008"]
        # Those two have not said anything: one may go in a window, the last is held.
        await withdraw(store, endpoint(7), endpoint(8))
        await anyio.sleep(5)
        assert len(view.endpoints) >= 1
        async with other.register(SERVICE, "http://10.0.0.9:80"):
            await anyio.sleep(60)
            assert instances(view) == ["10.0.0.9:80"]
        await anyio.sleep(0.01)
        with pytest.raises(NoEndpoints):
            view.pick()


async def test_one_worker_of_several_leaves() -> None:
    """Workers that share an instance: while one of them ends, be it the newest, the endpoint can be picked."""
    store = MemoryStore()
    store.delay = 0.005
    url = "http://10.0.0.1:80"
    async with connected(store) as first, connected(store) as second, connected(store) as tide:
        async with first.register(SERVICE, url), second.register(SERVICE, url) as newest:
            view = tide.discover(SERVICE)
            await view.wait_for(1, timeout=1)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(newest.deregister)
                for _ in range(100):
                    assert view.pick().url == url
                    await anyio.sleep(0.001)
            assert view.endpoints[0].incarnation == first.registrations[0].endpoint.incarnation


async def test_max_stale() -> None:
    """Beyond its limit a handle serves and says stale, or raises, as it was made to; other handles do not mind."""
    store = MemoryStore()
    await publish(store, *FIVE)
    async with connected(store) as tide:
        strict = tide.discover(SERVICE, max_stale=30, on_stale="raise")
        mild, free = tide.discover(SERVICE, max_stale=30), tide.discover(SERVICE)
        await free.wait_for(5, timeout=1)
        assert strict.pick() in FIVE
        assert not mild.stale
        await go_dark(store, tide)
        await anyio.sleep(10)
        assert strict.pick() in FIVE
        await anyio.sleep(30)
        with pytest.raises(TooStale, match=r"'billing' are \d+ s old, more than max_stale=30 s") as stale:
            strict.pick()
        assert stale.value.age > 30
        assert mild.pick() in FIVE
        assert mild.stale
        assert free.pick() in FIVE
        with pytest.raises(ValueError, match="on_stale"):
            tide.discover(SERVICE, max_stale=1, on_stale="default")


async def test_a_denial_is_no_outage() -> None:
    """A quorum that refuses this client the prefix is not papered over with the last known list."""
    inner = MemoryStore()
    await publish(inner, *FIVE)
    store = FaultyStore(inner)
    async with connected(store) as tide:
        view = tide.discover(SERVICE)
        await view.wait_for(5, timeout=1)
        store.inject(
            "PERMISSION_DENIED",
            "etcdserver: permission denied",
            times=99,
            when=lambda op: isinstance(op, Range) and op.key.startswith(b"/services"),
        )
        await go_dark(inner, tide)
        inner.down = set()
        inner.touch()
        await tide.health.wait_for(HealthState.AVAILABLE)
        await anyio.sleep(5)
        with pytest.raises(PermissionDenied):
            view.pick()
        with pytest.raises(PermissionDenied):
            await view.wait_for(6)
        (status,) = tide.status().services
        assert (status.denied, status.endpoints) == (True, 5)
        said = "The endpoints of 'billing' may not be read: etcd denies them to this user."
        assert said in tide.status().sentence


# Restarts ------------------------------------------------------------------------------------------------------


def restarted(store: MemoryStore, folder: Path) -> Coordinator:
    """Return the coordinator of a process that keeps snapshots in a folder."""
    options = Options(endpoints=tuple(store.members), cache_dir=folder)
    return Coordinator(options, store=store, clock=mock_clock(), chance=random.Random(7).random)


@pytest.fixture
def disk_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read and write the disk without a thread: the mock clock does not wait for threads."""

    async def run(work: Callable[..., object], *args: object, **_: object) -> object:
        await anyio.lowlevel.checkpoint()
        return work(*args)

    monkeypatch.setattr(anyio.to_thread, "run_sync", run)


@pytest.mark.usefixtures("disk_at_once")
async def test_the_list_survives_a_restart_in_an_outage(tmp_path: Path) -> None:
    """A process that starts with etcd dead has the list from disk; after recovery it is held like any other."""
    store = MemoryStore()
    await publish(store, *FIVE)
    async with restarted(store, tmp_path) as tide:
        await tide.discover(SERVICE).wait_for(5, timeout=1)
    store.down = set(store.members)
    async with restarted(store, tmp_path) as tide:
        view = tide.discover(SERVICE)
        await anyio.sleep(1)
        assert (view.endpoints, view.source) == (FIVE, Source.DISK)
        assert view.age < 1000
        store.down = set()
        await withdraw(store, *FIVE[:4])
        await come_back(store, view)
        await anyio.sleep(20)
        assert view.endpoints == FIVE
        assert len(view.held) == 4
        await anyio.sleep(31)
        assert view.endpoints == FIVE[4:]


@pytest.mark.usefixtures("disk_at_once")
async def test_a_list_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """After an upgrade in an outage the list is there, although its file was named after the configuration."""
    store = MemoryStore()
    await publish(store, *FIVE)
    async with restarted(store, tmp_path) as tide:
        await tide.discover(SERVICE).wait_for(5, timeout=1)
    for path in tmp_path.glob("discovery-*"):
        path.rename(path.with_name(path.name.replace("discovery-", "config-")))
    store.down = set(store.members)
    async with restarted(store, tmp_path) as tide:
        view = tide.discover(SERVICE)
        await anyio.sleep(1)
        assert (view.endpoints, view.source) == (FIVE, Source.DISK)


@pytest.mark.usefixtures("disk_at_once")
async def test_an_ordinary_restart_takes_over_what_etcd_has(tmp_path: Path) -> None:
    """With etcd well, what an old snapshot lists and etcd does not is gone at once."""
    store = MemoryStore()
    await publish(store, *FIVE)
    async with restarted(store, tmp_path) as tide:
        await tide.discover(SERVICE).wait_for(5, timeout=1)
    await withdraw(store, *FIVE[:4])
    async with restarted(store, tmp_path) as tide:
        view = tide.discover(SERVICE)
        await come_back(store, view)
        await anyio.sleep(0.1)
        assert view.endpoints == FIVE[4:]


@pytest.mark.usefixtures("disk_at_once")
async def test_what_is_held_is_not_written_to_disk(tmp_path: Path) -> None:
    """A process that restarts while a sudden emptiness is doubted does not begin with that emptiness."""
    store = MemoryStore()
    await publish(store, *FIVE)
    async with restarted(store, tmp_path) as tide:
        view = tide.discover(SERVICE)
        await view.wait_for(5, timeout=1)
        await anyio.sleep(5)
        await withdraw(store, *FIVE)
        await anyio.sleep(5)
        # Two went before it was empty.
        assert view.held == FIVE[2:]
    store.down = set(store.members)
    async with restarted(store, tmp_path) as tide:
        view = tide.discover(SERVICE)
        await anyio.sleep(1)
        assert {*FIVE[2:]} <= {*view.endpoints}


# Picking -------------------------------------------------------------------------------------------------------


async def test_picks_follow_the_weights() -> None:
    """Of 400 picks each endpoint gets its weight's share."""
    store = MemoryStore()
    await publish(store, endpoint(1, weight=3), endpoint(2))
    async with connected(store) as tide:
        view = tide.discover(SERVICE)
        await view.wait_for(2, timeout=1)
        assert Counter(view.pick().instance for _ in range(400)) == {"i001": 300, "i002": 100}


async def test_use_reports_by_itself() -> None:
    """Three blocks that raise eject the endpoint for 5 s; cancelled ones say nothing; a success is one."""
    store = MemoryStore()
    await publish(store, *FIVE)
    async with connected(store) as tide:
        view = tide.discover(SERVICE)
        await view.wait_for(5, timeout=1)
        for _ in range(3):
            for _ in range(5):
                with anyio.move_on_after(0.01):
                    with view.use():
                        await anyio.sleep_forever()
        assert not view.ejected
        bad = FIVE[2]
        for _ in range(20):
            try:
                with view.use() as used:
                    if used == bad:
                        raise ConnectionError("refused")
            except ConnectionError:
                pass
        assert list(view.ejected) == [bad]
        assert bad in view.endpoints
        assert bad not in {view.pick() for _ in range(20)}
        assert tide.status().services[0].ejected == 1
        assert tide._life.instruments.observe_endpoints() == {(SERVICE, "live"): 4}
        await anyio.sleep(5)
        assert not view.ejected
        assert bad in {view.pick() for _ in range(20)}


async def test_when_everything_fails_somebody_is_picked() -> None:
    """However often everything fails, half of the endpoints go on being picked, and a single one always."""
    store = MemoryStore()
    await publish(store, *FIVE)
    async with connected(store) as tide:
        view = tide.discover(SERVICE)
        await view.wait_for(5, timeout=1)
        for _ in range(200):
            view.report(view.pick(), False)
        assert len(view.ejected) == 2
        await withdraw(store, *FIVE[1:])
        await anyio.sleep(21)
        assert instances(view) == ["i000"]
        view.report(view.pick(), False)
        assert view.pick() == FIVE[0]


async def test_drained_endpoints_do_not_let_the_last_one_be_ejected() -> None:
    """The cap counts those that can be picked: with two drained ones beside it, the only live one stays."""
    store = MemoryStore()
    await publish(store, endpoint(1), endpoint(2, weight=0), endpoint(3, weight=0))
    async with connected(store) as tide:
        view = tide.discover(SERVICE)
        await view.wait_for(3, timeout=1)
        for _ in range(10):
            view.report(view.pick(), False)
        assert view.pick().instance == "i001"


async def test_a_new_incarnation_begins_with_a_clean_record() -> None:
    """An instance that restarts while its predecessor is ejected is picked at once."""
    store = MemoryStore()
    await publish(store, *FIVE)
    async with connected(store) as tide:
        view = tide.discover(SERVICE)
        await view.wait_for(5, timeout=1)
        for _ in range(3):
            view.report(FIVE[1], False)
        assert list(view.ejected) == [FIVE[1]]
        await publish(store, endpoint(1, incarnation="two"))
        await anyio.sleep(0.01)
        assert not view.ejected
        assert "two" in {view.pick().incarnation for _ in range(5)}
        view.report(endpoint(77), False)


# Handles -------------------------------------------------------------------------------------------------------


async def test_changes() -> None:
    """The iterator gives the newest list after each change, and ends with the coordinator."""
    store, seen = MemoryStore(), list[int]()
    async with connected(store) as tide, anyio.create_task_group() as tasks:
        view = tide.discover(SERVICE)
        await view.wait_for(0, timeout=1)

        async def read() -> None:
            async for endpoints in view.changes():
                seen.append(len(endpoints))

        tasks.start_soon(read)
        await anyio.sleep(0.01)
        for each in FIVE[:3]:
            await publish(store, each)
            await anyio.sleep(0.01)
        await withdraw(store, FIVE[0])
        await anyio.sleep(0.01)
        assert seen == [1, 2, 3, 2]
        tide._parts.discovery.close("over")
    assert seen == [1, 2, 3, 2]


async def test_wait_for_waits() -> None:
    """It returns when there are as many as asked for, and raises TimeoutError if there are not."""
    store = MemoryStore()
    await publish(store, *FIVE[:2])
    async with connected(store) as tide, anyio.create_task_group() as tasks:
        view = tide.discover(SERVICE)
        with pytest.raises(TimeoutError):
            await view.wait_for(3, timeout=5)

        async def later() -> None:
            await anyio.sleep(1)
            await publish(store, FIVE[2])

        tasks.start_soon(later)
        assert len(await view.wait_for(3, timeout=5)) == 3


async def test_handles_share_one_view() -> None:
    """A thousand calls open one watch, and give the same handle."""
    store = MemoryStore()
    async with connected(store) as tide:
        before = store.watched
        views = [tide.discover(SERVICE) for _ in range(1000)]
        await views[0].wait_for(0, timeout=1)
        await anyio.sleep(1)
        assert store.watched == before + 1
        assert len({id(view) for view in views}) == 1


async def test_the_number_of_services_is_bounded() -> None:
    """The 257th takes the place of one that nobody holds a handle on; if all are held it is refused."""
    store = MemoryStore()
    async with connected(store) as tide:
        held = [tide.discover(f"s{n}") for n in range(MOST_SERVICES - 1)]
        tide.discover("idle")
        tide.discover("one more")
        assert len(tide.status().services) == MOST_SERVICES
        assert "idle" not in {service.name for service in tide.status().services}
        last = tide.discover("one more")
        with pytest.raises(NotFollowed, match="256 services are followed already"):
            tide.discover("too many")
        held.pop()
        again = tide.discover("too many")
        assert await again.wait_for(0, timeout=5) == ()
        assert await last.wait_for(0, timeout=5) == ()
        assert tide.status().restarts == 0


async def test_who_follows_changes_keeps_the_service() -> None:
    """An iteration over the changes is a use of the service, also when nobody holds the handle it came from."""
    store = MemoryStore()
    async with connected(store) as tide:
        changes = tide.discover(SERVICE).changes()
        views = [tide.discover(f"s{n}") for n in range(MOST_SERVICES - 1)]
        with pytest.raises(NotFollowed):
            tide.discover("too many")
        await views[0].wait_for(0, timeout=5)
        await publish(store, endpoint(1))
        with anyio.fail_after(5):
            assert await anext(changes) == (endpoint(1),)


async def test_closed() -> None:
    """Outside the block everything raises Closed, and who waits is told."""
    store = MemoryStore()
    tide = Coordinator(Options(tuple(store.members), cache_dir=False), store=store, clock=mock_clock())
    with pytest.raises(Closed, match="has not been entered"):
        tide.discover(SERVICE)
    async with anyio.create_task_group() as tasks:
        async with tide:
            view = tide.discover(SERVICE)
            await view.wait_for(0, timeout=1)

            async def wait() -> None:
                with pytest.raises(Closed):
                    await view.wait_for(1)

            tasks.start_soon(wait)
            await anyio.sleep(0.1)
            assert discover(SERVICE) is view
    for use in (view.pick, view.changes, lambda: view.endpoints, lambda: tide.discover(SERVICE)):
        with pytest.raises(Closed):
            use()


@pytest.mark.parametrize("wrong", ["", "\ud800"])
async def test_names_that_are_none(wrong: str) -> None:
    """What cannot be a service's name raises ValueError, and nothing is followed."""
    store = MemoryStore()
    async with connected(store) as tide:
        with pytest.raises(ValueError, match="a service's name"):
            tide.discover(wrong)
        assert tide.status().services == ()


async def test_services_counts_registrations() -> None:
    """`services()` asks etcd for all names, decoded, with how many registrations each has."""
    store = MemoryStore()
    await publish(store, *FIVE, Endpoint("http://x", 1, {}, "i", "one", "pay/eu"))
    async with connected(store) as tide:
        assert await tide.services() == {"billing": 5, "pay/eu": 1}
        await go_dark(store, tide)
        with pytest.raises(Unavailable):
            await tide.services()
