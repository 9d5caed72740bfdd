"""`EtcdStore` when etcd fails: every trouble is a `StoreFault`, and a cancellation is what somebody asked for."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress

import anyio
import anyio.lowlevel
import pytest

from tideover.etcd.adapter import EtcdStore
from tideover.store.faults import FaultKind, StoreFault
from tideover.store.operations import Put, Range
from tideover.testing import EtcdCluster, EtcdServer

pytestmark = pytest.mark.etcd

# Half of etcd's defaults, for quicker elections, also of a member that returns alone
FAST = ("--heartbeat-interval=50", "--election-timeout=500")


@pytest.fixture(scope="module")
def shared_server() -> Iterator[EtcdServer]:
    """One etcd for all tests."""
    with EtcdServer(args=FAST) as running:
        yield running


@pytest.fixture
def server(shared_server: EtcdServer) -> EtcdServer:
    """A running etcd, whatever the test before has done to it."""
    if not shared_server.running:
        shared_server.start()
    elif shared_server.paused:
        shared_server.resume()
    shared_server.wait_ready()
    return shared_server


@asynccontextmanager
async def _open(*endpoints: str) -> AsyncIterator[EtcdStore]:
    store = EtcdStore(endpoints)
    try:
        yield store
    finally:
        await store.aclose()


@pytest.fixture
async def store(server: EtcdServer) -> AsyncIterator[EtcdStore]:
    """A store whose connection is established."""
    async with _open(server.endpoint) as store:
        await _read(store)
        yield store


@pytest.fixture
def refusing() -> Iterator[str]:
    """An address at which nobody listens, and nobody will."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


async def _read(
    store: EtcdStore, *, timeout: float = 5.0, member: str | None = None, serializable: bool = False
) -> int:
    op = Range(b"k", serializable=serializable)
    return (await store.call(op, member=member or store.members[0], timeout=timeout)).header.revision


async def _answers(store: EtcdStore) -> bool:
    """Whether the member can be read: grpc may still be waiting to connect again."""
    try:
        await _read(store, timeout=1)
    except StoreFault:
        return False
    return True


async def _write(store: EtcdStore, *, timeout: float = 5.0) -> int:
    return (await store.call(Put(b"k", b"v"), member=store.members[0], timeout=timeout)).header.revision


def _receiving(store: EtcdStore, opened: anyio.Event) -> Callable[[], object]:
    async def receive() -> None:
        async with store.watch(b"k", None, start_revision=0, member=store.members[0], timeout=5) as watch:
            opened.set()
            await watch.receive()

    return receive


