"""What concerns all calls of a connection: room, windows, PING, going away, and connecting again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio
import pytest
from hyperframe import frame as frames

from tests.etcd.http2.peer import (
    GRPC,
    OK,
    Peer,
    calling,
    channel_to,
    data,
    ending,
    goaway,
    grow,
    headers,
    message,
    reply,
    reset,
    serving,
    settings,
    stream,
    unary,
)
from tideover.etcd.http2.channel import State
from tideover.etcd.http2.options import Options
from tideover.store.faults import FaultKind, classify

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The transport is asyncio's."""
    return "asyncio"


async def until(true: Callable[[], object]) -> None:
    """Wait for something to be true."""
    with anyio.fail_after(5):
        while not true():
            await asyncio.sleep(0.005)


async def echoing(peer: Peer) -> None:
    """Answer all calls."""
    await peer.begin()
    while True:
        peer.say(reply(await peer.request()))


def meaning(code: str, details: str) -> tuple[FaultKind, bool]:
    """Return what an end is to the store: its kind, and whether a write may have been applied."""
    fault = classify(code, details)
    assert fault.outage
    return fault.kind, fault.applied


# Room for calls --------------------------------------------------------------------------------------------------


async def test_calls_wait_for_room() -> None:
    """A server that takes two calls at once is sent no third; those that wait end with their time-outs, unsent."""
    open_, most = set(), 0

    async def script(peer: Peer) -> None:
        nonlocal most
        await peer.begin(settings(max_concurrent_streams=2))
        for _ in range(5):
            open_.add(await peer.request())
            most = max(most, len(open_))
            if len(open_) == 2:
                await asyncio.sleep(0.02)
                peer.say(reply(open_.pop()))
        while open_:
            peer.say(reply(open_.pop()))
        await peer.end()

    async with calling(script) as channel:
        calls = [unary(channel) for _ in range(5)]
        late = unary(channel, timeout=0.001)
        assert await ending(late) == ("DEADLINE_EXCEEDED", "Deadline Exceeded")
        assert await asyncio.gather(*calls) == [b"reply"] * 5
    assert most == 2


async def test_a_server_without_room() -> None:
    """A server that takes no calls at all is sent none: they end with their time-outs, and nothing is kept."""

    async def script(peer: Peer) -> None:
        await peer.begin(settings(max_concurrent_streams=0))
        await peer.end()

    async with calling(script) as channel:
        for _ in range(3):
            assert (await ending(unary(channel, timeout=0.05)))[0] == "DEADLINE_EXCEEDED"
        (connection,) = channel._connector._connections
        assert not connection.busy


async def test_room_that_comes_later() -> None:
    """SETTINGS in mid-connection may give room to calls that wait."""

    async def script(peer: Peer) -> None:
        await peer.begin(settings(max_concurrent_streams=0))
        await asyncio.sleep(0.05)
        peer.say(settings(max_concurrent_streams=5))
        peer.say(reply(await peer.request()))
        await peer.end()

    async with calling(script) as channel:
        assert await unary(channel) == b"reply"


# Windows ---------------------------------------------------------------------------------------------------------


async def received(peer: Peer, size: int) -> bytes:
    """Take so many bytes of stream 1, and see that the client sends no more than that."""
    taken = b""
    while len(taken) < size:
        taken += (await peer.next(frames.DataFrame)).data
    assert len(taken) == size
    return taken


async def test_windows_at_their_edges() -> None:
    """A request is sent as far as both windows go, however they grow: by WINDOW_UPDATE or by SETTINGS."""
    payload = bytes(range(256)) * 400

    async def script(peer: Peer) -> None:
        await peer.begin(settings(initial_window_size=10))
        taken = await received(peer, 10)
        peer.say(grow(1, 1))
        taken += await received(peer, 1)
        # Less than nothing is left now, and then one byte.
        peer.say(settings(initial_window_size=0), grow(1, 11))
        taken += await received(peer, 1)
        peer.say(settings(initial_window_size=100_000))
        # The connection's window is what remains of 65,535.
        taken += await received(peer, 65_535 - 12)
        peer.say(grow(0, 1 << 20), grow(1, 1 << 20))
        taken += await received(peer, len(payload) + 5 - 65_535)
        assert taken == message(payload)
        assert "END_STREAM" in peer.seen[-1].flags
        peer.say(reply(1))
        await peer.end()

    async with calling(script) as channel:
        assert await unary(channel, payload) == b"reply"


