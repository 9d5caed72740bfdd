"""Calls against a server that answers as it is told: how each ends, and that each ends."""

from __future__ import annotations

import asyncio

import pytest
from hyperframe import frame as frames

from tests.etcd.http2.peer import (
    GRPC,
    OK,
    Pairs,
    Peer,
    calling,
    data,
    encoded,
    ending,
    grow,
    headers,
    message,
    reply,
    reset,
    settings,
    stream,
    unary,
)
from tideover.etcd.http2.channel import State
from tideover.etcd.http2.stream_call import EOF
from tideover.etcd.rpc_errors import RpcError, UsageError

pytestmark = pytest.mark.anyio

REFUSED = (("grpc-status", "3"), ("grpc-message", "etcdserver: user name is empty"))


@pytest.fixture
def anyio_backend() -> str:
    """The transport is asyncio's."""
    return "asyncio"


async def answering(peer: Peer, *parts: bytes) -> None:
    """Answer the first call with frames of stream 1, and wait for the end."""
    await peer.begin()
    await peer.request()
    peer.say(*parts)
    await peer.end()


# Good replies ----------------------------------------------------------------------------------------------------


async def test_a_request_is_one_write() -> None:
    """A call is HEADERS and DATA in one piece, right after the connection is there; its reply is returned."""
    writes: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.begin()
        while not isinstance(frame := await peer.next(), frames.SettingsFrame) or "ACK" not in frame.flags:
            pass
        for _ in range(2):
            writes.append(await peer._reader.read(65_536))
            peer.say(reply(2 * len(writes) - 1))
        await peer.end()

    async with calling(script) as channel:
        assert await unary(channel) == b"reply"
        assert await unary(channel) == b"reply"
    for written in writes:
        size = int.from_bytes(written[:3], "big")
        assert written[3:5] == b"\1\4"
        assert written[9 + size + 9 :] == message(b"request")


async def test_headers_of_a_request() -> None:
    """A request names its method, its time-out and what it was given, and says that it speaks gRPC."""
    seen: dict[str, str] = {}

    async def script(peer: Peer) -> None:
        await peer.begin()
        seen.update(peer.decoded(await peer.next(frames.HeadersFrame)))
        peer.say(reply(1))
        await peer.end()

    async with calling(script) as channel:
        call = channel.unary_unary("/a.B/C", bytes, bytes)
        await call(b"", timeout=2.0, metadata=(("hasleader", "true"), ("token", "x" * 300)))
    assert seen.pop("grpc-timeout") == "2000001u"
    assert seen.pop("user-agent").startswith("tideover/")
    assert seen.pop(":authority").startswith("127.0.0.1:")
    assert seen == {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/a.B/C",
        "te": "trailers",
        "content-type": "application/grpc",
        "hasleader": "true",
        "token": "x" * 300,
    }


def padded(payload: bytes) -> bytes:
    """Return DATA of stream 1 with padding."""
    return frames.DataFrame(1, payload, pad_length=200, flags=["PADDED"]).serialize()


def in_parts(pairs: Pairs, *flags: str) -> bytes:
    """Return a header block of stream 1 in HEADERS with padding and priority, and two CONTINUATIONs."""
    block = encoded(pairs)
    first = frames.HeadersFrame(1, block[:3], pad_length=9, flags=["PADDED", "PRIORITY", *flags])
    second = frames.ContinuationFrame(1, block[3:5])
    third = frames.ContinuationFrame(1, block[5:], flags=["END_HEADERS"])
    return b"".join(each.serialize() for each in (first, second, third))


GOOD = {
    "padding and CONTINUATION": (
        in_parts(GRPC),
        padded(message(b"reply")[:4]),
        padded(message(b"reply")[4:]),
        in_parts(OK, "END_STREAM"),
    ),
    "an empty frame": (headers(1, GRPC), data(1, b""), data(1, message(b"reply")), headers(1, OK, "END_STREAM")),
    "interim headers": (headers(1, ((":status", "103"),)), reply(1)),
    "no grpc-message": (
        headers(1, GRPC),
        data(1, message(b"reply")),
        headers(1, (("grpc-status", "0"),), "END_STREAM"),
    ),
    "more headers": (
        headers(1, (*GRPC, ("trailer", "Grpc-Status"), ("trailer", "Grpc-Message"), ("server", "x"))),
        data(1, message(b"reply")),
        headers(1, OK, "END_STREAM"),
    ),
    "PING within": (frames.PingFrame(0, b"12345678").serialize(), reply(1)),
    "a kind that nobody knows": (b"\0\0\1\xee\0\0\0\0\0x", reply(1)),
    "PRIORITY": (frames.PriorityFrame(1, 0, 15).serialize(), reply(1)),
    "reset after the end": (reply(1), reset(1, 0)),
    "reset of a forgotten stream": (reply(1), reset(1, 8), grow(1, 5), data(1, b"late")),
}