class Outcomes:
    """How tasks ended: with a fault's kind, with an answer, or cancelled."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def of(self, act: Callable[[], object]) -> None:
        try:
            await act()  # type: ignore[misc]
        except StoreFault as exc:
            self.seen.append(exc.fault.kind)
        except asyncio.CancelledError:
            self.seen.append("cancelled")
            raise
        else:
            self.seen.append("answered")


# Faults --------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_refused_connection_is_told_at_once(refusing: str) -> None:
    """Where nobody listens, a call fails within a fraction of its timeout, and was never sent."""
    async with _open(refusing) as store:
        began = time.monotonic()
        with pytest.raises(StoreFault) as caught:
            await _write(store, timeout=5)
        assert time.monotonic() - began < 1
    assert caught.value.fault.kind is FaultKind.UNREACHABLE
    assert not caught.value.fault.applied


@pytest.mark.anyio
async def test_a_watch_where_nobody_listens_is_told_at_once(refusing: str) -> None:
    """Opening a watch fails as a call does."""
    async with _open(refusing) as store:
        with pytest.raises(StoreFault) as caught:
            async with store.watch(b"k", None, start_revision=0, member=refusing, timeout=5):
                pass
    assert caught.value.fault.kind is FaultKind.UNREACHABLE


@pytest.mark.anyio
async def test_an_unresolvable_name_is_unreachable() -> None:
    """A host name that nobody knows was never sent anything: a write to it is no unknown outcome."""
    async with _open("no-such-host.invalid:2379") as store:
        with pytest.raises(StoreFault) as caught:
            await _write(store)
    assert caught.value.fault.kind is FaultKind.UNREACHABLE
    assert not caught.value.fault.applied


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["dns", "unix"])
async def test_a_host_may_be_called_anything(host: str) -> None:
    """A host whose name means something to grpc is looked up like any other."""
    async with _open(f"{host}:2379") as store:
        with pytest.raises(StoreFault) as caught:
            await _read(store, timeout=2)
    assert f"{host}:2379" in str(caught.value)
    assert "No such file" not in str(caught.value)


@pytest.mark.anyio
async def test_a_member_killed_under_calls_is_a_lost_connection(server: EtcdServer, store: EtcdStore) -> None:
    """Calls in flight when the member dies end at once, as lost connections; none of them is cancelled."""
    outcomes, opened = Outcomes(), anyio.Event()
    began = time.monotonic()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outcomes.of, _receiving(store, opened))
        await opened.wait()
        server.pause()
        for _ in range(3):
            tasks.start_soon(outcomes.of, lambda: _write(store, timeout=8))
        await anyio.sleep(0.1)
        server.kill()
    assert outcomes.seen == [FaultKind.CONNECTION_LOST] * 4
    assert time.monotonic() - began < 4


@pytest.mark.anyio
async def test_a_frozen_member_costs_the_timeout_and_no_more(server: EtcdServer, store: EtcdStore) -> None:
    """A member that is stopped lets a call end at its deadline; a write may still be applied later."""
    server.pause()
    began = time.monotonic()
    with pytest.raises(StoreFault) as caught:
        await _write(store, timeout=0.3)
    assert 0.25 < time.monotonic() - began < 0.8
    assert caught.value.fault.kind is FaultKind.DEADLINE
    assert caught.value.fault.applied


@pytest.mark.anyio
async def test_a_watch_of_a_frozen_member_costs_the_timeout_and_no_more(
    server: EtcdServer, store: EtcdStore
) -> None:
    """Opening a watch at a member that is stopped ends at its deadline."""
    server.pause()
    began = time.monotonic()
    with pytest.raises(StoreFault) as caught:
        async with store.watch(b"k", None, start_revision=0, member=server.endpoint, timeout=0.3):
            pass
    assert 0.25 < time.monotonic() - began < 0.8
    assert caught.value.fault.kind is FaultKind.DEADLINE


@pytest.mark.anyio
async def test_a_member_that_returns_is_found_again(server: EtcdServer, store: EtcdStore) -> None:
    """After a restart, a renewed connection answers at once, without waiting for grpc's backoff."""
    server.kill()
    with pytest.raises(StoreFault):
        await _read(store, timeout=1)
    server.start()
    await server.ready()
    store.renew(server.endpoint)
    began = time.monotonic()
    await _read(store)
    assert time.monotonic() - began < 1


# Closing -------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_renewing_lets_calls_in_flight_finish(store: EtcdStore) -> None:
    """Calls on the connection that is given up still get their answers."""
    outcomes = Outcomes()
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(outcomes.of, lambda: _write(store))
        await anyio.lowlevel.checkpoint()
        store.renew(store.members[0])
    assert outcomes.seen == ["answered"] * 10


