"""One unary call by itself, on either transport, beside etcd's Go client: time and processor, plain and over TLS.

All take turns on one etcd, round after round, a few hundred calls each. What is called are the stubs: nothing of
tideover's own work for a call is in it, so that the transports can be told apart.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from benchmarks import certificates, child, go_client
from benchmarks.harness import Comparison, Goal, Row
from tideover import Tls
from tideover.policies import Transport
from tideover.testing import EtcdServer

ROUNDS = 15
CALLS = 200
_WARM_UP = 2
_KEY = b"/bench/calls"
_HAS_LEADER = (("hasleader", "true"),)
_GO = "the Go client"

# Seconds and seconds of the processor for each call.
Cost = tuple[float, float]
Round = Callable[[], Awaitable[Cost]]


async def measure() -> list[Comparison]:
    """Measure plain text and TLS, each in a fresh process."""
    await asyncio.to_thread(go_client.build)
    found: list[Comparison] = []
    for secure in (False, True):
        over = ", TLS" if secure else ""
        rounds: list[dict[str, Cost]] = await child.call(take_turns, secure, timeout=300.0)
        for what in ("Range", "Txn"):
            found += [
                _compare(f"one {what}{over}", rounds, f"http2 {what}", f"go {what}", 0),
                _compare(f"one {what}{over}, processor", rounds, f"http2 {what}", f"go {what}", 1),
                _compare(f"for scale: one {what}{over} by grpc.aio", rounds, f"grpc {what}", f"go {what}", 0),
                _compare(f"for scale: its processor{over}, {what}", rounds, f"grpc {what}", f"go {what}", 1),
            ]
    return found


def _compare(what: str, rounds: list[dict[str, Cost]], case: str, peer: str, part: Literal[0, 1]) -> Comparison:
    value, reference = (statistics.median(one[name][part] for one in rounds) for name in (case, peer))
    low, _, high = statistics.quantiles([one[case][part] / one[peer][part] for one in rounds], n=4)
    return Comparison(what, value, _GO, reference, low, high)


async def take_turns(secure: bool) -> list[dict[str, Cost]]:
    """In a child: what a call costs every client in every round.

    Args:
        secure: Whether TLS is spoken.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        signed = certificates.self_signed(folder) if secure else None
        etcd = stack.enter_context(EtcdServer(tls=signed))
        ca = signed.cert if signed is not None else None
        cases: dict[str, Round] = {}
        transports: tuple[Transport, ...] = ("http2", "grpc")
        for transport in transports:
            stubs = await stack.enter_async_context(
                _stubs(transport, etcd.endpoint, None if ca is None else Tls(ca=ca))
            )
            for what, call in stubs.items():
                cases[f"{transport} {what}"] = _calling(call)
        for what, flags in (("Range", ()), ("Txn", ("-write",))):
            tls = () if ca is None else ("-cacert", str(ca))
            arguments = (
                "calls",
                "-endpoint",
                etcd.endpoint,
                "-key",
                _KEY.decode(),
                f"-count={CALLS}",
                *flags,
                *tls,
            )
            client = await stack.enter_async_context(go_client.running(*arguments))
            cases[f"go {what}"] = _told(client)
        return await _rounds(cases)


async def _rounds(cases: Mapping[str, Round]) -> list[dict[str, Cost]]:
    found = [{case: await run() for case, run in cases.items()} for _ in range(_WARM_UP + ROUNDS)]
    return found[_WARM_UP:]


@asynccontextmanager
async def _stubs(
    transport: Transport, endpoint: str, tls: Tls | None
) -> AsyncIterator[dict[str, Callable[[], Awaitable[Any]]]]:
    """Open a channel; give what makes a call."""
    from tideover.etcd.messages import rpc
    from tideover.etcd.tls import TlsFiles
    from tideover.etcd.transports import load

    channel = load(transport)(endpoint, TlsFiles(tls) if tls is not None else None, None, bulk=False)
    kv = rpc.KVStub(channel)
    reading = rpc.RangeRequest(key=_KEY)
    condition = rpc.Compare(key=_KEY, target=rpc.Compare.MOD, result=rpc.Compare.GREATER, mod_revision=-1)
    put = rpc.RequestOp(request_put=rpc.PutRequest(key=_KEY, value=b"0123456789"))
    writing = rpc.TxnRequest(compare=[condition], success=[put])
    try:
        yield {
            "Range": lambda: kv.Range(reading, timeout=5.0, metadata=_HAS_LEADER),
            "Txn": lambda: kv.Txn(writing, timeout=5.0, metadata=_HAS_LEADER),
        }
    finally:
        await channel.close()


def _calling(call: Callable[[], Awaitable[Any]]) -> Round:
    async def run() -> Cost:
        cpu, began = _processor(), time.perf_counter()
        for _ in range(CALLS):
            await call()
        return (time.perf_counter() - began) / CALLS, (_processor() - cpu) / CALLS

    return run


def _told(client: go_client.GoClient) -> Round:
    async def run() -> Cost:
        found = await client.round()
        return found["seconds"] / CALLS, found["cpu"] / CALLS

    return run


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


ROW = Row(
    name="transport",
    what="one unary call by itself: the transport, and nothing else",
    peer="etcd's Go client; grpc.aio",
    goals={
        "one Range": Goal(0.95),
        "one Txn": Goal(0.95),
        "one Range, processor": Goal(0.7),
        "one Txn, processor": Goal(0.7),
        "one Range, TLS": Goal(1.15),
        "one Txn, TLS": Goal(1.15),
    },
    measure=measure,
)
