"""A process that writes as fast as it is let, over plain grpc, and records what etcd has acknowledged.

    python -m tests.faults.writer FOLDER SEED PREFIX,PREFIX ENDPOINT...

Recorded are `acknowledged` (revision, changes) and, before anything could be seen of it, `attempted` (changes):
every value is written once only, so that whoever sees it can tell which write it was. Ends upon SIGTERM.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from typing import Any

import grpc

from tests.history.recorder import Recorder
from tideover.etcd.messages import rpc

_KEYS = 40
_TASKS = 3
_TIMEOUT = 1.0
_PAUSE = 0.012


class Writer:
    """Writes to random keys.

    Args:
        recorder: Where to say so.
        chance: What to draw from.
        prefixes: Where the keys are.
        endpoints: The members.
    """

    def __init__(
        self, recorder: Recorder, chance: random.Random, prefixes: list[str], endpoints: list[str]
    ) -> None:
        self._recorder = recorder
        self._chance = chance
        self._prefixes = prefixes
        options = (("grpc.max_reconnect_backoff_ms", 500), ("grpc.initial_reconnect_backoff_ms", 100))
        self._stubs = [rpc.KVStub(grpc.aio.insecure_channel(e, options=options)) for e in endpoints]
        self._written = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Write until told to stop."""
        stub = self._chance.choice(self._stubs)
        while not stop.is_set():
            changes = self._draw()
            self._recorder.record("attempted", changes=changes)
            request = rpc.TxnRequest(success=[_op(key, value) for key, value in changes])
            try:
                reply = await stub.Txn(request, timeout=_TIMEOUT, metadata=(("hasleader", "true"),))
            except grpc.aio.AioRpcError:
                stub = self._chance.choice(self._stubs)
                await asyncio.sleep(0.05)
                continue
            applied = [
                change
                for change, op in zip(changes, reply.responses, strict=True)
                if change[1] is not None or op.response_delete_range.deleted
            ]
            if applied:
                self._recorder.record("acknowledged", revision=reply.header.revision, changes=applied)
            await asyncio.sleep(_PAUSE * self._chance.random())

    def _draw(self) -> list[tuple[str, str | None]]:
        """Draw what to do: mostly one key, now and then several at once, over several prefixes."""
        count = 1 if self._chance.random() < 0.8 else self._chance.randrange(2, 6)
        keys = {self._chance.choice(self._prefixes) + str(self._chance.randrange(_KEYS)) for _ in range(count)}
        return [(key, self._value()) for key in sorted(keys)]

    def _value(self) -> str | None:
        self._written += 1
        return None if self._chance.random() < 0.15 else f"{self._written}" + "x" * self._chance.randrange(100)


def _op(key: str, value: str | None) -> Any:
    if value is None:
        return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key.encode()))
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key.encode(), value=value.encode()))


async def main(folder: str, seed: str, prefixes: str, *endpoints: str) -> None:
    """Write until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    writer = Writer(Recorder(folder, "writer"), random.Random(seed), prefixes.split(","), list(endpoints))
    print("writing", flush=True)
    await asyncio.gather(*(writer.run(stop) for _ in range(_TASKS)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