@pytest.mark.anyio
async def test_renewing_never_cancels_anybody(
    server: EtcdServer, store: EtcdStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What hangs on the connection that is given up ends with a fault, soon: not cancelled, and not the caller."""
    monkeypatch.setattr("tideover.etcd.channel._CLOSE_GRACE", 0.05)
    outcomes, opened, went_on = Outcomes(), anyio.Event(), False
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outcomes.of, _receiving(store, opened))
        await opened.wait()
        server.pause()
        for _ in range(3):
            tasks.start_soon(outcomes.of, lambda: _write(store, timeout=8))
        await anyio.sleep(0.05)
        with anyio.fail_after(4):
            for _ in range(3):
                store.renew(server.endpoint)
                await anyio.sleep(0.02)
            while len(outcomes.seen) < 4:
                await anyio.sleep(0.02)
        went_on = True
    assert went_on
    assert outcomes.seen == [FaultKind.CONNECTION_LOST] * 4


@pytest.mark.anyio
async def test_closing_under_calls_never_cancels_anybody(server: EtcdServer, store: EtcdStore) -> None:
    """Calls and watches on a store that is closed end with a fault, not cancelled: their task group goes on."""
    outcomes, opened = Outcomes(), anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outcomes.of, _receiving(store, opened))
        await opened.wait()
        server.pause()
        for _ in range(3):
            tasks.start_soon(outcomes.of, lambda: _read(store, timeout=8))
        await anyio.sleep(0.05)
        await store.aclose()
        assert not tasks.cancel_scope.cancel_called
    assert outcomes.seen == [FaultKind.CONNECTION_LOST] * 4


@pytest.mark.anyio
async def test_a_closed_store_is_a_lost_connection(store: EtcdStore) -> None:
    """A call on a closed store is a fault like any other."""
    await store.aclose()
    with pytest.raises(StoreFault) as caught:
        await _read(store)
    assert caught.value.fault.kind is FaultKind.CONNECTION_LOST


@pytest.mark.anyio
async def test_a_watch_on_a_closed_store_is_a_lost_connection(store: EtcdStore) -> None:
    """Opening a watch on a closed store is a fault like any other, not an exception of grpc's."""
    await store.aclose()
    with pytest.raises(StoreFault) as caught:
        async with store.watch(b"k", None, start_revision=0, member=store.members[0], timeout=1):
            pass
    assert caught.value.fault.kind is FaultKind.CONNECTION_LOST


@pytest.mark.anyio
async def test_the_store_shows_its_connections(store: EtcdStore) -> None:
    """`repr` names each member with the state of its connection."""
    assert repr(store) == f"<EtcdStore [<MemberChannel {store.members[0]} ready>]>"


# Cancellation --------------------------------------------------------------------------------------------------


def _waiting(name: str, store: EtcdStore, opened: anyio.Event) -> Callable[[], object]:
    """Return something that waits for etcd, by name; the server is paused, so it waits long."""

    async def call() -> object:
        opened.set()
        return await _write(store, timeout=8)

    async def disconnect() -> None:
        opened.set()
        await store.wait_disconnected(store.members[0])

    async def opening() -> None:
        opened.set()
        async with store.watch(b"k", None, start_revision=0, member=store.members[0], timeout=8):
            pass

    receive = _receiving(store, opened)
    return {"call": call, "disconnect": disconnect, "opening": opening, "receive": receive}[name]


waits = pytest.mark.parametrize("what", ["call", "opening", "receive", "disconnect"])


@pytest.mark.anyio
@waits
async def test_a_cancelled_scope_cancels(server: EtcdServer, store: EtcdStore, what: str) -> None:
    """What anyio cancels ends cancelled, within the scope that was cancelled and no further."""
    outcomes, opened = Outcomes(), anyio.Event()
    if what != "receive":
        server.pause()
    with anyio.move_on_after(0.1) as scope:
        await outcomes.of(_waiting(what, store, opened))
    assert scope.cancelled_caught
    assert outcomes.seen == ["cancelled"]
    await anyio.lowlevel.checkpoint()


@pytest.mark.anyio
@waits
async def test_a_cancelled_task_is_cancelled(server: EtcdServer, store: EtcdStore, what: str) -> None:
    """What asyncio cancels (`task.cancel`, `wait_for`, `timeout`) ends cancelled, not as a fault to be retried."""
    outcomes, opened = Outcomes(), anyio.Event()
    if what != "receive":
        server.pause()
    task = asyncio.get_running_loop().create_task(outcomes.of(_waiting(what, store, opened)))
    await opened.wait()
    await anyio.sleep(0.05)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert outcomes.seen == ["cancelled"]
    assert task.cancelled()


@pytest.mark.anyio
async def test_asyncio_timeouts_work(server: EtcdServer, store: EtcdStore) -> None:
    """A call inside `asyncio.timeout` ends with TimeoutError, as everything does there."""
    server.pause()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await _read(store, timeout=8)


@pytest.mark.anyio
@waits
@pytest.mark.parametrize("cancel_first", [True, False], ids=["cancel-close", "close-cancel"])
@pytest.mark.parametrize("steps", range(3))
async def test_a_scope_cancelled_while_the_connection_closes(
    server: EtcdServer, store: EtcdStore, what: str, cancel_first: bool, steps: int
) -> None:
    """Cancelled by its scope at the moment the store is closed, a task ends cancelled or with a fault.

    It goes on after the scope either way: nothing of it reaches the task group around, which would take it for
    its own cancellation and end the task in silence.
    """
    outcomes, opened, went_on = Outcomes(), anyio.Event(), False
    scope = anyio.CancelScope()

    async def cancelled_from_outside() -> None:
        nonlocal went_on
        with scope, suppress(StoreFault):
            await outcomes.of(_waiting(what, store, opened))
        await anyio.lowlevel.checkpoint()
        went_on = True

    async with anyio.create_task_group() as tasks:
        if what != "receive":
            server.pause()
        tasks.start_soon(cancelled_from_outside)
        await opened.wait()
        await anyio.sleep(0.02)
        if cancel_first:
            scope.cancel()
        else:
            tasks.start_soon(store.aclose)
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        if cancel_first:
            await store.aclose()
        else:
            scope.cancel()
    assert went_on
    assert outcomes.seen in (["cancelled"], [FaultKind.CONNECTION_LOST], ["answered"])
    assert outcomes.seen != ["answered"] or what == "disconnect"


@pytest.mark.anyio
@pytest.mark.parametrize("what", ["call", "receive"])
@pytest.mark.parametrize("cancel_first", [True, False], ids=["cancel-close", "close-cancel"])
async def test_a_task_cancelled_while_the_connection_closes(
    server: EtcdServer, store: EtcdStore, what: str, cancel_first: bool
) -> None:
    """Cancelled by asyncio at the moment the store is closed, a task ends, and so does nothing else."""
    outcomes, opened, others = Outcomes(), anyio.Event(), 0

    async def bystander() -> None:
        nonlocal others
        await anyio.sleep(0.1)
        others += 1

    async with anyio.create_task_group() as tasks:
        if what != "receive":
            server.pause()
        tasks.start_soon(bystander)
        task = asyncio.get_running_loop().create_task(outcomes.of(_waiting(what, store, opened)))
        await opened.wait()
        await anyio.sleep(0.02)
        if cancel_first:
            task.cancel()
            await store.aclose()
        else:
            tasks.start_soon(store.aclose)
            await anyio.lowlevel.checkpoint()
            task.cancel()
        with suppress(asyncio.CancelledError, StoreFault):
            await task
    assert outcomes.seen in (["cancelled"], [FaultKind.CONNECTION_LOST])
    assert others == 1


# Connections ---------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_broken_connection_is_noticed(server: EtcdServer, store: EtcdStore) -> None:
    """`wait_disconnected` returns soon after the member dies, and not before."""
    returned = anyio.Event()

    async def wait() -> None:
        await store.wait_disconnected(server.endpoint)
        returned.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.sleep(0.3)
        assert not returned.is_set()
        server.kill()
        with anyio.fail_after(2):
            await returned.wait()


@pytest.mark.anyio
async def test_a_connection_that_breaks_at_once_is_noticed(server: EtcdServer) -> None:
    """A member that dies right after its first answer is noticed, once, though nobody saw it connected."""
    store = EtcdStore([server.endpoint])
    try:
        await _read(store)
        server.kill()
        with anyio.fail_after(2):
            await store.wait_disconnected(server.endpoint)
        with anyio.move_on_after(1) as waiting:
            await store.wait_disconnected(server.endpoint)
        assert waiting.cancelled_caught
    finally:
        await store.aclose()


@pytest.mark.anyio
async def test_waiting_for_a_member_that_is_away_waits_for_its_return(
    server: EtcdServer, store: EtcdStore
) -> None:
    """A member that is down is not a connection that breaks: the wait goes on, also through its return."""
    server.kill()
    with suppress(StoreFault):
        await _read(store, timeout=1)
    store.renew(server.endpoint)
    with anyio.move_on_after(0.3) as waiting:
        await store.wait_disconnected(server.endpoint)
    assert waiting.cancelled_caught


@pytest.mark.anyio
async def test_a_connection_that_is_closed_is_a_broken_one(store: EtcdStore) -> None:
    """Waiting for the end of a connection that was closed before returns."""
    await store.aclose()
    with anyio.fail_after(1):
        await store.wait_disconnected(store.members[0])


@pytest.mark.anyio
async def test_a_connection_that_is_renewed_has_not_broken(server: EtcdServer, store: EtcdStore) -> None:
    """Whoever renews a connection that stands learns nothing new from it, and nobody probes for that."""
    with anyio.move_on_after(2) as waiting:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.wait_disconnected, server.endpoint)
            await anyio.sleep(0.6)
            store.renew(server.endpoint)
    assert waiting.cancelled_caught