async def test_frames_are_as_large_as_the_server_takes_them() -> None:
    """DATA has 16 KiB at the most, or what SETTINGS allows."""
    payload = bytes(60_000)

    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.request()
        peer.say(settings(max_frame_size=30_000), grow(0, 1 << 20), reply(1))
        await peer.request()
        peer.say(reply(3))
        await peer.end()
        sizes = [(each.stream_id, len(each.data)) for each in peer.seen if isinstance(each, frames.DataFrame)]
        assert max(size for number, size in sizes if number == 1) == 16_384
        assert max(size for number, size in sizes if number == 3) == 30_000

    async with calling(script) as channel:
        assert await unary(channel, payload) == b"reply"
        assert await unary(channel, payload) == b"reply"


async def test_large_requests_take_turns() -> None:
    """A small request passes while a large one waits for the window of its own stream."""

    async def script(peer: Peer) -> None:
        await peer.begin(settings(initial_window_size=20_000))
        await received(peer, 20_000)
        peer.say(reply(await peer.request()))
        peer.say(grow(1, 20_000))
        peer.say(reply(await peer.request()))
        await peer.end()

    async with calling(script) as channel:
        large = unary(channel, bytes(30_000))
        assert await unary(channel, b"small") == b"reply"
        assert not large.done()
        assert await large == b"reply"


async def test_a_request_that_is_refused_early_is_sent_no_further() -> None:
    """A stream that ends before its request was sent gives up what is unsent; the others have the room."""

    async def script(peer: Peer) -> None:
        await peer.begin()
        await received(peer, 65_535)
        refused = (*GRPC, ("grpc-status", "3"), ("grpc-message", "etcdserver: request is too large"))
        peer.say(headers(1, refused, "END_STREAM"), reset(1, 0))
        peer.say(grow(0, 65_535))
        assert (await peer.next(frames.RstStreamFrame)).stream_id == 1
        peer.say(reply(await peer.request()))
        await peer.end()

    async with calling(script) as channel:
        call = unary(channel, bytes(200_000))
        assert await ending(call) == ("INVALID_ARGUMENT", "etcdserver: request is too large")
        assert await unary(channel, bytes(60_000)) == b"reply"


async def test_large_replies_and_what_the_server_is_told() -> None:
    """A reply of many windows is taken whole: the server is told to go on before it has to stop."""
    size, allowed = 6_000_000, {0: 0, 1: 1 << 20}

    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.request()
        updates = [each for each in peer.seen if isinstance(each, frames.WindowUpdateFrame)]
        allowed[0] = 65_535 + sum(each.window_increment for each in updates)
        peer.say(headers(1, GRPC))
        rest = message(bytes(size))
        while rest:
            part = min(len(rest), 16_384, *allowed.values())
            if part:
                peer.say(data(1, rest[:part]))
                rest = rest[part:]
                allowed.update({number: left - part for number, left in allowed.items()})
            else:
                update = await peer.next(frames.WindowUpdateFrame)
                allowed[update.stream_id] += update.window_increment
        peer.say(headers(1, OK, "END_STREAM"))
        await peer.end()

    async with calling(script) as channel:
        assert await unary(channel, timeout=20) == bytes(size)


async def test_a_stream_that_is_not_read_stops_its_server() -> None:
    """Of a stream whose replies nobody reads only so much is taken; then reading goes on, losing nothing."""
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.begin()
        await peer.next(frames.DataFrame)
        peer.say(headers(1, GRPC))
        room = 1 << 20
        for number in range(400):
            part = data(1, message(number.to_bytes(4, "big") * 2500))
            while room < len(part) - 9:
                update = await peer.next(frames.WindowUpdateFrame)
                room += update.window_increment if update.stream_id == 1 else 0
            peer.say(part)
            room -= len(part) - 9
            sent = number
        peer.say(headers(1, OK, "END_STREAM"))
        await peer.end()

    async with calling(script) as channel:
        call = stream(channel)
        await call.write(b"a")
        await asyncio.sleep(0.3)
        assert sent * 10_000 < 2.2 * (1 << 20)
        for number in range(400):
            assert (await call.read())[:4] == number.to_bytes(4, "big")


