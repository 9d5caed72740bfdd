"""The same troubles on both transports: one kind of fault, one answer to "was it applied?", and the same words."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import pytest
from hyperframe.frame import DataFrame

from tests.etcd.http2.peer import (
    GRPC,
    OK,
    Peer,
    data,
    goaway,
    headers,
    message,
    reply,
    reset,
    serving,
    settings,
)
from tests.store.provocation import fault_of, meaning
from tideover.etcd.adapter import EtcdStore
from tideover.etcd.keep_alives import KeepAlives
from tideover.policies import Transport
from tideover.store.faults import Fault
from tideover.store.operations import Put, ReadBatch

pytestmark = [pytest.mark.anyio, pytest.mark.takes(20)]

REFUSED = (("grpc-status", "7"), ("grpc-message", "etcdserver: permission denied 50%25"))


def go_away(peer: Peer, last: int) -> None:
    """Close a connection in the way of an etcd that has had too many PINGs."""
    peer.say(goaway(last, 11, b"too_many_pings"))
    peer.close()


AFTER: dict[str, Callable[[Peer], object]] = {
    "hung up": Peer.close,
    "cut": Peer.abort,
    "reset": lambda peer: peer.say(reset(1, 2)),
    "reset by a proxy": lambda peer: peer.say(reset(1, 1)),
    "cancelled": lambda peer: peer.say(reset(1, 8)),
    "told to be calm": lambda peer: peer.say(reset(1, 11)),
    "trailers only": lambda peer: peer.say(headers(1, (*GRPC, *REFUSED), "END_STREAM")),
    "headers and trailers": lambda peer: peer.say(headers(1, GRPC), headers(1, REFUSED, "END_STREAM")),
    "no words": lambda peer: peer.say(headers(1, (*GRPC, ("grpc-status", "14")), "END_STREAM")),
    "404": lambda peer: peer.say(headers(1, ((":status", "404"),), "END_STREAM")),
    "413": lambda peer: peer.say(headers(1, ((":status", "413"),), "END_STREAM")),
    "a page with 503": lambda peer: peer.say(headers(1, ((":status", "503"),)), data(1, b"<html>", "END_STREAM")),
    "a page with 200": lambda peer: peer.say(
        headers(1, ((":status", "200"), ("content-type", "text/html"))), data(1, b"<html>", "END_STREAM")
    ),
    "no status": lambda peer: peer.say(headers(1, GRPC, "END_STREAM")),
    "compressed": lambda peer: peer.say(headers(1, GRPC), data(1, b"\1\0\0\0\1x"), headers(1, OK, "END_STREAM")),
    "pings": lambda peer: go_away(peer, 1),
    "a frame too large": lambda peer: peer.say(b"\xff\xff\xff\0\0\0\0\0\1"),
}
BEFORE = {
    "hangs up": None,
    "HTTP/1": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
}


@pytest.fixture
def anyio_backend() -> str:
    """The transports are asyncio's."""
    return "asyncio"


async def put(store: EtcdStore) -> object:
    """Write a key."""
    return await store.call(Put(b"k", b"v"), member=store.members[0], timeout=5)


async def read(store: EtcdStore) -> object:
    """Read in the way that must not be cancelled."""
    return await store.call(ReadBatch((b"k",)), member=store.members[0], timeout=5)


async def watch(store: EtcdStore) -> object:
    """Open a watch."""
    async with store.watch(b"k", None, start_revision=0, member=store.members[0], timeout=5) as opened:
        return opened


async def renew(store: EtcdStore) -> object:
    """Renew a lease, without the question whether the member is one."""

    async def no_token(refused: str | None) -> str:
        return ""

    async with KeepAlives(store._channels[store.members[0]], no_token).open() as renewing:
        return await renewing.renew(1)


async def provoked(
    script: Callable[[Peer], object],
    transport: Transport,
    attempt: Callable[[EtcdStore], Awaitable[object]] = put,
) -> Fault:
    """Return the fault of an attempt, of a write if none is given, at a scripted server."""
    async with serving(script) as port:  # type: ignore[arg-type] # awaitable, as all scripts are
        store = EtcdStore([f"127.0.0.1:{port}"], transport=transport)
        try:
            fault = await fault_of(attempt(store))
        finally:
            await store.aclose()
    return fault


def words(fault: Fault) -> str:
    """Return what is said, without how gRPC names the peer's mistake in HTTP/2."""
    return re.sub(r"(Failed parsing HTTP/2) \(.*", r"\1", fault.brief)


async def both(
    script: Callable[[Peer], object], attempt: Callable[[EtcdStore], Awaitable[object]] = put
) -> tuple[Fault, Fault]:
    """Return the faults on either transport."""
    return await provoked(script, "grpc", attempt), await provoked(script, "http2", attempt)


@pytest.mark.parametrize("trouble", AFTER.values(), ids=AFTER)
async def test_a_call_that_was_sent(trouble: Callable[[Peer], object]) -> None:
    """Whatever becomes of a request, it means the same and is said in the same words."""

    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.request()
        trouble(peer)
        await peer.end()

    grpcs, ours = await both(script)
    assert (meaning(ours), words(ours), ours.tls) == (meaning(grpcs), words(grpcs), grpcs.tls)


@pytest.mark.parametrize("first", BEFORE.values(), ids=BEFORE)
async def test_a_call_that_was_never_sent(first: bytes | None) -> None:
    """Whatever is at the other end instead of a server, it means the same and is said in the same words."""

    async def script(peer: Peer) -> None:
        if first is None:
            # What was not read would make the system reset the connection, which gRPC has other words for.
            await peer._reader.read(65_536)
        else:
            await peer.begin(first)
            await peer.end()

    grpcs, ours = await both(script)
    assert (meaning(ours), words(ours), ours.hung_up) == (meaning(grpcs), words(grpcs), grpcs.hung_up)
    assert not ours.applied


@pytest.mark.parametrize("attempt", [put, read, watch, renew])
async def test_a_reply_that_is_no_message(attempt: Callable[[EtcdStore], Awaitable[object]]) -> None:
    """A reply or a message that cannot be parsed is a lost connection's: the write may have been applied."""

    async def script(peer: Peer) -> None:
        await peer.begin()
        number = int((await peer.next(DataFrame)).stream_id)
        peer.say(headers(number, GRPC), data(number, message(b"\xff")))
        if attempt in (put, read):
            peer.say(headers(number, OK, "END_STREAM"))
        await peer.end()

    faults = await both(script, attempt)
    assert {(meaning(fault), fault.message) for fault in faults} == {
        (("connection_lost", True, True), "Exception deserializing response!")
    }


async def test_a_reply_is_a_reply() -> None:
    """The scripted server can also do what it should."""

    async def script(peer: Peer) -> None:
        await peer.begin(settings())
        while True:
            peer.say(reply(await peer.request(), b""))

    for transport in ("grpc", "http2"):
        async with serving(script) as port:
            store = EtcdStore([f"127.0.0.1:{port}"], transport=transport)
            try:
                await store.call(Put(b"k", b"v"), member=store.members[0], timeout=5)
            finally:
                await store.aclose()
