"""The first read of a followed service: waited for as long as no outage is known, and after that the disk."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from tests.support import connected, mock_clock
from tideover import EndpointsUnknown, connect
from tideover.coordinator.coordinator import Coordinator
from tideover.discovery.endpoint import Endpoint
from tideover.options import Options
from tideover.store.operations import Delete, Op, Put, Range, Result
from tideover.testing import FaultyStore, MemoryStore
from tideover.types import Source

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("disk_at_once")]

GONE = Endpoint("http://10.0.0.1:80", 1.0, {}, "gone", "one", "billing")
HERE = Endpoint("http://10.0.0.2:80", 1.0, {}, "here", "one", "billing")


@pytest.fixture
def disk_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read and write the disk without a thread: the mock clock does not wait for threads."""

    async def run(work: Callable[..., object], *args: object, **_: object) -> object:
        await anyio.lowlevel.checkpoint()
        return work(*args)

    monkeypatch.setattr(anyio.to_thread, "run_sync", run)


async def put(store: MemoryStore, *endpoints: Endpoint) -> None:
    """Register endpoints, as other processes would."""
    for each in endpoints:
        await store.call(Put(f"/{each.key}".encode(), each.encode()), member=store.members[0], timeout=1)


async def delete(store: MemoryStore, *endpoints: Endpoint) -> None:
    """Take endpoints out of etcd."""
    for each in endpoints:
        await store.call(Delete(f"/{each.key}".encode()), member=store.members[0], timeout=1)


def process(store: MemoryStore | FaultyStore, folder: Path, *discover: str) -> Coordinator:
    """Return the coordinator of a process that keeps snapshots in a folder."""
    options = Options(endpoints=tuple(store.members), cache_dir=folder, discover=discover)
    return Coordinator(options, store=store, clock=mock_clock(), chance=random.Random(7).random)


async def left_on_disk(folder: Path, *, empty: bool) -> MemoryStore:
    """Return a cluster with one endpoint, and a folder with the list of a process that ended before: another."""
    store = MemoryStore()
    await put(store, GONE)
    async with process(store, folder) as tide:
        view = tide.discover("billing")
        await view.wait_for(1, timeout=5)
        if empty:
            await delete(store, GONE)
            while view.endpoints or view.held:
                await anyio.sleep(1)
    if not empty:
        await delete(store, GONE)
    await put(store, HERE)
    return store


def reads_of_the_service(op: Op[Result]) -> bool:
    """Whether that is a full read of the service's keys."""
    return isinstance(op, Range) and op.key.startswith(b"/services/") and not op.keys_only


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("empty", [False, True])
async def test_a_list_on_disk_does_not_count_while_etcd_is_well(tmp_path: Path, n: int, empty: bool) -> None:
    """`wait_for` gives what etcd has, not the endpoint that is gone and not the emptiness of before."""
    store = await left_on_disk(tmp_path, empty=empty)
    async with process(store, tmp_path) as tide:
        view = tide.discover("billing")
        assert await view.wait_for(n, timeout=5) == (HERE,)
        assert (view.source, view.pick()) == (Source.LIVE, HERE)


@pytest.mark.parametrize("n", [0, 1])
async def test_in_an_outage_the_disk_counts_at_once(tmp_path: Path, n: int) -> None:
    """With etcd known to be away `wait_for` returns what is on disk, without waiting for etcd."""
    store = await left_on_disk(tmp_path, empty=False)
    store.down = set(store.members)
    async with process(store, tmp_path) as tide:
        before = anyio.current_time()
        assert await tide.discover("billing").wait_for(n, timeout=5) == (GONE,)
        assert anyio.current_time() - before < 0.5


async def test_an_outage_that_is_declared_ends_the_wait(tmp_path: Path) -> None:
    """Where etcd falls silent before the first read, the disk counts when that is declared, not earlier."""
    store = await left_on_disk(tmp_path, empty=False)
    async with process(store, tmp_path) as tide:
        store.frozen = set(store.members)
        store.touch()
        before = anyio.current_time()
        assert await tide.discover("billing").wait_for(0, timeout=30) == (GONE,)
        assert 2 < anyio.current_time() - before < 8


async def test_the_disk_counts_when_the_time_is_over(tmp_path: Path) -> None:
    """After the timeout the list on disk is returned; where there is none, an error says that nothing is known."""
    store = FaultyStore(await left_on_disk(tmp_path, empty=False))
    store.inject("", times=1000, when=reads_of_the_service)
    async with process(store, tmp_path) as tide:
        before = anyio.current_time()
        assert await tide.discover("billing").wait_for(1, timeout=1) == (GONE,)
        assert anyio.current_time() - before == pytest.approx(1, abs=0.1)
    store.inject("", times=1000, when=reads_of_the_service)
    async with connected(store) as tide:
        with pytest.raises(TimeoutError, match="'billing' are not known: they have not been read yet"):
            await tide.discover("billing").wait_for(0, timeout=1)