@pytest.mark.parametrize("parts", GOOD.values(), ids=GOOD)
async def test_replies_in_all_their_forms(parts: tuple[bytes, ...]) -> None:
    """A reply is found in whatever frames it comes, and the connection goes on."""

    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.request()
        peer.say(*parts)
        peer.say(reply(await peer.request()))
        await peer.end()

    async with calling(script) as channel:
        assert await unary(channel) == b"reply"
        assert await unary(channel) == b"reply"


async def test_one_byte_at_a_time() -> None:
    """A reply may arrive in single bytes."""

    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.request()
        for byte in reply(1):
            peer.say(bytes((byte,)))
            await asyncio.sleep(0)
        await peer.end()

    async with calling(script) as channel:
        assert await unary(channel) == b"reply"


# Ends of a call --------------------------------------------------------------------------------------------------

LOST = "Stream removed"
ENDS = {
    "trailers only": ((headers(1, (*GRPC, *REFUSED), "END_STREAM"),), "INVALID_ARGUMENT", "user name is empty"),
    "headers and trailers": (
        (headers(1, GRPC), headers(1, REFUSED, "END_STREAM")),
        "INVALID_ARGUMENT",
        "user name is empty",
    ),
    "trailers only of nginx": (
        (headers(1, (*GRPC, ("content-length", "0"), ("server", "nginx"), *REFUSED), "END_STREAM"),),
        "INVALID_ARGUMENT",
        "user name is empty",
    ),
    "an empty message": (
        (headers(1, GRPC), headers(1, (("grpc-status", "14"), ("grpc-message", "")), "END_STREAM")),
        "UNAVAILABLE",
        "",
    ),
    "a code that nobody knows": (
        (headers(1, GRPC), headers(1, (("grpc-status", "99"), ("grpc-message", "what")), "END_STREAM")),
        "UNKNOWN",
        "what",
    ),
    "HTTP's status alone": ((headers(1, ((":status", "404"),), "END_STREAM"),), "UNIMPLEMENTED", "status: 404"),
    "a page for people": (
        (headers(1, ((":status", "503"), ("content-type", "text/html"))), data(1, b"<html>", "END_STREAM")),
        "UNAVAILABLE",
        "Received http2 header with status: 503",
    ),
    "no trailers": (
        (headers(1, GRPC), data(1, message(b"x"), "END_STREAM")),
        "UNKNOWN",
        "Data frame with END_STREAM flag received",
    ),
    "no status": ((headers(1, GRPC, "END_STREAM"),), "UNKNOWN", "No status received"),
    "no message": ((headers(1, GRPC), headers(1, OK, "END_STREAM")), "INTERNAL", LOST),
    "two messages": ((headers(1, GRPC), data(1, message(b"x") * 2)), "INTERNAL", LOST),
    "compressed": ((headers(1, GRPC), data(1, b"\1\0\0\0\1x")), "INTERNAL", "Compression bit set"),
    "reset": ((reset(1, 2),), "INTERNAL", "RST_STREAM (Received RST_STREAM with error code 2)"),
    "cancelled": ((reset(1, 8),), "CANCELLED", "RST_STREAM (Received RST_STREAM with error code 8)"),
}


@pytest.mark.parametrize(("parts", "code", "said"), ENDS.values(), ids=ENDS)
async def test_how_a_call_ends(parts: tuple[bytes, ...], code: str, said: str) -> None:
    """Each end of one call is said in gRPC's words, and harms no other call of the connection."""

    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.request()
        peer.say(*parts)
        peer.say(reply(await peer.request()))
        await peer.end()

    async with calling(script) as channel:
        call = unary(channel)
        assert (await ending(call))[0] == code
        assert said in await call.details()
        with pytest.raises(RpcError, match=code):
            await call
        assert await unary(channel) == b"reply"


