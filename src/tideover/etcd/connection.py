"""One grpc channel to a member: its options, its stubs, its end, and whether the member has shown its ids.

Each member has two channels, one of them for large answers. HTTP/2 takes turns between streams, but the bytes that
a sender's kernel and the queues of a slow link already hold precede all that follow: a probe behind 4 MB at
1 Mbit/s was answered after 9 to 32 s, over a second connection after 0.3 s (docs/decisions/0047).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import grpc

from tideover.etcd.messages import rpc
from tideover.etcd.tls import TlsFiles
from tideover.store.endpoints import host_of
from tideover.store.faults import classify

# The fault of a call whose connection was closed before the call was sent.
GIVEN_UP = replace(classify("CANCELLED", "the connection was closed before the call"), applied=False)

# Measured with grpcio 1.85: on a frozen peer only http2.ping_timeout_ms acts, keepalive_timeout_ms only on packet
# loss, and as TCP_USER_TIMEOUT; a keepalive_time below 5 s earns a GOAWAY; without a pool of its own a new channel
# inherits the reconnect backoff of the old one. min_reconnect_backoff is also the time that connecting may take:
# with TLS that is four round trips. What gRPC tries by itself after a refusal comes late, for to a member that
# refuses, the monitor makes a new connection with each question.
_OPTIONS: dict[str, Any] = {
    "grpc.keepalive_time_ms": 10_000,
    "grpc.keepalive_timeout_ms": 5_000,
    # Longer than a probe is waited for, so that a frozen member is called silent.
    "grpc.http2.ping_timeout_ms": 7_000,
    "grpc.http2.max_pings_without_data": 0,
    "grpc.keepalive_permit_without_calls": 0,
    "grpc.initial_reconnect_backoff_ms": 2_000,
    "grpc.min_reconnect_backoff_ms": 5_000,
    "grpc.max_reconnect_backoff_ms": 2_000,
    "grpc.use_local_subchannel_pool": 1,
    # A connection is kept however long it idles: that it breaks is the first sign of trouble.
    "grpc.client_idle_timeout_ms": 2**31 - 1,
    "grpc.max_receive_message_length": -1,
    "grpc.enable_retries": 0,
    # A name that has moved is looked up again soon, not after 30 s.
    "grpc.dns_min_time_between_resolutions_ms": 1_000,
    # The pings that measure the bandwidth go with each answer, and each wakes gRPC's threads, which then look for
    # more work seventeen times within 4 s. What is small needs no larger window.
    "grpc.http2.bdp_probe": 0,
}
# A ping waits behind data, and the ones that measure the bandwidth are sent while there is some: they ended a
# transfer that took longer than the time-out. The window is fixed instead, large enough for 3 MB/s at 300 ms. The
# monitor does not see whether it is refused, so gRPC itself tries again soon.
BULK: dict[str, Any] = {
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.keepalive_timeout_ms": 10_000,
    "grpc.http2.ping_timeout_ms": 20_000,
    "grpc.http2.lookahead_bytes": 1 << 20,
}


class Connection:
    """A grpc channel to one member.

    gRPC connects again only for a call or a look at its state, and both begin here, so that a new connection is
    noticed. What remains is the moment between a look and the call that follows; see docs/decisions/0044.

    Attributes:
        given_up: Whether the channel is being closed, and must not be used any more.
    """

    def __init__(
        self,
        endpoint: str,
        files: TlsFiles | None,
        server_name: str | None,
        own: dict[str, Any] | None = None,
    ) -> None:
        self.channel: Any = _open(endpoint, files, server_name, tuple((_OPTIONS | (own or {})).items()))
        self.kv = rpc.KVStub(self.channel)
        self.watch = rpc.WatchStub(self.channel)
        self.lease = rpc.LeaseStub(self.channel)
        # Connections are counted, as far as they can be told apart; the second is the one that was proven.
        self._number, self._proven = 1, 0
        self._established = False
        self.given_up = False

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
        ready = self.channel.get_state(try_to_connect=try_to_connect) is grpc.ChannelConnectivity.READY
        if not ready:
            self._number += 1
        return ready

    def let_go(self) -> None:
        """Drop all references to grpc after the end: see `etcd/forks`."""
        self.channel = _GONE
        for stub in (self.kv, self.watch, self.lease):
            stub.let_go()

    async def close(self, grace: float) -> None:
        """Close the channel and end its streams, at once if cancelled.

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

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the state of a closed channel."""
        return grpc.ChannelConnectivity.SHUTDOWN

    async def close(self, grace: float | None = None) -> None:
        """Do nothing."""


_GONE = _Gone()


def _open(
    endpoint: str, files: TlsFiles | None, server_name: str | None, options: tuple[tuple[str, Any], ...]
) -> grpc.aio.Channel:
    # With its scheme, because a host may be called "unix" or "dns".
    target = f"dns:///{endpoint}"
    if files is None:
        return grpc.aio.insecure_channel(target, options=options)
    material, host = files.material, host_of(endpoint)
    # The final dot of a name is the resolver's: no certificate bears it, nor may the SNI (RFC 6066).
    name = (files.tls.server_name or server_name or host).removesuffix(".")
    credentials = grpc.ssl_channel_credentials(material.ca, material.key, material.cert)
    if name != host:
        options = (*options, ("grpc.ssl_target_name_override", name))
    return grpc.aio.secure_channel(target, credentials, options=options)
