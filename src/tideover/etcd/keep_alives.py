"""All renewals at one member, on one stream as long as nothing forces others; over grpc on up to three.

grpc takes the next message of a stream once it has sent the last one, and each time two threads wake each other
up. Over three streams a burst of 64 renewals costs two thirds of what it does over one (docs/decisions/0103). Over
http2 a burst is one write.

etcd 3.5.28 and later refuses to renew a lease of whose keys its user may not write one, and ends the whole stream
with that (`PERMISSION_DENIED`, seen on 3.5.35 and 3.7.3), as does every other fault. Which lease it was the answer
does not say. etcd answers in order, but grpc drops answers that have arrived before an error and were not read
yet; so the first ones without an answer are asked one at a time, until the refused one is found.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

import anyio

from tideover.etcd.auth_token import asks_for_token
from tideover.etcd.channel import MemberChannel
from tideover.etcd.keepalive import CLOSED, Batch, KeepAliveStream
from tideover.policies import Transport
from tideover.store.faults import UNANSWERED, Fault, FaultKind, StoreFault, is_masked
from tideover.store.operations import LeaseResult
from tideover.store.protocol import KeepAlive, TakeRenewal

# How many streams take turns, by transport; and how many renewals at one moment are worth one more.
_STREAMS: dict[Transport, int] = {"grpc": 3, "http2": 1}
_WORTH = 6
# How many are open at the most: those that take turns, others that still owe an answer, and those of a search. A
# connection has room for so many besides its calls (see `room`).
_MOST_STREAMS = 8
# Seconds for the answer to a lease that is asked alone.
_ALONE = 1.0
# How often it is asked when grpc does not pass on why.
_ASKS = 8
# How many leases that were refused are remembered.
_MOST_REFUSED = 1000

# Sees that a stream may be opened, and returns the token for it: another than the one given, which was refused.
Prepare = Callable[[str | None], Awaitable[str]]
Asked = tuple[int, Batch]
OnEnd = Callable[[KeepAliveStream, Fault, list[Asked]], None]


class KeepAlives(KeepAlive):
    """The streams of renewals at one member: a few that all share, and rarely others.

    A stream is not used for a lease whose answer it owes: a new one takes what comes, once there is room for it,
    and the old one ends with the last wait for its answers. A lease that was refused is asked on a stream of its
    own, until it is renewed.
    """

    def __init__(self, channel: MemberChannel, prepare: Prepare) -> None:
        self._channel = channel
        self._prepare = prepare
        self._opening = asyncio.Lock()
        self._room = asyncio.Semaphore(_MOST_STREAMS)
        self._shared: dict[int, KeepAliveStream] = {}
        self._streams: set[KeepAliveStream] = set()
        self._searches: set[asyncio.Task[None]] = set()
        self._refused: dict[int, None] = {}
        self._refused_token: str | None = None
        self._anonymous = False
        self._users = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[KeepAlive]:
        """Give what renews; the last to leave ends all streams."""
        self._users += 1
        try:
            yield self
        finally:
            self._users -= 1
            if not self._users:
                with anyio.CancelScope(shield=True):
                    await self.aclose()

    async def renew_all(self, leases: Sequence[int], take: TakeRenewal) -> None:
        """Renew leases; see `KeepAlive.renew_all`."""
        batch = Batch(leases, take)
        try:
            await self._ask(batch, tuple(batch.due))
            await batch.over.wait()
            if batch.fault is not None and asks_for_token(batch.fault):
                # What was refused for its token was not renewed, so that it may be asked again: once.
                batch.begin_again()
                await self._ask(batch, tuple(batch.due))
                await batch.over.wait()
        finally:
            batch.drop()
            self._end_unused()
        if batch.fault is not None:
            raise StoreFault(batch.fault)

    async def aclose(self) -> None:
        """End all streams."""
        self._shared.clear()
        self._refused.clear()
        ending = [*self._searches, *(stream.reader for stream in self._streams)]
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)

    async def _ask(self, batch: Batch, leases: Iterable[int]) -> None:
        """Send what is not known to be refused over the streams that all share, and the rest one at a time."""
        together = [lease for lease in leases if lease not in self._refused]
        alone = [(lease, batch) for lease in leases if lease in self._refused]
        if alone:
            self._search(alone)
        if together:
            # With a login one stream: a spent token would be refused by each at a moment of its own.
            streams = min(_STREAMS[self._channel.transport], 1 + len(together) // _WORTH) if self._anonymous else 1
            async with self._opening:
                for number in range(streams):
                    await self._ask_over(number, batch, together[number::streams])

    async def _ask_over(self, number: int, batch: Batch, leases: Sequence[int]) -> None:
        stream = self._shared.get(number)
        usable = stream is not None and stream.stub is self._channel.lease
        if stream is None or not usable or not all(map(stream.accepts, leases)):
            stream = self._shared[number] = await self._open(self._record_end)
        for lease in leases:
            stream.ask(lease, batch)

    async def _open(self, on_end: OnEnd) -> KeepAliveStream:
        token = await self._prepare(self._refused_token)
        self._anonymous = not token
        await self._room.acquire()
        try:
            stream = KeepAliveStream(self._channel.lease, token, on_end=on_end)
        except StoreFault:
            self._room.release()
            raise
        self._streams.add(stream)
        stream.reader.add_done_callback(lambda _: self._drop(stream))
        return stream

    def _drop(self, stream: KeepAliveStream) -> None:
        self._streams.discard(stream)
        self._room.release()

    def _end_unused(self) -> None:
        shared = set(self._shared.values())
        for stream in self._streams - shared:
            if not stream.busy:
                stream.cancel()

    def _record_end(self, stream: KeepAliveStream, fault: Fault, due: list[Asked]) -> None:
        if fault.kind is FaultKind.PERMISSION or is_masked(fault):
            self._search(due)
            return
        if stream in self._shared.values():
            # What ends one of them ends all: those that begin again must not meet it a second time.
            others, self._shared = self._shared.values(), {}
            for other in others:
                due += other.abandon()
        self._record_fault(stream, fault, due)

    def _record_fault(self, stream: KeepAliveStream, fault: Fault, due: list[Asked]) -> None:
        if asks_for_token(fault):
            self._refused_token = stream.token
        self._fail(due, fault)

    def _fail(self, due: list[Asked], fault: Fault) -> None:
        for _, batch in due:
            batch.fail(fault)

    def _search(self, due: list[Asked]) -> None:
        search = asyncio.create_task(self._find(due))
        self._searches.add(search)
        search.add_done_callback(self._searches.discard)

    async def _find(self, due: list[Asked]) -> None:
        """Ask one at a time until one is refused, and then the others together."""
        rest = deque(due)
        try:
            refused = False
            while rest and not refused:
                lease, batch = rest.popleft()
                if lease in batch.due:
                    answer = await self._ask_alone(lease)
                    refused = isinstance(answer, Fault)
                    batch.answer(lease, answer)
            for batch in {id(batch): batch for _, batch in rest}.values():
                await self._ask(batch, [lease for lease, of in rest if of is batch and lease in batch.due])
        except StoreFault as exc:
            self._fail(due, exc.fault)
        except asyncio.CancelledError:
            self._fail(due, CLOSED)
            raise

    async def _ask_alone(self, lease: int) -> LeaseResult | Fault:
        """Renew a lease on a stream of its own; return the fault if it is the lease that is refused."""
        fault = UNANSWERED
        for _ in range(_ASKS):
            answers: list[LeaseResult | Fault] = []
            one = Batch((lease,), lambda _, answer: answers.append(answer))  # noqa: B023  # asked and answered here
            stream = await self._open(self._record_fault)
            stream.ask(lease, one)
            with anyio.move_on_after(_ALONE):
                await one.over.wait()
            fault = one.fault or fault
            stream.cancel()
            if answers:
                self._refused.pop(lease, None)
                return answers[0]
            if fault.kind is FaultKind.PERMISSION:
                self._refused[lease] = None
                if len(self._refused) > _MOST_REFUSED:
                    del self._refused[next(iter(self._refused))]
                return fault
            if not is_masked(fault):
                break
        raise StoreFault(fault)