BREAKS = {
    "junk": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a frame that is too large": b"\xff\xff\xff\0\0\0\0\0\1",
    "a header block that is none": frames.HeadersFrame(1, b"\xff" * 6, flags=["END_HEADERS"]).serialize(),
    "CONTINUATION alone": frames.ContinuationFrame(1, b"", flags=["END_HEADERS"]).serialize(),
    "something within a header block": frames.HeadersFrame(1, b"").serialize() + data(1, b"x"),
    "a stream that nobody opened": data(3, b"x"),
    "a stream of the server's": headers(2, GRPC),
    "DATA of no stream": data(1, b"")[:5] + bytes(4),
    "PUSH_PROMISE": frames.PushPromiseFrame(1, 2, b"", flags=["END_HEADERS"]).serialize(),
    "a window that does not grow": bytes((0, 0, 4, 8, 0, 0, 0, 0, 1, 0, 0, 0, 0)),
    "a window beyond its limit": grow(0, 2**31 - 1),
    "a stream's window beyond its limit": grow(1, 2**31 - 1),
    "a PING of another length": bytes((0, 0, 1, 6, 0, 0, 0, 0, 0, 0)),
    "SETTINGS of a stream": settings()[:5] + b"\0\0\0\1",
    "padding without end": bytes((0, 0, 1, 0, 8, 0, 0, 0, 1, 9)),
}


@pytest.mark.parametrize("junk", BREAKS.values(), ids=BREAKS)
async def test_who_breaks_the_rules_is_left(junk: bytes) -> None:
    """A server that does not keep to HTTP/2 is told why and left; calls end at once, the next one reconnects."""
    told: list[frames.GoAwayFrame] = []

    async def script(peer: Peer) -> None:
        await peer.begin()
        request = await peer.request()
        if peer.number == 0:
            peer.say(junk)
            told.append(await peer.next(frames.GoAwayFrame))
        else:
            peer.say(reply(request))
        await peer.end()

    async with calling(script) as channel:
        call = unary(channel)
        assert (await ending(call))[0] == "UNAVAILABLE"
        assert "Failed parsing HTTP/2" in await call.details()
        assert await unary(channel) == b"reply"
    assert told[0].error_code != 0


