"""What goes out over a connection: requests at once where there is room, the rest in turns as room comes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from tideover.etcd.http2 import frames
from tideover.etcd.http2.call import Call
from tideover.etcd.http2.frames import DATA, END_STREAM, MAX_FRAME, Broken, ErrorCode, Setting
from tideover.etcd.http2.windows import DEFAULT_WINDOW, grown, shifted

# Seconds for which the answer to a PING waits for something to travel with.
_ACK_LATER = 0.01
# Bytes of such answers that wait for a peer that reads nothing.
_MOST_OWED = 16_384


class Sender:
    """The sending half of a connection; `paused` while nothing may be sent."""

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport
        self._window = DEFAULT_WINDOW
        # What streams begin with, how large frames may be, and what one frame at the beginning may hold.
        self._initial = DEFAULT_WINDOW
        self._largest = self._fits = MAX_FRAME
        self.paused = False
        # Calls with something to send for which there was no room yet.
        self._unsent: dict[Call, None] = {}
        self._owed = bytearray()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, call: Call) -> None:
        """Send the headers of a call, and what there is to send."""
        block, message = call.block, call.unsent
        size = len(message)
        if size <= self._fits and size <= self._window and call.closed and len(block) <= MAX_FRAME:
            self._window -= size
            call.window = self._initial - size
            call.unsent = b""
            self.write(frames.request(call.stream, block, message))
        else:
            call.window = self._initial
            self.write(frames.headers(call.stream, block))
            self.push(call)

    def push(self, call: Call) -> None:
        """Send what a call has to send, as far as there is room now."""
        self._unsent[call] = None
        self.flush()

    def forget(self, call: Call) -> None:
        """Send no more of a call."""
        if call.unsent:
            self._unsent.pop(call, None)
            call.unsent = b""

    def write(self, data: bytes) -> None:
        """Send frames, and what is owed with them."""
        if self._owed:
            data = bytes(self._owed) + data
            self._owed.clear()
        # asyncio logs a warning for each write that follows the end.
        if not self._transport.is_closing():
            self._transport.write(data)

    def flush(self) -> None:
        """Send what waits, a frame of each call in turn."""
        while self._unsent and not self.paused:
            ready = [call for call in self._unsent if not call.unsent or min(self._window, call.window) > 0]
            if not ready:
                return
            for call in ready:
                self._send_part(call)
                if self.paused:
                    return

    def _send_part(self, call: Call) -> None:
        size = max(0, min(len(call.unsent), self._window, call.window, self._largest))
        if not size and call.unsent:
            return
        # A view: cutting a large message a hundred times copies it but once.
        rest = memoryview(call.unsent)
        part, call.unsent = rest[:size], rest[size:]
        self._window -= size
        call.window -= size
        done = not call.unsent
        if size or call.closed:
            self.write(frames.frame(DATA, END_STREAM if done and call.closed else 0, call.stream, bytes(part)))
        if done:
            call.unsent = b""
            self._unsent.pop(call, None)
            call.sent()

    # Control frames ----------------------------------------------------------------------------------------------

    def owe(self, data: bytes, *, now: bool = False) -> None:
        """Send a control frame, for which the peer may wait, `now`; or else with what is sent next, or soon.

        Raises `Broken` if the peer makes this side answer, and does not read the answers.
        """
        self._owed += data
        if len(self._owed) > _MOST_OWED and self.paused:
            raise Broken("too many frames to answer", ErrorCode.ENHANCE_YOUR_CALM)
        if now or len(self._owed) > _MOST_OWED:
            self.pay()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_ACK_LATER, self.pay)

    def pay(self) -> None:
        """Send what is owed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._owed and not self.paused:
            self.write(b"")

    # What changes the room ---------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Send no more: what was sent before is still in memory."""
        self.paused = True

    def resume(self) -> None:
        """Send again."""
        self.paused = False
        self.pay()
        self.flush()

    def grow(self, increment: int) -> None:
        """Apply a WINDOW_UPDATE for the connection; raise `Broken` if it is none."""
        self._window = grown(self._window, increment)
        self.flush()

    def apply(self, settings: dict[int, int], calls: Iterable[Call]) -> None:
        """Apply SETTINGS, also to the calls that are under way; raise `Broken` if a window grows too large."""
        self._largest = settings.get(Setting.MAX_FRAME_SIZE, self._largest)
        initial = settings.get(Setting.INITIAL_WINDOW_SIZE, self._initial)
        if initial != self._initial:
            for call in calls:
                call.window = shifted(call.window, self._initial, initial)
            self._initial = initial
        self._fits = min(self._initial, self._largest)
        self.flush()

    def close(self) -> None:
        """Send what is owed no more."""
        self._owed.clear()
        self._unsent.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
