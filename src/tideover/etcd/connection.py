"""One channel to a member: its stubs, its end, and what is known of who is at its other end.

There are two for each member, for what may be large has one of its own. HTTP/2 takes turns between streams, but
what a sender's kernel and the queues of a slow link already hold is in front of everything that follows: a probe
behind 4 MB at 1 Mbit/s was answered after 9 to 32 s, over a second connection after 0.3 s (docs/decisions/0047).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from enum import Enum
from typing import Any

from tideover.etcd.messages import rpc
from tideover.etcd.tls import TlsFiles
from tideover.etcd.transports import load
from tideover.policies import Transport
from tideover.store.faults import classify

# Said of a call that found its connection given up before it was sent.
GIVEN_UP = replace(classify("CANCELLED", "the connection was closed before the call"), applied=False)


class Connection:
    """A channel to one member.

    A channel connects again only when a call is made or its state is looked at, and both begin here, so that a new
    connection is noticed. Left is the moment between a look and the call that follows; see docs/decisions/0044.

    Args:
        endpoint: The member's `host:port`.
        files: The files of TLS; None connects without it.
        server_name: The name that its certificate must bear; None means the host.
        transport: What it goes over.
        bulk: Whether what is sent over it may be large.

    Attributes:
        channel: The channel.
        kv: The stub for reads and writes.
        watch: The stub for watches.
        lease: The stub for leases.
        given_up: Whether it is being closed, and must not be used any more.
    """

    def __init__(
        self,
        endpoint: str,
        files: TlsFiles | None,
        server_name: str | None,
        transport: Transport,
        *,
        bulk: bool = False,
    ) -> None:
        self.channel: Any = load(transport)(endpoint, files, server_name, bulk=bulk)
        self.kv = rpc.KVStub(self.channel)
        self.watch = rpc.WatchStub(self.channel)
        self.lease = rpc.LeaseStub(self.channel)
        # Connections are counted, as far as they can be told apart; the second is the one that was proven.
        self._number, self._proven = 1, 0
        self._established = False
        self.given_up = False

    def __repr__(self) -> str:
        """Show the state."""
        return f"<Connection {self.channel.get_state().name.lower()}>"

    @property
    def number(self) -> int:
        """Which connection it is: another number once there may be another one."""
        self.is_ready()
        return self._number

    @property
    def proven(self) -> bool:
        """Whether the expected member is at the other end of the connection, as it is now."""
        return self.is_ready() and self._proven == self._number

    def prove(self, number: int) -> None:
        """Record that the expected member has answered over a connection; see `number`."""
        self._proven = number

    def doubt(self) -> None:
        """Record that it was not the expected member that has answered."""
        self._number += 1

    def heard(self) -> None:
        """Record that an answer has come: it is established, and may break before anybody looks at its state."""
        self._established = True

    def has_broken(self, *, try_to_connect: bool = False) -> bool:
        """Whether it was established and is so no more; says so once.

        Args:
            try_to_connect: Whether to connect if it is not.
        """
        ready = self.is_ready(try_to_connect=try_to_connect)
        broken = self._established and not ready
        self._established = ready
        return broken

    def is_ready(self, *, try_to_connect: bool = False) -> bool:
        """Whether it is established.

        Args:
            try_to_connect: Whether to connect if it is not.
        """
        ready: bool = self.channel.get_state(try_to_connect=try_to_connect).name == "READY"
        if not ready:
            self._number += 1
        return ready

    def let_go(self) -> None:
        """Refer to the channel no more, once it is closed: see `etcd/forks`."""
        self.channel = _GONE
        for stub in (self.kv, self.watch, self.lease):
            stub.let_go()

    async def close(self, grace: float) -> None:
        """Close it and end its streams, at once if cancelled.

        Args:
            grace: Seconds that calls in flight and streams may still take.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        try:
            await self.channel.close(grace=grace)
            # grpc before 1.83 returns at once and leaves streams open: a watch would stay at a connection whose
            # certificate was replaced.
            if any(not stream.done() for stream in self._streams()):
                await asyncio.sleep(end - loop.time())
        finally:
            for stream in self._streams():
                stream.cancel()

    def _streams(self) -> Iterable[Any]:
        return [*self.watch.streams, *self.lease.streams]


class _Gone:
    """What is left of a channel."""

    class State(Enum):
        """How it is connected."""

        SHUTDOWN = "shutdown"

    def get_state(self, try_to_connect: bool = False) -> State:
        """Return that it is closed."""
        return self.State.SHUTDOWN

    async def close(self, grace: float | None = None) -> None:
        """Return: it is."""


_GONE = _Gone()