@pytest.mark.parametrize("size", [60, 5000])
async def test_header_blocks_without_end(size: int) -> None:
    """CONTINUATION after CONTINUATION is taken up to 64 KiB: by then the connection ends."""
    taken: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.request()
        peer.say(frames.HeadersFrame(1, b"").serialize())
        for number in range(200_000 // size):
            peer.say(frames.ContinuationFrame(1, bytes(size)).serialize())
            taken.append(number)
        await peer.end()

    async with calling(script) as channel:
        assert "header block too large" in (await ending(unary(channel)))[1]


@pytest.mark.parametrize("close", [Peer.close, Peer.abort])
async def test_a_connection_that_ends_under_a_call(close: object) -> None:
    """A call whose connection ends may have been applied; the next one has a new connection."""

    async def script(peer: Peer) -> None:
        await peer.begin()
        request = await peer.request()
        if peer.number == 0:
            close(peer)  # type: ignore[operator]
        else:
            peer.say(reply(request))
            await peer.end()

    async with calling(script) as channel:
        assert await ending(unary(channel)) == ("UNAVAILABLE", "Stream removed (Socket closed)")
        assert await unary(channel) == b"reply"


async def test_deadlines_and_cancelling() -> None:
    """A call ends by its time-out or its caller; the server is told to forget it, and others go on."""
    resets: list[tuple[int, int]] = []

    async def script(peer: Peer) -> None:
        await peer.begin()
        peer.say(reply(await peer.request()))
        for _ in range(2):
            await peer.request()
        for _ in range(2):
            frame = await peer.next(frames.RstStreamFrame)
            resets.append((frame.stream_id, frame.error_code))
        peer.say(reply(await peer.request()))
        await peer.end()

    async with calling(script) as channel:
        await unary(channel)
        late, left = unary(channel, timeout=0.05), unary(channel)
        assert await ending(late) == ("DEADLINE_EXCEEDED", "Deadline Exceeded")
        waiting = asyncio.ensure_future(left)
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (left.done(), await left.code() is left.status) == (True, True)
        assert not left.cancel()
        assert await unary(channel) == b"reply"
    assert resets == [(3, 8), (5, 8)]


async def test_waiting_for_a_status_is_not_the_call() -> None:
    """Cancelling those who wait for a status leaves the call alone; each of them is told, and callbacks once."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.request()
        await go_on.wait()
        peer.say(reply(1))
        await peer.end()

    async with calling(script) as channel:
        call = unary(channel)
        ended: list[object] = []
        call.add_done_callback(ended.append)
        waiting = [asyncio.ensure_future(call.code()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        go_on.set()
        assert await asyncio.gather(*waiting[1:]) == [call.status or await call.code()] * 2
        assert await call == b"reply"
        call.add_done_callback(ended.append)
        assert ended == [call, call]


async def test_a_reply_that_does_not_parse() -> None:
    """Bytes that are no message end the call with an error."""

    def refuse(reply: bytes) -> None:
        raise ValueError("secret")

    async with calling(lambda peer: answering(peer, reply(1))) as channel:
        call = channel.unary_unary("/a.B/C", bytes, refuse)(b"")
        assert await ending(call) == ("INTERNAL", "Exception deserializing response!")


# Streams ---------------------------------------------------------------------------------------------------------


async def test_a_stream_both_ways() -> None:
    """Requests arrive and replies come back in order, several in a frame or one in several; then the end."""

    async def script(peer: Peer) -> None:
        await peer.begin()
        assert (await peer.next(frames.DataFrame)).data == message(b"a")
        parts = message(b"1") + message(b"22") + message(b"333")
        peer.say(headers(1, GRPC), data(1, parts[:8]), data(1, parts[8:]))
        assert (await peer.next(frames.DataFrame)).data == message(b"b")
        assert "END_STREAM" in (await peer.next(frames.DataFrame)).flags
        peer.say(headers(1, OK, "END_STREAM"))
        await peer.end()

    async with calling(script) as channel:
        call = stream(channel)
        await call.write(b"a")
        assert [await call.read() for _ in range(3)] == [b"1", b"22", b"333"]
        await call.write(b"b")
        await call.done_writing()
        assert await call.read() is EOF
        assert not EOF
        with pytest.raises(UsageError):
            await call.write(b"c")


async def test_a_stream_that_fails_has_been_read_before() -> None:
    """Replies that came before an error are read, then the error is raised, by writes as well."""
    refused = headers(1, REFUSED, "END_STREAM")

    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.next(frames.DataFrame)
        peer.say(headers(1, GRPC), data(1, message(b"1")), refused)
        await peer.next(frames.RstStreamFrame)
        await peer.end()

    async with calling(script) as channel:
        call = stream(channel)
        await call.write(b"a")
        assert await call.read() == b"1"
        for use in (call.read, lambda: call.write(b"b")):
            with pytest.raises(RpcError, match="user name is empty"):
                await use()


async def test_a_reader_that_is_cancelled_loses_nothing() -> None:
    """Cancelling a read leaves the stream alone: the next read gets what comes."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.next(frames.DataFrame)
        await go_on.wait()
        peer.say(headers(1, GRPC), data(1, message(b"1")))
        await peer.end()

    async with calling(script) as channel:
        call = stream(channel)
        await call.write(b"a")
        reading = asyncio.ensure_future(call.read())
        await asyncio.sleep(0)
        reading.cancel()
        go_on.set()
        assert await call.read() == b"1"
        call.cancel()
        with pytest.raises(RpcError, match="CANCELLED"):
            await call.read()


async def test_one_request_and_many_replies() -> None:
    """A call whose one request is sent at once may have many replies."""
    parts = headers(1, GRPC), data(1, message(b"1") + message(b"2")), headers(1, OK, "END_STREAM")
    async with calling(lambda peer: answering(peer, *parts)) as channel:
        call = channel.unary_stream("/a.B/C", bytes, bytes)(b"request")
        assert [await call.read() for _ in range(2)] == [b"1", b"2"]
        assert await call.read() is EOF


# A channel's end -------------------------------------------------------------------------------------------------


async def test_closing() -> None:
    """A closed channel ends its calls and takes no more; within a grace those under way may finish."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.request()
        await go_on.wait()
        peer.say(reply(1))
        await peer.end()

    async with calling(script) as channel:
        call = unary(channel)
        while channel.get_state() is not State.READY:
            await asyncio.sleep(0.01)
        asyncio.get_running_loop().call_later(0.1, go_on.set)
        await channel.close(5.0)
        assert await call == b"reply"
        assert channel.get_state(try_to_connect=True) is State.SHUTDOWN
        with pytest.raises(UsageError, match=r"Channel is closed\."):
            unary(channel)
    async with calling(script) as channel:
        go_on.clear()
        call = unary(channel)
        await channel.close()
        assert await ending(call) == ("CANCELLED", "Locally cancelled by application!")


async def test_goaway_is_said_at_the_end() -> None:
    """The server is told when the channel closes."""
    told: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.begin()
        peer.say(reply(await peer.request()))
        told.append((await peer.next(frames.GoAwayFrame)).error_code)

    async with calling(script) as channel:
        await unary(channel)
    await asyncio.sleep(0.05)
    assert told == [0]
