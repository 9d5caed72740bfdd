"""From an endpoint to a connection: several addresses of a name, and names that lead nowhere."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.etcd.http2.peer import Peer, calling, channel_to, ending, reply, serving, unary
from tideover.etcd.http2.addresses import Info, connect_first, interleaved, look_up, spelled
from tideover.etcd.http2.channel import Channel
from tideover.etcd.http2.dialling import Target
from tideover.etcd.http2.options import Options

pytestmark = pytest.mark.anyio

V4, V6 = socket.AF_INET, socket.AF_INET6


@pytest.fixture
def anyio_backend() -> str:
    """The transport is asyncio's."""
    return "asyncio"


@contextmanager
def full() -> Iterator[int]:
    """Give a port where connecting hangs, as with packets that are dropped: its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port, waiting = server.getsockname()[1], []
        for _ in range(3):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            waiting.append(client)
        time.sleep(0.01)
        try:
            yield port
        finally:
            for client in waiting:
                client.close()


async def echoing(peer: Peer) -> None:
    """Answer all calls."""
    await peer.begin()
    while True:
        peer.say(reply(await peer.request()))


def test_families_take_turns() -> None:
    """Addresses are tried in the system's order, but for the families, which take turns; none is lost."""
    found: list[Info] = [(V6, ("a",)), (V6, ("b",)), (V6, ("c",)), (V4, ("d",)), (V4, ("e",))]
    assert [address for _, (address,) in interleaved(found)] == ["a", "d", "b", "e", "c"]
    assert interleaved([]) == []


async def test_an_address_is_not_looked_up() -> None:
    """What is an address already needs no thread; brackets are for IPv6 alone."""
    assert await look_up("127.0.0.1", 1) == [(V4, ("127.0.0.1", 1))]
    assert await look_up("::1", 1) == [(V6, ("::1", 1))]
    assert [spelled((V4, ("10.0.0.1", 1))), spelled((V6, ("::1", 1, 0, 0)))] == ["ipv4:10.0.0.1:1", "ipv6:[::1]:1"]


async def test_a_dead_address_is_passed_by() -> None:
    """Where the first address is silent the next one is tried beside it after 250 ms."""
    with full() as dead:
        async with serving(echoing) as port:
            began = time.monotonic()
            sock = await connect_first([(V4, ("127.0.0.1", dead)), (V4, ("127.0.0.1", port))])
            assert sock.getpeername()[1] == port
            assert 0.2 < time.monotonic() - began < 2
            sock.close()


async def test_a_refusal_waits_for_nothing() -> None:
    """Where the first address refuses, the next one is tried at once; where all do, the last one says why."""
    async with serving(echoing) as port:
        began = time.monotonic()
        sock = await connect_first([(V4, ("127.0.0.1", 1)), (V4, ("127.0.0.1", port))])
        assert time.monotonic() - began < 0.2
        sock.close()
    with pytest.raises(ConnectionRefusedError):
        await connect_first([(V4, ("127.0.0.1", 1)), (V4, ("127.0.0.1", 2))])


async def test_a_name_with_several_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call to a name goes to whichever of its addresses answers."""

    async def found(host: str, port: int) -> list[Info]:
        return [(V4, ("127.0.0.1", 1)), (V4, ("127.0.0.1", port))]

    monkeypatch.setattr("tideover.etcd.http2.dialling.look_up", found)
    async with serving(echoing) as port:
        channel = Channel(Target("etcd.internal", port), authority="etcd.internal", options=Options())
        assert await unary(channel) == b"reply"
        await channel.close()


async def test_a_name_that_nobody_has() -> None:
    """A host that cannot be looked up is said to be that; so is one that cannot be a name."""
    for name in ("no.such.host.invalid", "a" * 300 + ".invalid"):
        channel = Channel(Target(name, 2379), authority=name, options=Options())
        code, details = await ending(unary(channel))
        assert code == "UNAVAILABLE"
        assert details.startswith(f"errors resolving {name}:2379: ")
        await channel.close()


async def test_a_resolver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up without end ends with the patience for connecting, and keeps nobody from closing."""

    def hang(*args: object, **options: object) -> None:
        time.sleep(1)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    channel = Channel(Target("etcd.internal", 1), authority="x", options=Options(connect_timeout=0.1))
    assert "address lookup timed out" in (await ending(unary(channel)))[1]
    await channel.close()


async def test_half_open_connections() -> None:
    """A connect that nobody answers ends with the patience for connecting, provably unsent."""
    with full() as port:
        async with channel_to(port, Options(connect_timeout=0.2)) as channel:
            began = time.monotonic()
            code, details = await ending(unary(channel))
            assert time.monotonic() - began < 2
            assert (code, "Timeout occurred" in details) == ("UNAVAILABLE", True)
            assert "failed to connect to all addresses" in details


async def test_the_kernel_holds_little() -> None:
    """What is not sent yet waits here, where a PING or a small request does not stand behind megabytes."""
    async with calling(echoing) as channel:
        await unary(channel)
        (connection,) = channel._connector._connections
        sock = connection._transport.get_extra_info("socket")
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 65_536
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_one_loop_after_another() -> None:
    """A channel of one event loop leaves nothing that the next one stumbles over."""

    async def use() -> bytes:
        async with calling(echoing) as channel:
            found: bytes = await unary(channel)
            return found

    assert [asyncio.run(use()) for _ in range(3)] == [b"reply"] * 3


@pytest.fixture
def uvloop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """uvloop, from a folder of its own: in the environment of the tests it would become uvicorn's event loop."""
    if folder := os.environ.get("TIDEOVER_UVLOOP_DIR"):
        monkeypatch.syspath_prepend(folder)
    yield pytest.importorskip("uvloop")
    if folder:
        for name in [name for name in sys.modules if name.partition(".")[0] == "uvloop"]:
            del sys.modules[name]


def test_uvloop(uvloop: Any) -> None:
    """The same on uvloop, with connecting, closing and broken connections."""

    async def break_off(peer: Peer) -> None:
        await peer.begin()
        await peer.request()
        peer.abort()

    async def use() -> list[object]:
        async with calling(echoing) as channel, calling(break_off) as broken, channel_to(1) as nowhere:
            large = await unary(channel, bytes(60_000))
            return [large, (await ending(unary(broken)))[0], (await ending(unary(nowhere)))[0]]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(use()) == [b"reply", "UNAVAILABLE", "UNAVAILABLE"]
