"""One channel to a member: its stubs, its end, and whether the member has shown its ids.

Each member has two channels, one of them for large answers. HTTP/2 takes turns between streams, but the bytes that
a sender's kernel and the queues of a slow link already hold precede all that follow: a probe behind 4 MB at
1 Mbit/s was answered after 9 to 32 s, over a second connection after 0.3 s (docs/decisions/0047).
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

# The fault of a call whose connection was closed before the call was sent.
GIVEN_UP = replace(classify("CANCELLED", "the connection was closed before the call"), applied=False)


class Connection:
    """A channel to one member; `left_alone` counts the calls under way whose callers have gone.

    A channel connects again only for a call or a look at its state, and both begin here, so that a new connection
    is noticed. What remains is the moment between a look and the call that follows; see docs/decisions/0044.
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
        self.left_alone = 0

    @property
    def streams(self) -> int:
        """How many streams are open for other things than calls with a caller."""
        return len(self.watch.streams) + len(self.lease.streams) + self.left_alone

    @property
    def number(self) -> int:
        """The connection's number: changes when there may be a new connection."""
        self.is_ready()
        return self._number

    @property
    def proven(self) -> bool:
        """Whether the expected member has answered over the present connection."""
        return self.is_ready() and self._proven == self._number

    def prove(self, number: int) -> None:
        """Record that the expected member has answered over a connection; see `number`."""
        self._proven = number

    def doubt(self) -> None:
        """Record that another member than expected has answered."""
        self._number += 1

    def heard(self) -> None:
        """Record an answer: the connection is established, and may break before the next look at its state."""
        self._established = True

    def has_broken(self, *, try_to_connect: bool = False) -> bool:
        """Whether an established connection has broken since the last look."""
        ready = self.is_ready(try_to_connect=try_to_connect)
        broken = self._established and not ready
        self._established = ready
        return broken

    def is_ready(self, *, try_to_connect: bool = False) -> bool:
        """Whether the connection is established."""
        ready: bool = self.channel.get_state(try_to_connect=try_to_connect).name == "READY"
        if not ready:
            self._number += 1
        return ready

    def let_go(self) -> None:
        """Drop all references to the channel after the end: see `etcd/forks`."""
        self.channel = _GONE
        for stub in (self.kv, self.watch, self.lease):
            stub.let_go()

    async def close(self, grace: float) -> None:
        """Close the channel and end its streams, `grace` seconds later at the most; at once if cancelled."""
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
        """How a closed channel is connected."""

        SHUTDOWN = "shutdown"

    def get_state(self, try_to_connect: bool = False) -> State:
        """Return the state of a closed channel."""
        return self.State.SHUTDOWN

    async def close(self, grace: float | None = None) -> None:
        """Do nothing."""


_GONE = _Gone()