async def test_a_server_that_sends_more_than_it_may() -> None:
    """A stream that is flooded beyond its window ends the connection, which bounds what is held."""

    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.next(frames.DataFrame)
        peer.say(headers(1, GRPC), *[data(1, message(bytes(16_000)))] * 250)
        await peer.end()

    async with calling(script) as channel:
        call = stream(channel)
        await call.write(b"a")
        assert "flow control window exceeded" in (await ending(call))[1]


async def test_a_server_that_does_not_read() -> None:
    """Requests to a server that reads nothing are held back here, end in time, and were provably not sent."""

    async def script(peer: Peer) -> None:
        await peer.begin(settings(initial_window_size=2**31 - 1))
        peer.say(grow(0, 2**31 - 1 - 65_535))
        peer._writer.transport.pause_reading()  # type: ignore[attr-defined] # of a transport that reads, too
        await asyncio.sleep(60)

    async with calling(script) as channel:
        large = [unary(channel, bytes(3_000_000), timeout=0.5) for _ in range(10)]
        await until(lambda: channel.get_state() is State.READY)
        (connection,) = channel._connector._connections
        await until(lambda: connection._sender.paused)
        small = unary(channel, timeout=0.2)
        assert small.stream == 0
        assert (await ending(small))[0] == "DEADLINE_EXCEEDED"
        for call in large:
            assert (await ending(call))[0] == "DEADLINE_EXCEEDED"
        assert connection._transport.get_write_buffer_size() < 5_000_000


# PING ------------------------------------------------------------------------------------------------------------


async def test_pings_are_answered_with_what_is_sent_next() -> None:
    """A PING's answer travels with the next request, or after 10 ms by itself."""
    ping = frames.PingFrame(0, b"abcdefgh").serialize()
    together: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.request()
        peer.say(ping, reply(1))
        together.append(await peer._reader.read(65_536))
        peer.say(reply(3))
        peer.say(ping)
        answer = await peer.next(frames.PingFrame)
        assert (answer.opaque_data, answer.flags) == (b"abcdefgh", {"ACK"})
        await peer.end()

    async with calling(script) as channel:
        await unary(channel)
        await unary(channel)
        await asyncio.sleep(0.1)
    assert together[0][:9] == b"\0\0\x08\6\1\0\0\0\0"
    assert together[0][17 + 3] == 1


async def test_who_floods_with_pings_and_reads_nothing_is_left() -> None:
    """Answers that are not read are held up to a bound; then the connection ends."""

    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.request()
        peer._writer.transport.pause_reading()  # type: ignore[attr-defined] # of a transport that reads, too
        ping = frames.PingFrame(0, b"abcdefgh").serialize() * 5000
        while True:
            peer.say(ping)
            await peer._writer.drain()

    async with calling(script) as channel:
        assert "too many frames to answer" in (await ending(unary(channel, timeout=30)))[1]


PATIENCE = Options(ping_after=0.2, ping_timeout=0.15)


async def test_a_silent_server_is_found_out() -> None:
    """After a silence, with calls under way, the server is sent a PING; without an answer the connection ends."""
    pings = 0

    async def script(peer: Peer) -> None:
        nonlocal pings
        await peer.begin()
        await peer.request()
        while await peer.next(frames.PingFrame):
            pings += 1

    async with calling(script, PATIENCE) as channel:
        call = unary(channel, timeout=5)
        code, details = await ending(call)
        assert meaning(code, details) == (FaultKind.CONNECTION_LOST, True)
        assert "ping timeout" in details
        assert pings == 1


async def test_whatever_is_said_is_a_sign_of_life() -> None:
    """A server that answers PINGs, or sends anything, is left alone, and asked again after each silence."""
    pings = 0

    async def script(peer: Peer) -> None:
        nonlocal pings
        await peer.begin()
        await peer.request()
        while pings < 3:
            ping = await peer.next(frames.PingFrame)
            pings += 1
            # The answer is one; a window that grows is as good.
            peer.say(frames.PingFrame(0, ping.opaque_data, flags=["ACK"]).serialize() if pings % 2 else grow(0, 1))
        peer.say(reply(1))
        await peer.end()

    async with calling(script, PATIENCE) as channel:
        assert await unary(channel, timeout=5) == b"reply"
    assert pings == 3


async def test_no_pings_without_calls() -> None:
    """A connection without calls is left in peace, however long."""

    async def script(peer: Peer) -> None:
        await peer.begin()
        peer.say(reply(await peer.request()))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(peer.next(frames.PingFrame), 0.6)

    async with calling(script, PATIENCE) as channel:
        await unary(channel)
        await asyncio.sleep(0.7)


