"""One gRPC stream of renewals, for many leases at once.

aetcd opens a stream per renewal and takes the answer "TTL 0" for a success. Here a stream lives as long as anybody
renews at its member, each answer belongs to the question with its lease's id, and no lease is asked about again
before it was answered: an answer that comes late is dropped, and never taken for a newer one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from tideover.etcd.channel import readable, translated
from tideover.etcd.messages import rpc
from tideover.etcd.requests import HAS_LEADER, header_of
from tideover.etcd.rpc_errors import write_errors
from tideover.store.faults import Fault, StoreFault, classify
from tideover.store.operations import LeaseResult
from tideover.store.protocol import TakeRenewal

# How many renewals are sent at once, where the transport can: of the rest none is sent after its waiter has gone.
_TOGETHER = 32

CLOSED = classify("CANCELLED", "the connection was closed under the stream")


class Batch:
    """Renewals with one waiter; `take` is told each answer as it comes."""

    def __init__(self, leases: Iterable[int], take: TakeRenewal) -> None:
        self.due = dict.fromkeys(leases)
        self.over = asyncio.Event()
        self.fault: Fault | None = None
        self._take = take
        if not self.due:
            self.over.set()

    def answer(self, lease: int, answer: LeaseResult | Fault) -> None:
        """Pass an answer on, unless its wait has ended."""
        if lease not in self.due:
            return
        del self.due[lease]
        self._take(lease, answer)
        if not self.due:
            self.over.set()

    def begin_again(self) -> None:
        """Wait again for what is due, after it has failed."""
        self.fault = None
        self.over.clear()

    def fail(self, fault: Fault) -> None:
        """End it; what is due may be asked for again."""
        self.fault = fault
        self.over.set()

    def drop(self) -> None:
        """Wait for nothing any more."""
        self.due.clear()
        self.over.set()


class KeepAliveStream:
    """A stream of renewals, until it ends or `aclose()`.

    It owns two tasks, as a `WatchStream` does, for cancelling a read or a write of grpc's ends the whole stream.
    `on_end` is told the stream, why it has ended, and what was still waited for, in the order of asking.
    """

    def __init__(
        self,
        stub: Any,
        token: str,
        *,
        on_end: Callable[[KeepAliveStream, Fault, list[tuple[int, Batch]]], None],
    ) -> None:
        self.stub = stub
        self.token = token
        self.ended: Fault | None = None
        self._on_end = on_end
        # In the order of asking: etcd answers one stream in order.
        self._asked: dict[int, Batch] = {}
        self._outbox: deque[int] = deque()
        self._filled = asyncio.Event()
        metadata = (("token", token),) if token else ()
        with translated():
            self._call = stub.LeaseKeepAlive(metadata=(*HAS_LEADER, *metadata))
        # grpc takes the next one once it has sent the last.
        self._most = _TOGETHER if hasattr(self._call, "write_all") else 1
        self._writer = asyncio.create_task(self._write_all())
        self.reader = asyncio.create_task(self._read_all())
        self.reader.add_done_callback(self._finish)

    def accepts(self, lease: int) -> bool:
        """Whether a lease can be renewed over it: no answer is due that a new one could be taken for."""
        return self.ended is None and lease not in self._asked

    @property
    def busy(self) -> bool:
        """Whether an answer is still waited for."""
        return any(lease in batch.due for lease, batch in self._asked.items())

    def ask(self, lease: int, batch: Batch) -> None:
        """Renew a lease that it takes; the batch is told."""
        self._asked[lease] = batch
        self._outbox.append(lease)
        self._filled.set()

    def cancel(self) -> None:
        """End the stream; its tasks end soon."""
        self._end(CLOSED)
        self.reader.cancel()

    def abandon(self) -> list[tuple[int, Batch]]:
        """End the stream, and return what was still waited for, untold."""
        asked, self._asked = self._asked, {}
        self.cancel()
        return self._due(asked)

    async def aclose(self) -> None:
        """End the stream, and wait until its tasks are done."""
        self.cancel()
        await asyncio.wait({self.reader, self._writer})

    async def _write_all(self) -> None:
        while True:
            if not self._outbox:
                self._filled.clear()
                await self._filled.wait()
            leases = [self._outbox.popleft() for _ in range(min(len(self._outbox), self._most))]
            requests = [rpc.LeaseKeepAliveRequest(ID=lease) for lease in leases if self._is_due(lease)]
            if self.ended is not None:
                return
            try:
                if requests:
                    await (self._call.write_all(requests) if self._most > 1 else self._call.write(*requests))
            except write_errors():
                return  # the reading task says why
            if self._most > 1:
                await asyncio.sleep(0)

    def _is_due(self, lease: int) -> bool:
        batch = self._asked.get(lease)
        if batch is not None and lease not in batch.due:
            # Given up before it was sent: no answer will come.
            del self._asked[lease]
            return False
        return batch is not None

    async def _read_all(self) -> Fault:
        try:
            with translated():
                # The end of the stream is false, and no message is.
                while reply := readable(await self._call.read()):
                    batch = self._asked.pop(reply.ID, None)
                    if batch is not None:
                        batch.answer(reply.ID, LeaseResult(header_of(reply), reply.ID, reply.TTL, reply.TTL))
                code, details = await self._call.code(), await self._call.details()
            return classify(code.name, details or "stream removed (ended by the server)")
        except StoreFault as exc:
            return exc.fault

    def _finish(self, reader: asyncio.Task[Fault]) -> None:
        self._writer.cancel()
        self._call.cancel()
        # A call that is referred to keeps its channel; see `WatchStream.aclose`.
        self._call = None
        # Cancelled is `cancel`, or grpc's own when the channel was closed under the stream: both are the end.
        self._end(CLOSED if reader.cancelled() else reader.result())

    def _end(self, fault: Fault) -> None:
        if self.ended is None:
            self.ended = fault
            asked, self._asked = self._asked, {}
            self._on_end(self, fault, self._due(asked))

    def _due(self, asked: dict[int, Batch]) -> list[tuple[int, Batch]]:
        return [(lease, batch) for lease, batch in asked.items() if lease in batch.due]
