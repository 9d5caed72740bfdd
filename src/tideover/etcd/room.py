"""Room for calls: several connections in the place of one while many calls are under way.

A peer bounds how many streams a connection has at once, each call being one (HTTP/2's MAX_CONCURRENT_STREAMS), and
gRPC says neither how many, nor that a call waits for others to end. Seen: HAProxy 2.6 `mode http` 100, nginx 1.22
128, etcd 3.5.1 over TLS 250, etcd 3.5.30 none. The least of them is kept to everywhere.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from tideover.etcd.connection import GIVEN_UP, Connection
from tideover.store.faults import UNANSWERED, StoreFault

# Calls under way on one connection. Writes leave some of it to what only reads: proofs and probes do.
_ROOM = 64
_ROOM_TO_WRITE = 48
# Streams of HAProxy's 100 that are open when the last of these calls begins: with them the long ones, and calls
# left alone (see `channel`). The rest is for what asks for no room: renewals open 8 at most, watches and logins a
# few.
_OPEN = 80
# Connections besides the first.
_MOST_OTHERS = 4
# Seconds without a call after which one of them is closed.
_IDLE = 10.0
# Seconds between two looks at whether one of them is established, while calls wait.
_LOOK = 0.02


class Room:
    """A first connection to a member, and others as long as it has no room.

    Another connection is used once established, and never waited for: where a peer accepts no more of them, calls
    take turns on the first.
    """

    def __init__(self, make: Callable[[], Connection], *, close: Callable[[Connection], None]) -> None:
        self.first = make()
        self._make = make
        self._close = close
        self._others: dict[Connection, asyncio.TimerHandle | None] = {}
        self._calls: dict[Connection, int] = {self.first: 0}
        # Calls that wait to read, and calls that wait to write.
        self._waiting: tuple[deque[asyncio.Future[Connection]], ...] = (deque(), deque())
        self._look: asyncio.TimerHandle | None = None

    def take(self, *, writes: bool) -> Connection | None:
        """Return a connection with room for a call, until `leave`; None if all are full."""
        connection = None if any(self._waiting) else self._with_room(writes=writes)
        if connection is not None:
            self._enter(connection)
        return connection

    async def turn(self, *, writes: bool, timeout: float) -> Connection:
        """Return a connection once one has room; raise `StoreFault`, with nothing sent, if none has in time."""
        turn: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        waiting = self._waiting[writes]
        waiting.append(turn)
        self._hand_out()
        try:
            async with asyncio.timeout(timeout):
                return await turn
        except BaseException as exc:
            if turn in waiting:
                waiting.remove(turn)
            elif turn.done() and not turn.cancelled() and turn.exception() is None:
                self.leave(turn.result())
            if isinstance(exc, TimeoutError):
                message = f"{UNANSWERED.message} (other calls were under way)"
                raise StoreFault(replace(UNANSWERED, message=message, applied=False)) from None
            raise

    def leave(self, connection: Connection) -> None:
        """Record that a call has ended."""
        self._calls[connection] -= 1
        if connection in self._others and not self._calls[connection]:
            self._wait_idle(connection)
        if any(self._waiting):
            self._hand_out()

    def _with_room(self, *, writes: bool) -> Connection | None:
        most = _ROOM_TO_WRITE if writes else _ROOM
        for connection, calls in self._calls.items():
            has_room = calls < most and calls + connection.streams < _OPEN
            if has_room and (connection is self.first or connection.is_ready()):
                return connection
        return None

    def _enter(self, connection: Connection) -> None:
        self._calls[connection] += 1
        idle = self._others.get(connection)
        if idle is not None:
            idle.cancel()
            self._others[connection] = None

    def _hand_out(self) -> None:
        """Give the waiting calls the connections with room; make another connection for the rest."""
        for writes, waiting in enumerate(self._waiting):
            while waiting and (connection := self._with_room(writes=bool(writes))) is not None:
                turn = waiting.popleft()
                if not turn.done():
                    self._enter(connection)
                    turn.set_result(connection)
        if any(self._waiting):
            connecting = [other for other in self._others if not other.is_ready(try_to_connect=True)]
            if not connecting and len(self._others) < _MOST_OTHERS:
                other = self._make()
                other.is_ready(try_to_connect=True)
                self._calls[other] = 0
                self._wait_idle(other)
                connecting.append(other)
            if connecting and self._look is None:
                self._look = asyncio.get_running_loop().call_later(_LOOK, self._look_again)

    def _look_again(self) -> None:
        self._look = None
        self._hand_out()

    def give_up(self) -> list[Connection]:
        """Stop handing out connections; return those to close."""
        for timer in (self._look, *self._others.values()):
            if timer is not None:
                timer.cancel()
        for connection in self._calls:
            connection.given_up = True
        for turn in itertools.chain(*self._waiting):
            if not turn.done():
                turn.set_exception(StoreFault(GIVEN_UP))
        self._waiting[0].clear()
        self._waiting[1].clear()
        self._others = {}
        return list(self._calls)

    def _wait_idle(self, other: Connection) -> None:
        self._others[other] = asyncio.get_running_loop().call_later(_IDLE, self._drop, other)

    def _drop(self, other: Connection) -> None:
        del self._others[other], self._calls[other]
        other.given_up = True
        self._close(other)