# Going away ------------------------------------------------------------------------------------------------------


async def test_a_server_that_goes_away_in_good_order() -> None:
    """GOAWAY before the reply of its last call: that reply is taken, and the next call has a new connection."""
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.begin()
        request = await peer.request()
        if peer.number == 0:
            peer.say(goaway(request), reply(request))
            await peer.end()
            left.set()
        else:
            peer.say(reply(request))
            await peer.end()

    async with calling(script) as channel:
        assert await unary(channel) == b"reply"
        assert channel.get_state() is State.IDLE
        assert await unary(channel) == b"reply"
        await asyncio.wait_for(left.wait(), 5)


async def test_streams_outlive_a_goaway() -> None:
    """An open stream goes on over the old connection while calls go over the new one; GOAWAY may come twice."""

    async def script(peer: Peer) -> None:
        await peer.begin()
        if peer.number == 0:
            await peer.next(frames.DataFrame)
            peer.say(headers(1, GRPC), goaway(2**31 - 1), goaway(1, 0, b"max_age"))
            assert (await peer.next(frames.DataFrame)).data == message(b"b")
            peer.say(data(1, message(b"late")), headers(1, OK, "END_STREAM"))
        else:
            peer.say(reply(await peer.request()))
        await peer.end()

    async with calling(script) as channel:
        call = stream(channel)
        await call.write(b"a")
        await until(lambda: channel.get_state() is State.IDLE)
        assert await unary(channel) == b"reply"
        await call.write(b"b")
        assert await call.read() == b"late"


@pytest.mark.parametrize(
    "refuse",
    [lambda request: goaway(request - 1), lambda request: reset(request, 7)],
    ids=["GOAWAY", "REFUSED_STREAM"],
)
async def test_what_a_server_has_not_looked_at_is_sent_again(refuse: Callable[[int], bytes]) -> None:
    """A call above the last stream of a GOAWAY, or refused as a stream, is sent again, once."""
    requests = 0

    async def script(peer: Peer) -> None:
        nonlocal requests
        await peer.begin()
        while True:
            request = await peer.request()
            requests += 1
            peer.say(reply(request) if requests == 2 else refuse(request))

    async with calling(script) as channel:
        assert await unary(channel) == b"reply"
        assert requests == 2
    requests = 2
    async with calling(script) as channel:
        code, details = await ending(unary(channel))
        assert meaning(code, details) == (FaultKind.UNREACHABLE, False)
        assert requests == 4


async def test_what_a_server_has_looked_at_is_never_sent_again() -> None:
    """A call at or below the last stream of a GOAWAY may have been applied, whatever comes then."""
    requests = 0

    async def script(peer: Peer) -> None:
        nonlocal requests
        await peer.begin()
        await peer.request()
        requests += 1
        peer.say(goaway(1, 11, b"too_many_pings"))
        peer.close()

    async with calling(script) as channel:
        code, details = await ending(unary(channel))
        assert meaning(code, details) == (FaultKind.CONNECTION_LOST, True)
        assert "too_many_pings" in details
    assert requests == 1


async def test_a_stream_is_not_sent_again() -> None:
    """A stream whose server has not looked at it ends, provably without effect: what was written to it is gone."""

    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.next(frames.DataFrame)
        peer.say(goaway(0))
        await peer.end()

    async with calling(script) as channel:
        call = stream(channel)
        await call.write(b"a")
        assert meaning(*await ending(call)) == (FaultKind.UNREACHABLE, False)


async def test_calls_without_end() -> None:
    """When a connection's streams are used up, the next call has another connection."""
    numbers: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.begin()
        while True:
            numbers.append(await peer.request())
            peer.say(reply(numbers[-1]))

    async with calling(script) as channel:
        await unary(channel)
        (connection,) = channel._connector._connections
        connection._next_stream = 2**31 - 3
        for _ in range(4):
            assert await unary(channel) == b"reply"
    assert numbers == [1, 2**31 - 3, 2**31 - 1, 1, 3]


# Connecting ------------------------------------------------------------------------------------------------------


