"""A connection that is given up: its streams end, with whatever version of grpc. The server is gRPC's own."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import grpc
import pytest

from tests.etcd.one_loop import anyio_backend, one_loop
from tests.store.provocation import option
from tideover.etcd.channel import MemberChannel
from tideover.etcd.keep_alives import KeepAlives
from tideover.etcd.messages import rpc
from tideover.etcd.watch_streams import Watches
from tideover.store.endpoints import Address
from tideover.store.faults import FaultKind, StoreFault
from tideover.store.protocol import KeepAlive

__all__ = ["anyio_backend", "one_loop"]

pytestmark = pytest.mark.anyio

# Seconds that streams of a connection that is given up may go on.
GRACE = 0.3


class Member(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc has no types
    """Creates every watch, renews every lease, and then has nothing to tell."""

    async def _watch(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield rpc.WatchResponse(created=True, watch_id=request.create_request.watch_id)

    async def _keep_alive(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            if request.ID > 0:
                yield rpc.LeaseKeepAliveResponse(ID=request.ID, TTL=5)

    def service(self, handler_call_details: Any) -> Any:
        """Find what to do with a stream."""
        behaviour, request = {
            "/etcdserverpb.Watch/Watch": (self._watch, rpc.WatchRequest),
            "/etcdserverpb.Lease/LeaseKeepAlive": (self._keep_alive, rpc.LeaseKeepAliveRequest),
        }[handler_call_details.method]
        return grpc.stream_stream_rpc_method_handler(
            behaviour, request.FromString, lambda reply: reply.SerializeToString()
        )


@pytest.fixture
async def channel(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MemberChannel]:
    """A connection to a member that answers."""
    monkeypatch.setattr("tideover.etcd.channel._CLOSE_GRACE", GRACE)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Member(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = MemberChannel(Address(f"127.0.0.1:{port}"))
    try:
        yield channel
    finally:
        await channel.aclose()
        await server.stop(None)


def watching(watches: Watches) -> AbstractAsyncContextManager[Any]:
    """Return what opens a watch."""
    return watches.open(b"k", None, start_revision=0, timeout=5, metadata=())


def renewing(channel: MemberChannel) -> AbstractAsyncContextManager[KeepAlive]:
    """Return what renews leases."""

    async def prepare(refused: str | None) -> str:
        return ""

    return KeepAlives(channel, prepare).open()


async def ended(wait: Callable[[], Any]) -> FaultKind:
    """Return the fault that a wait ends with, soon after the grace."""
    with anyio.fail_after(GRACE + 5), pytest.raises(StoreFault) as caught:
        await wait()
    return caught.value.fault.kind


@pytest.mark.parametrize("give_up", [MemberChannel.renew, MemberChannel.retire])
async def test_streams_end_with_their_connection(
    channel: MemberChannel, give_up: Callable[[MemberChannel], None]
) -> None:
    """A watch and a waiting renewal go on within the grace, and then end with a lost connection."""
    async with watching(Watches(channel)) as watch, renewing(channel) as keep_alive:
        await keep_alive.renew(5)
        kinds: list[FaultKind] = []

        async def note(wait: Callable[[], Any]) -> None:
            kinds.append(await ended(wait))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(note, watch.receive)
            tasks.start_soon(note, lambda: keep_alive.renew(-1))
            await anyio.wait_all_tasks_blocked()
            give_up(channel)
            began = anyio.current_time()
        assert anyio.current_time() - began >= GRACE * 0.9
        assert kinds == [FaultKind.CONNECTION_LOST] * 2


async def test_the_new_connection_keeps_its_streams(channel: MemberChannel) -> None:
    """What was opened over the new connection goes on when the old one has ended."""
    watches = Watches(channel)
    async with watching(watches) as old:
        channel.renew()
        async with watching(watches) as new, renewing(channel) as keep_alive:
            assert await ended(old.receive) is FaultKind.CONNECTION_LOST
            await anyio.sleep(GRACE)
            assert new.ended is None
            assert (await keep_alive.renew(5)).ttl == 5


async def test_closing_waits_for_no_grace(channel: MemberChannel) -> None:
    """Closing ends what is still being given up at once, streams as well, and leaves no task behind."""
    async with renewing(channel) as keep_alive:
        await keep_alive.renew(5)
        kinds: list[FaultKind] = []

        async def note() -> None:
            kinds.append(await ended(lambda: keep_alive.renew(-1)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(note)
            await anyio.wait_all_tasks_blocked()
            channel.renew()
            await anyio.lowlevel.checkpoint()
            began = anyio.current_time()
            await channel.aclose()
            assert anyio.current_time() - began < GRACE
        assert channel.retired
        assert kinds == [FaultKind.CONNECTION_LOST]


@pytest.mark.parametrize("silent", [False, True], ids=["refused", "silent"])
async def test_what_was_given_up_does_not_go_on_connecting(silent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection over which a watch could not be opened ends when it is given up, and not with its garbage."""
    option(monkeypatch, initial_reconnect_backoff_ms=100, min_reconnect_backoff_ms=1000)
    accepted = 0

    async def accept(stream: anyio.abc.SocketStream) -> None:
        nonlocal accepted
        accepted += 1
        async with stream:
            if silent:
                await anyio.sleep_forever()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, accept)
        gc.disable()
        try:
            channel = MemberChannel(Address(f"127.0.0.1:{port}"))
            with pytest.raises(StoreFault):
                await Watches(channel).look(timeout=0.5)
            await channel.aclose()
            before = accepted
            await anyio.sleep(2)
            assert accepted == before > 0
        finally:
            gc.enable()
        tasks.cancel_scope.cancel()