async def test_too_many_are_an_error_that_counts_them(tmp_path: Path) -> None:
    """A wait for more than there are says how many there are."""
    store = await left_on_disk(tmp_path, empty=False)
    async with process(store, tmp_path) as tide:
        with pytest.raises(TimeoutError, match="'billing' has 1 of 2 endpoints"):
            await tide.discover("billing").wait_for(2, timeout=1)


@pytest.mark.parametrize("empty", [False, True])
async def test_a_start_that_knows_the_service_waits_for_it(tmp_path: Path, empty: bool) -> None:
    """With `connect(discover=[...])` the first `pick()` is what etcd says."""
    store = await left_on_disk(tmp_path, empty=empty)
    async with process(store, tmp_path, "billing") as tide:
        view = tide.discover("billing")
        assert (view.pick(), view.source, view.awaited) == (HERE, Source.LIVE, False)


async def test_a_start_in_an_outage_waits_for_the_disk_alone(tmp_path: Path) -> None:
    """With etcd away the first `pick()` is what is on disk, and entering takes no longer than without it."""
    store = await left_on_disk(tmp_path, empty=False)
    store.down = set(store.members)
    before = anyio.current_time()
    async with process(store, tmp_path, "billing") as tide:
        assert anyio.current_time() - before < 1
        view = tide.discover("billing")
        assert (view.pick(), view.source) == (GONE, Source.DISK)


async def test_a_start_without_a_quorum_waits_for_the_survivor() -> None:
    """With a quorum lost the first `pick()` is what the surviving member has."""
    store = MemoryStore()
    await put(store, HERE)
    store.down = set(store.members[:2])
    async with connected(store, discover=["billing"]) as tide:
        view = tide.discover("billing")
        assert (view.pick(), view.source) == (HERE, Source.MEMBER)


async def test_a_start_is_not_held_up_by_a_service_that_cannot_be_read() -> None:
    """Where the service's read hangs, entering takes `start_timeout`, and it is known to be unknown."""
    store = FaultyStore(MemoryStore())
    store.inject("", times=1000, when=reads_of_the_service)
    before = anyio.current_time()
    async with connected(store, discover=["billing"], start_timeout=2.0) as tide:
        assert anyio.current_time() - before == pytest.approx(2, abs=0.2)
        with pytest.raises(EndpointsUnknown):
            tide.discover("billing").pick()


async def test_a_denied_service_is_not_waited_for() -> None:
    """A service that this user may not read holds up neither the start nor a wait."""
    store = FaultyStore(MemoryStore())
    store.inject("PERMISSION_DENIED", "etcdserver: permission denied", times=1000, when=reads_of_the_service)
    before = anyio.current_time()
    async with connected(store, discover=["billing"]) as tide:
        assert anyio.current_time() - before < 0.5
        assert not tide.discover("billing").awaited


@pytest.mark.parametrize("empty", [None, True])
async def test_a_pick_that_comes_too_early_names_what_helps(tmp_path: Path, empty: bool | None) -> None:
    """Before the first read nobody says that there are none, whatever the disk says; the error names both ways."""
    store = MemoryStore() if empty is None else await left_on_disk(tmp_path, empty=empty)
    faulty = FaultyStore(store)
    faulty.inject("", times=1000, when=reads_of_the_service)
    async with process(faulty, tmp_path) as tide:
        view = tide.discover("billing")
        for _ in range(2):
            with pytest.raises(EndpointsUnknown) as early:
                view.pick()
            for remedy in (
                "await view.wait_for(1)",
                "connect(discover=['billing'])",
                "TideoverMiddleware(discover=",
            ):
                assert remedy in str(early.value)
            await anyio.sleep(0.2)


def test_names_that_cannot_be_are_refused_before_anything_is_opened() -> None:
    """`discover` wants a list of names; a string, an empty name and what is no text are refused by `connect`."""
    with pytest.raises(TypeError, match="discover must be a sequence, such as discover=\\('billing',\\)"):
        connect("127.0.0.1:2379", discover="billing")
    with pytest.raises(ValueError, match="a service's name must not be empty"):
        connect("127.0.0.1:2379", discover=[""])
    with pytest.raises(TypeError, match="a service's name must be text, not 5"):
        connect("127.0.0.1:2379", discover=[5])  # type: ignore[list-item]