@pytest.mark.anyio
async def test_renewing_does_not_make_the_wait_deaf(
    server: EtcdServer, store: EtcdStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun while the member was down, and its connection renewed since, the wait notices when it dies again."""
    monkeypatch.setattr("tideover.etcd.channel._CLOSE_GRACE", 0.05)
    server.kill()
    with suppress(StoreFault):
        await _read(store, timeout=1)
    store.renew(server.endpoint)
    noticed = 0

    async def report() -> None:
        nonlocal noticed
        while True:
            await store.wait_disconnected(server.endpoint)
            noticed += 1
            await anyio.sleep(0.1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(report)
        await anyio.sleep(0.1)
        store.renew(server.endpoint)
        server.start()
        await server.ready()
        with anyio.fail_after(8):
            while not await _answers(store):
                await anyio.sleep(0.05)
            await anyio.sleep(0.4)
            before = noticed
            server.kill()
            while noticed == before:
                await anyio.sleep(0.05)
        tasks.cancel_scope.cancel()


# Quorum --------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_without_a_quorum_only_serializable_reads_are_answered() -> None:
    """With one of three members left, an open watch ends, linearizable calls say why, serializable reads go on."""
    with EtcdCluster(args=FAST) as cluster:
        async with _open(*cluster.endpoints) as store:
            survivor = cluster.followers()[0]
            member = survivor.endpoint
            revision = await _write(store)
            outcomes = Outcomes()
            with anyio.fail_after(10):
                async with store.watch(b"k", None, start_revision=revision, member=member, timeout=5) as watch:
                    assert len((await watch.receive()).events) == 1
                    cluster.lose_quorum(survivor=survivor)
                    await outcomes.of(watch.receive)
            assert outcomes.seen == [FaultKind.NO_LEADER]
            began = time.monotonic()
            for act in (
                lambda: _read(store, member=member, timeout=2),
                lambda: store.call(Put(b"k", b"lost"), member=member, timeout=2),
            ):
                await outcomes.of(act)
            assert set(outcomes.seen) <= {FaultKind.NO_LEADER, FaultKind.TIMED_OUT}
            assert len(outcomes.seen) == 3
            assert time.monotonic() - began < 1
            assert await _read(store, member=member, serializable=True, timeout=2) == revision


@pytest.mark.anyio
async def test_closing_can_be_given_up(server: EtcdServer) -> None:
    """Closing a store with an open watch is cancelled by a scope: the scope says so, and nobody was cancelled."""
    for _ in range(3):
        store = EtcdStore([server.endpoint])
        async with store.watch(b"a", None, start_revision=0, member=server.endpoint, timeout=5):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await store.aclose()
            assert scope.cancelled_caught
            await store.aclose()