async def test_nobody_listens() -> None:
    """A refused connection is said in gRPC's words; for the backoff calls fail at once, then it is tried again."""
    async with serving(echoing) as port:
        pass
    async with channel_to(port, Options(backoff=0.2)) as channel:
        said = f"last error: UNKNOWN: ipv4:127.0.0.1:{port}: Failed to connect to remote host: Connection refused"
        assert await ending(unary(channel)) == ("UNAVAILABLE", f"failed to connect to all addresses; {said}")
        assert channel.get_state(try_to_connect=True) is State.TRANSIENT_FAILURE
        assert unary(channel).done()
        await asyncio.sleep(0.25)
        assert channel.get_state(try_to_connect=True) is State.CONNECTING


async def test_all_who_wait_for_a_connection() -> None:
    """Calls made while connecting go over the one connection, in order; each keeps its own time-out meanwhile."""
    go_on, payloads = asyncio.Event(), []

    async def script(peer: Peer) -> None:
        await go_on.wait()
        await peer.begin()
        for _ in range(3):
            frame = await peer.next(frames.DataFrame)
            payloads.append(frame.data)
            peer.say(reply(frame.stream_id))
        await peer.end()

    async with calling(script) as channel:
        calls = [unary(channel, payload) for payload in (b"a", b"b", b"c")]
        late = unary(channel, timeout=0.05)
        assert channel.get_state() is State.CONNECTING
        assert (await ending(late))[0] == "DEADLINE_EXCEEDED"
        go_on.set()
        assert await asyncio.gather(*calls) == [b"reply"] * 3
    assert payloads == [message(payload) for payload in (b"a", b"b", b"c")]


BEGINNINGS = {
    "hangs up": (None, "Socket closed"),
    "speaks HTTP/1": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "http1.x server (HTTP status 400)"),
    "speaks SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", "Expected SETTINGS frame as the first frame, got frame type 45"),
    "says nothing": (b"", "connection attempt timed out before receiving SETTINGS frame"),
    "begins with GOAWAY": (goaway(0), "Expected SETTINGS frame"),
    "goes away at once": (settings() + goaway(0, 0, b"bye"), "bye"),
}


@pytest.mark.parametrize(("first", "said"), BEGINNINGS.values(), ids=BEGINNINGS)
async def test_who_is_no_server(first: bytes | None, said: str) -> None:
    """Whatever answers instead of HTTP/2: nothing was sent, and the words say what has come."""

    async def script(peer: Peer) -> None:
        if first is not None:
            await peer.begin(first)
            await peer.end()

    async with calling(script, Options(connect_timeout=0.3, backoff=0.0)) as channel:
        code, details = await ending(unary(channel))
        assert meaning(code, details) == (FaultKind.UNREACHABLE, False)
        assert said in details


async def test_closing_while_connecting() -> None:
    """Those who wait for a connection that is given up are told; nothing is left behind."""

    async def script(peer: Peer) -> None:
        await peer.end()

    async with calling(script) as channel:
        calls = [unary(channel) for _ in range(3)]
        await asyncio.sleep(0.05)
        await channel.close()
        assert [(await ending(call))[0] for call in calls] == ["CANCELLED"] * 3
        assert not channel._connector._connections


async def test_an_attempt_that_is_cancelled_strands_nobody() -> None:
    """Who waits for a connect that somebody cancels is told at once."""

    async def script(peer: Peer) -> None:
        await peer.end()

    async with calling(script) as channel:
        call = unary(channel)
        await asyncio.sleep(0.05)
        attempt = channel._connector._attempt
        assert attempt is not None
        attempt.cancel()
        with anyio.fail_after(1):
            assert (await ending(call))[0] == "CANCELLED"


async def test_a_close_that_is_cut_short() -> None:
    """Even a close that is cancelled leaves no connection open."""
    async with calling(echoing) as channel:
        assert await unary(channel) == b"reply"
        (connection,) = channel._connector._connections
        with anyio.CancelScope() as scope:
            scope.cancel()
            await channel.close(5.0)
        await until(connection.lost.done)


async def test_a_server_that_comes_back() -> None:
    """A connection that broke while idle is noticed, and replaced with the next call."""

    async def script(peer: Peer) -> None:
        await peer.begin()
        peer.say(reply(await peer.request()))
        if peer.number:
            await peer.end()

    async with calling(script) as channel:
        assert await unary(channel) == b"reply"
        await until(lambda: channel.get_state() is State.IDLE)
        assert await unary(channel) == b"reply"
