"""Keeps a channel's calls on a connection: one at a time, made when it is needed, replaced when it has broken."""

from __future__ import annotations

import asyncio
from functools import partial

from tideover.etcd.http2 import forks
from tideover.etcd.http2.call import Call
from tideover.etcd.http2.call_queue import CallQueue
from tideover.etcd.http2.connection import Connection
from tideover.etcd.http2.dialling import Attempt, CannotConnect, Target
from tideover.etcd.http2.options import Options
from tideover.etcd.http2.status import StatusCode, never_sent

# Seconds for connections to take leave of their server.
_LEAVE = 0.2


class Connector:
    """The connections of a channel; `failure` is why the last attempt to connect failed, None if it succeeded."""

    def __init__(self, target: Target, options: Options) -> None:
        self.closed = False
        self.failure: CannotConnect | None = None
        self._target = target
        self._options = options
        self._failed_at = 0.0
        # Of the last attempt, as gRPC writes it.
        self._address = ""
        self._waiting = CallQueue()
        self._current: Connection | None = None
        # All of which something is left: also those that have gone away, but for the calls they still have.
        self._connections: set[Connection] = set()
        self._attempt: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether there is a connection for the next call."""
        return self._current is not None

    @property
    def connecting(self) -> bool:
        """Whether there will be one, or a failure."""
        return self._attempt is not None

    def send(self, call: Call) -> None:
        """Send a call, once there is a connection; right after a failed attempt, let it fail like that one."""
        if self._current is not None:
            self._current.start(call)
        elif self.failure is not None and self._backs_off():
            call.end(self.failure.code, self.failure.details)
        else:
            self._waiting.add(call)
            self.connect()

    def connect(self) -> None:
        """Begin to connect, unless that goes on, or has failed a moment ago."""
        if self._current is None and self._attempt is None and not self._backs_off():
            self._attempt = asyncio.get_running_loop().create_task(self._connect())

    def _backs_off(self) -> bool:
        since = asyncio.get_running_loop().time() - self._failed_at
        return self.failure is not None and since < self._options.backoff

    async def _connect(self) -> None:
        attempt = Attempt(self._target)
        failure = CannotConnect(StatusCode.CANCELLED, "the connection was closed before the call")
        try:
            make = partial(Connection, self, self._options)
            self._current = await attempt.connect(make, timeout=self._options.connect_timeout)
        except CannotConnect as exc:
            # Not with its frames, which refer to all this.
            failure = CannotConnect(exc.code, exc.details)
        except Exception as exc:  # noqa: BLE001  # raised by each call that waits
            failure = CannotConnect(*never_sent(attempt.address, f"{type(exc).__name__}: {exc}"))
        finally:
            self._attempt, self._address = None, attempt.address
            self.failure = None if self._current is not None else failure
            self._failed_at = asyncio.get_running_loop().time()
            for call in self._waiting.take_all():
                if self._current is not None:
                    self._current.start(call)
                else:
                    call.end(failure.code, failure.details)

    # As who owns connections -------------------------------------------------------------------------------------

    def made(self, connection: Connection) -> None:
        """Note that there is something to close."""
        self._connections.add(connection)
        forks.watch(connection)

    def gone(self, connection: Connection) -> None:
        """Use a connection for no more calls."""
        if connection is self._current:
            self._current = None

    def lost(self, connection: Connection) -> None:
        """Forget a connection of which nothing is left."""
        self._connections.discard(connection)

    def take_back(self, calls: list[Call], why: str) -> None:
        """Send calls another way that a server has provably not looked at."""
        for call in calls:
            if self.closed:
                call.cancel()
            elif call.begin_again():
                self.send(call)
            else:
                call.end(*never_sent(self._address, why, StatusCode.UNAVAILABLE))

    # The end -----------------------------------------------------------------------------------------------------

    async def close(self, grace: float) -> None:
        """Take no more calls, and end those under way that take longer than `grace` seconds."""
        self.closed = True
        self._current = None
        for call in self._waiting.take_all():
            call.cancel()
        connections = list(self._connections)
        try:
            if self._attempt is not None:
                self._attempt.cancel()
                await asyncio.wait({self._attempt})
            for connection in connections:
                connection.retire()
            await _until_lost(connections, grace)
            for connection in connections:
                connection.close()
            await _until_lost(connections, _LEAVE)
        finally:
            for connection in connections:
                connection.abort("the connection was closed under the stream")
        await _until_lost(connections, _LEAVE)


async def _until_lost(connections: list[Connection], timeout: float) -> None:
    lost = {connection.lost for connection in connections if not connection.lost.done()}
    if lost and timeout > 0:
        await asyncio.wait(lost, timeout=timeout)
