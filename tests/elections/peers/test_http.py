"""HTTP between candidates, on real sockets: bounded, whatever comes."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio
import anyio.to_thread
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tideover.elections.peers import http as wire
from tideover.elections.peers.http import HttpNetwork
from tideover.elections.peers.network import Silent, join_address, local_host, split_address

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, as users do."""
    return "asyncio"


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[HttpNetwork, str, list[bytes]]]:
    """Serve an echo that says 421 to "nobody"."""
    network, seen = HttpNetwork(), list[bytes]()

    def handle(body: bytes) -> tuple[int, bytes]:
        seen.append(body)
        if body == b"mistake":
            raise ZeroDivisionError
        return (421, b"") if body == b"nobody" else (200, b"echo " + body)

    port = await network.listen("127.0.0.1", 0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(network.serve, handle)
        yield network, f"127.0.0.1:{port}", seen
        tasks.cancel_scope.cancel()
    await network.aclose()


@contextmanager
def connection(address: str) -> Iterator[socket.socket]:
    """Open a plain connection."""
    with socket.create_connection(split_address(address), timeout=5) as plain:
        yield plain


def exchange(address: str, *parts: bytes, end: bool = False) -> bytes:
    """Send bytes as they are and return all that comes back."""
    received = b""
    with connection(address) as plain:
        try:
            for part in parts:
                plain.sendall(part)
            if end:
                plain.shutdown(socket.SHUT_WR)
            while chunk := plain.recv(4096):
                received += chunk
        except OSError:
            pass
    return received


async def send(address: str, *parts: bytes, end: bool = False) -> bytes:
    """Do so in a thread."""
    return await anyio.to_thread.run_sync(lambda: exchange(address, *parts, end=end))


async def test_a_request_is_answered() -> None:
    """A body goes there, and one comes back; another process at the same address counts as nobody."""
    async with serving() as (network, address, seen):
        assert await network.post(address, b"hello", timeout=2) == b"echo hello"
        assert await network.post(address, b"x" * (wire.MAX_BODY - 5), timeout=2)
        with pytest.raises(Silent) as caught:
            await network.post(address, b"nobody", timeout=2)
        assert caught.value.gone
        assert seen[0] == b"hello"


async def test_nobody_there() -> None:
    """A refused connection says that nobody is there; silence, and no address, do not."""
    network = HttpNetwork()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(Silent) as caught:
        await network.post(closed, b"", timeout=1)
    assert caught.value.gone
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        with pytest.raises(Silent) as caught:
            await network.post(f"127.0.0.1:{deaf.getsockname()[1]}", b"", timeout=0.2)
        assert not caught.value.gone
    for address in ("", "x", "x:", "x:0", "x:99999", "a b:1", "x\r\ny:1", "é:1", "[::1:1", "x:1" * 200):
        with pytest.raises(Silent):
            await network.post(address, b"", timeout=1)


HEAD = b"POST /tideover/peers HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"POST /tideover/peers SMTP/1\r\n\r\n", 400),
        (b"POST /tideover/peers HTTP/1.1\r\nContent-Length: 1\r\n\r\na", 400),
        (b"GET /tideover/peers HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (HEAD + b"\r\n", 411),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", 411),
        (HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", 411),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400),
        (HEAD + "Content-Length: \u00b2\r\n\r\n".encode("latin-1"), 400),
        (HEAD + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
        (HEAD + b"Content-Length: 16385\r\n\r\n", 413),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (HEAD + b" folded\r\nContent-Length: 1\r\n\r\na", 400),
        (HEAD + b"X: " + b"y" * 5000, 431),
        (HEAD + b"X: y\r\n" * 2000, 431),
        (HEAD + b"Content-Length: 7\r\n\r\nmistake", 503),
    ],
)
async def test_what_is_no_request(request_: bytes, status: int) -> None:
    """What cannot be understood gets its status and is closed, and the next request is answered."""
    async with serving() as (network, address, _):
        answer = await send(address, request_)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode()) or (status == 431 and answer == b"")
        assert await network.post(address, b"still there", timeout=2) == b"echo still there"


async def test_in_pieces() -> None:
    """A request that arrives byte by byte is the same request."""
    async with serving() as (_, address, seen):
        whole = HEAD + b"Content-Length: 2\r\n\r\nhi"
        assert (await send(address, *[bytes([byte]) for byte in whole])).endswith(b"echo hi")
        assert seen == [b"hi"]


