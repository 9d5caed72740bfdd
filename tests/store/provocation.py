"""What it takes to make etcd fail: raw calls whose fault is returned, and a server that fails as it is told.

The stubs are etcd's on a channel of ours, so that all that is provoked has taken the way of every call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import grpc
import pytest

from tideover.etcd import grpc_channel
from tideover.etcd.channel import MemberChannel, answer, translated
from tideover.etcd.http2 import opening
from tideover.etcd.http2.options import URGENT
from tideover.etcd.messages import rpc
from tideover.etcd.rpc_errors import RpcError
from tideover.store.endpoints import Address
from tideover.store.faults import Fault, StoreFault
from tideover.store.operations import Delete, Put, Range
from tideover.testing import EtcdCluster

# Elections twice as quick as by default: etcd's own limit on a request is 5 s and twice this.
FAST = ("--heartbeat-interval=50", "--election-timeout=500")
HAS_LEADER = (("hasleader", "true"),)

_NAMES: dict[type, str] = {Put: "Put", Range: "Range", Delete: "DeleteRange"}
RAISED = (StoreFault, RpcError, grpc.aio.AioRpcError)
# Options by gRPC's names.
_OURS = {
    "keepalive_time_ms": "ping_after",
    "ping_timeout_ms": "ping_timeout",
    "initial_reconnect_backoff_ms": "backoff",
    "min_reconnect_backoff_ms": "connect_timeout",
}


class Member:
    """The stubs of one member, also those that tideover does not use.

    Args:
        endpoint: The member's `host:port`.
    """

    def __init__(self, endpoint: str) -> None:
        self.channel = MemberChannel(Address(endpoint))
        self.kv, self.auth, self.maintenance = self.channel.kv, self.channel.auth, self.channel.maintenance
        self.watches = self.channel.watch
        self.leases = rpc.LeaseStub(self.channel.urgent.channel)
        self.members = rpc.ClusterStub(self.channel.urgent.channel)

    async def put(self, key: bytes, value: bytes = b"v", *, timeout: float = 5.0, **more: Any) -> Any:
        """Write a key, with `hasleader` unless other metadata is given."""
        metadata = more.pop("metadata", HAS_LEADER)
        request = rpc.PutRequest(key=key, value=value, **more)
        with translated():
            return await answer(self.kv.Put(request, timeout=timeout, metadata=metadata))

    async def read(self, key: bytes, *, timeout: float = 5.0, **more: Any) -> Any:
        """Read a key, with `hasleader` unless other metadata is given."""
        metadata = more.pop("metadata", HAS_LEADER)
        request = rpc.RangeRequest(key=key, **more)
        with translated():
            return await answer(self.kv.Range(request, timeout=timeout, metadata=metadata))

    async def leaderless(self) -> None:
        """Wait until the member has noticed that it has no leader."""
        with anyio.fail_after(5):
            while (await self.maintenance.Status(rpc.StatusRequest())).leader:
                await anyio.sleep(0.02)

    async def quorum(self) -> None:
        """Wait until the member has a leader that a quorum follows."""
        with anyio.fail_after(15):
            while True:
                try:
                    await self.read(b"-", timeout=0.2)
                except StoreFault:
                    await anyio.sleep(0.02)
                else:
                    return

    async def version(self, key: bytes) -> int:
        """Return how often a key was written."""
        found = (await self.read(key, timeout=10)).kvs
        return found[0].version if found else 0


@asynccontextmanager
async def at(endpoint: str) -> AsyncIterator[Member]:
    """Connect to a member for as long as the block lasts."""
    member = Member(endpoint)
    try:
        yield member
    finally:
        await member.channel.aclose()


async def sent(call: Any) -> Any:
    """Return the reply of a raw call; raise its `StoreFault`."""
    with translated():
        return await answer(call)


async def fault_of(attempt: Any) -> Fault:
    """Return the fault that an attempt ends with; the test fails if it does not."""
    with pytest.raises(StoreFault) as caught:
        await attempt
    return caught.value.fault


def meaning(fault: Fault) -> tuple[str, bool, bool]:
    """Return what a fault means: its kind, may a read be retried, may a write be applied."""
    return str(fault.kind), fault.retry_read, fault.applied


def option(monkeypatch: pytest.MonkeyPatch, **changed: int) -> None:
    """Change options of the channels made from now on, of either transport; gRPC's names, milliseconds."""
    options = {name: changed.get(name.rpartition(".")[2], value) for name, value in grpc_channel._OPTIONS.items()}
    monkeypatch.setattr(grpc_channel, "_OPTIONS", options)
    ours = {_OURS[name]: value / 1000 for name, value in changed.items()}
    monkeypatch.setattr(opening, "URGENT", replace(URGENT, **ours))


def mend(cluster: EtcdCluster) -> None:
    """Let all members of a cluster run, and wait until all are well."""
    for member in cluster.members:
        if member.paused:
            member.resume()
    cluster.start_all()
    cluster.wait_ready()


class Liar(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc has no types
    """A gRPC server that answers like an empty etcd, but calls of one kind with an error of your choice.

    Attributes:
        endpoint: Its `host:port`.
        calls: How many calls have arrived, by their names in etcd's protocol.
    """

    def __init__(self) -> None:
        self.code, self.message = grpc.StatusCode.UNKNOWN, ""
        self.endpoint = ""
        self.calls: Counter[str] = Counter()
        self.lies: int | None = None  # how many calls fail; None means all
        self.fails = "Put"

    def says(self, code: str, message: str, *, lies: int | None = None, of: type = Put) -> None:
        """Choose the error, and forget what has arrived."""
        self.code, self.message, self.lies = grpc.StatusCode[code], message, lies
        self.fails = _NAMES[of]
        self.calls.clear()

    def service(self, handler_call_details: Any) -> Any:
        """Find what to do with a call."""
        name = handler_call_details.method.rpartition("/")[2]
        replies: dict[str, Callable[[], Any]] = {
            "Put": rpc.PutResponse,
            "Range": rpc.RangeResponse,
            "DeleteRange": rpc.DeleteRangeResponse,
        }

        async def reply(request: bytes, context: Any) -> bytes:
            self.calls[name] += 1
            if name == self.fails and (self.lies is None or self.calls[name] <= self.lies):
                await context.abort(self.code, self.message)
            made: bytes = replies[name]().SerializeToString()
            return made

        return grpc.unary_unary_rpc_method_handler(reply) if name in replies else None


@asynccontextmanager
async def lying() -> AsyncIterator[Liar]:
    """Run a `Liar`."""
    server, liar = grpc.aio.server(), Liar()
    server.add_generic_rpc_handlers((liar,))
    liar.endpoint = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield liar
    finally:
        await server.stop(None)