async def test_half_closed() -> None:
    """Who stops in the middle gets no answer, and nothing is made of the half."""
    async with serving() as (network, address, seen):
        for half in (b"", b"POST", HEAD, HEAD + b"Content-Length: 5\r\n\r\nabc"):
            assert await send(address, half, end=True) == b""
        assert seen == []
        assert await network.post(address, b"x", timeout=2) == b"echo x"


async def test_who_says_nothing_keeps_nobody_out() -> None:
    """With 300 connections that say nothing, or a byte at a time, a request is answered within half a second."""
    async with serving() as (network, address, _):
        idle = [socket.create_connection(split_address(address), timeout=5) for _ in range(300)]
        try:
            for one in idle[::2]:
                one.send(b"P")
            began = time.monotonic()
            assert await network.post(address, b"x", timeout=2) == b"echo x"
            assert time.monotonic() - began < 0.5
            assert network._busy <= 2 * wire.MAX_CONNECTIONS
        finally:
            for one in idle:
                one.close()


async def test_who_is_slow_is_given_up() -> None:
    """A connection that does not say what it wants within 2 s is closed."""
    async with serving() as (network, address, _):
        began = time.monotonic()
        assert await send(address, HEAD) == b""
        assert 1.5 < time.monotonic() - began < 4
        assert network._busy == 0


async def test_a_storm() -> None:
    """After two thousand connections, opened and dropped as fast as can be, nothing is left over."""
    async with serving() as (network, address, _):

        def storm() -> None:
            for number in range(2000):
                with connection(address) as plain:
                    if number % 3:
                        plain.send(b"\x00" * (number % 50))
            # Connections are accepted in their order: with this answer the last one of the storm has been.
            exchange(address, b"nonsense\r\n\r\n")

        await anyio.to_thread.run_sync(storm)
        with anyio.fail_after(5):
            while network._busy:
                await anyio.sleep(0.05)
        assert await network.post(address, b"x", timeout=2) == b"echo x"


async def test_an_answer_that_is_none() -> None:
    """Whatever a server answers, the asker is told that there was no answer, within its timeout."""
    answers = [b"", b"junk\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 two OK\r\nContent-Length: 0\r\n\r\n"]
    answers += [b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 9000]
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def answer(text: bytes) -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(text)

        for text in answers:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.to_thread.run_sync, answer, text)
                with pytest.raises(Silent):
                    await HttpNetwork().post(address, b"x", timeout=2)


class Pieces:
    """A stream of bytes in memory."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        if not self._pieces:
            raise anyio.EndOfStream
        piece = self._pieces.pop(0)
        if len(piece) > max_bytes:
            self._pieces.insert(0, piece[max_bytes:])
        return piece[:max_bytes]


TOKENS = st.sampled_from(
    [b"POST ", b"/tideover/peers ", b"HTTP/1.1", b"\r\n", b"\r\n\r\n", b":", b"Content-Length: ", b"5", b"0"]
)


@settings(
    max_examples=500,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.one_of(st.binary(max_size=40), TOKENS), max_size=25))
async def test_garbage(pieces: list[bytes]) -> None:
    """Bytes of any kind end in a status or in the end of the stream, and in nothing else."""
    try:
        answer = await wire._answer(Pieces(pieces), lambda body: (200, body))  # type: ignore[arg-type]
    except anyio.EndOfStream:
        return
    assert answer.startswith(b"HTTP/1.1 ")


def test_addresses() -> None:
    """Host and port are told apart, IPv6 too; this machine's address is found without a packet."""
    for host, port in (("10.0.0.7", 80), ("::1", 80), ("a-b.example", 65_535)):
        assert split_address(join_address(host, port)) == (host, port)
    assert local_host("127.0.0.1", 9) == "127.0.0.1"


@pytest.mark.parametrize(
    "address", ["h:007000123", "h:65536", "h:0", "h:" + "9" * 5000, "h:\u0667", "xn--a:7", "a" * 64 + ".b:7"]
)
async def test_an_address_that_is_none_is_silent(address: str) -> None:
    """What a record says about a peer may be anything: nobody answers there, and nothing else comes out."""
    with pytest.raises(Silent):
        await HttpNetwork().post(address, b"x", timeout=2)
