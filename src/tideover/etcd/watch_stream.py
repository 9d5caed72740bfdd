"""Watches, many on one gRPC stream.

aetcd's own watcher is not used: it hangs on a denied watch and resumes from "now". Here every way in which etcd
can end a watch becomes an exception of that watch, and every end of the stream an exception of all its watches.

Measured on etcd 3.4.23 and 3.5.1, and the reason for what follows:

- A denied watch is answered by one message, created and cancelled at once, with the id asked for (3.5.1) or -1
  (3.4.23, and every grpc-proxy). A member answers in the order in which it was asked, so that no ids are needed to
  match the answers, and several creations may be under way; a grpc-proxy need not, and is asked one at a time.
- On 3.5.1 a denied watch silently kills watch 0 of its stream: ids begin at 1 and are not used again.
- The answer to a progress request names watch -1 and speaks for all watches of the stream.
- A grpc-proxy numbers the watches itself, from 0, and answers progress requests never; see `proxy_detection`.

Prior art: etcd's Go client (`client/v3/watch.go`) matches creations by order, as is done here, and buffers without
bound, which is not.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import anyio.lowlevel

from tideover.etcd.channel import readable, translated
from tideover.etcd.messages import rpc
from tideover.etcd.proxy_detection import by_proxy
from tideover.etcd.requests import entry_of, header_of
from tideover.etcd.rpc_errors import write_errors
from tideover.etcd.watch_buffer import Inbox
from tideover.store.faults import StoreFault, classify
from tideover.store.protocol import Compacted, Event, WatchBatch
from tideover.types import Header

_DELETE = 1
# The id in replies for all watches of a stream.
_ALL = -1
# How many creations are under way at once: a single watch does not wait behind a thousand of another caller.
_AT_ONCE = 16
_LEFT = classify("CANCELLED", "the watch was left")


class StreamWatch:
    """One watch of a stream, from `start_revision` on; 0 for the next one.

    `number` is the server's id of the watch; None before the answer.
    """

    __slots__ = ("_inbox", "_news", "_start_revision", "_stream", "ended", "number", "opened_at")

    def __init__(self, stream: WatchStream, start_revision: int) -> None:
        self.number: int | None = None
        self.opened_at = 0
        self.ended: Exception | None = None
        self._stream = stream
        self._start_revision = start_revision
        self._inbox = Inbox(start_revision)
        self._news: asyncio.Event | None = None

    async def receive(self) -> WatchBatch:
        """Return the next frame; see `Watch.receive`."""
        await anyio.lowlevel.checkpoint()
        while True:
            batch = self._inbox.pop()
            if batch is not None:
                return batch
            if self.ended is not None:
                raise self.ended
            await self._next()

    async def answered(self) -> None:
        """Wait until the server has created or refused the watch."""
        while self.number is None and self.ended is None:
            await self._next()

    async def _next(self) -> None:
        self._news = asyncio.Event()
        await self._news.wait()

    def wake(self) -> None:
        """Wake the reader."""
        if self._news is not None:
            self._news.set()

    async def request_progress(self) -> None:
        """Ask for a progress frame; see `Watch.request_progress`."""
        await anyio.lowlevel.checkpoint()
        if self.ended is not None:
            raise self.ended
        self._stream.request_progress(self)

    def begin(self, number: int, header: Header) -> None:
        """Record the creation."""
        self.number, self.opened_at = number, header.revision
        self.wake()

    def apply(self, reply: Any) -> None:
        """Apply a message about this watch alone."""
        if reply.compact_revision:
            self.end(Compacted(reply.compact_revision))
        elif reply.canceled:
            self.end(_refusal(reply))
        elif not reply.events:
            self._inbox.add_progress(header_of(reply))
        else:
            try:
                self._inbox.add(header_of(reply), [_event(e) for e in reply.events], more=reply.fragment)
            except StoreFault as exc:
                self.end(exc)
        self.wake()

    def apply_progress(self, header: Header) -> None:
        """Apply a progress reply for the whole stream.

        The reply may have been sent before this watch was created, and then says nothing about the history that
        this watch began with: it is passed on as a sign of life only.
        """
        if self._start_revision and self._start_revision <= self.opened_at >= header.revision:
            header = replace(header, revision=self._start_revision - 1)
        self._inbox.add_progress(header)
        self.wake()

    def end(self, error: Exception) -> None:
        """End the watch; frames that have arrived can still be received."""
        if self.ended is None:
            self.ended = error
        self.wake()


class Asker(Protocol):
    """Receives progress replies of a stream: a watch, or a group of watches."""

    def apply_progress(self, header: Header) -> None:
        """Apply a progress reply for the whole stream."""
        ...


class WatchStream:
    """One gRPC stream and its watches, until `aclose()`.

    Two tasks of its own read and write: cancelling a read or a write of grpc's ends the whole stream, so no
    caller's task does either. The opener of the stream calls `aclose`, which ends both tasks. Many attributes: the
    stream, its tasks, and the watches by each of their numbers.

    `on_answer` is called upon each answer to a creation with whether a grpc-proxy gave it.

    Attributes:
        retired: Whether the stream accepts no more users: it has ended, or left a creation unanswered too long.
        answered: The header of the newest answer to a creation, also of a refusal; None before.
    """

    def __init__(
        self, stub: Any, metadata: tuple[tuple[str, str], ...], *, on_answer: Callable[[bool], None]
    ) -> None:
        self.retired = False
        self.users = 0
        self.answered: Header | None = None
        self._on_answer = on_answer
        self._proxied = False
        self.ended: Exception | None = None
        self._watches: dict[int, StreamWatch] = {}
        self._numbers = itertools.count(1)
        self._askers: dict[Asker, None] = {}
        self._wanted: deque[tuple[StreamWatch, bytes, bytes | None, int]] = deque()
        self._creating: deque[tuple[int, StreamWatch]] = deque()
        self._outbox: asyncio.Queue[Any] = asyncio.Queue()
        self._progress_waits = False
        with translated():
            self._call = stub.Watch(metadata=metadata)
        self._tasks = [asyncio.create_task(self._read_all()), asyncio.create_task(self._write_all())]

    async def create(self, key: bytes, end: bytes | None, start_revision: int) -> StreamWatch:
        """Create a watch and return it once it is open, until `leave`; raise `StoreFault` if it is refused."""
        watch = StreamWatch(self, start_revision)
        self.begin(watch, key, end, start_revision)
        try:
            await watch.answered()
        except asyncio.CancelledError:
            self.leave(watch)
            raise
        if watch.ended is not None:
            self.leave(watch)
            raise watch.ended
        return watch

    def begin(self, watch: StreamWatch, key: bytes, end: bytes | None, start_revision: int) -> None:
        """Request the creation of a watch, which gets the result; until `leave`."""
        if self.ended is not None:
            raise self.ended
        self._wanted.append((watch, key, end, start_revision))
        self._create()

    def _create(self) -> None:
        """Send as many creations as may be under way: one until the first answer shows whether a proxy answers."""
        at_once = _AT_ONCE if self.answered is not None and not self._proxied else 1
        while self._wanted and len(self._creating) < at_once:
            watch, key, end, start_revision = self._wanted.popleft()
            if watch.ended is None:  # not given up meanwhile
                number = next(self._numbers)
                self._creating.append((number, watch))
                self._outbox.put_nowait(_create_request(number, key, end, start_revision))

    def leave(self, watch: StreamWatch) -> None:
        """End a watch, also at the server."""
        watch.end(StoreFault(_LEFT))
        self._askers.pop(watch, None)
        if watch.number is not None and self._watches.pop(watch.number, None) is not None:
            self._cancel(watch.number)

    def request_progress(self, asker: Asker) -> None:
        """Request a progress reply; requests not yet sent are one.

        Thousands of watches of single keys would wake for nothing every two seconds: a watch that never asks gets
        no replies. `asker` gets this reply and all later ones, until `dismiss` or `leave`.
        """
        self._askers[asker] = None
        # A proxy never answers it.
        if not self._proxied and not self._progress_waits:
            self._progress_waits = True
            self._outbox.put_nowait(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))

    def dismiss(self, asker: Asker) -> None:
        """Stop passing progress replies to `asker`."""
        self._askers.pop(asker, None)

    async def aclose(self) -> None:
        """End the stream with all its watches, and wait until its tasks are done."""
        self._end(StoreFault(classify("CANCELLED", "the connection was closed under the stream")))
        if self._call is None:
            return
        self._call.cancel()
        for task in self._tasks:
            task.cancel()
        # Not `gather`: cancelled, it loses the message that names the scope, which then takes the cancellation for
        # a foreign one.
        await asyncio.wait(self._tasks)
        # Errors refer to this object until they are collected. A call that is referred to keeps its channel, and
        # that goes on connecting although it was closed (grpcio 1.85).
        self._call, self._tasks = None, []

    async def _write_all(self) -> None:
        while True:
            request = await self._outbox.get()
            if request.WhichOneof("request_union") == "progress_request":
                self._progress_waits = False
            try:
                await self._call.write(request)
            except write_errors():
                return  # the reading task says why

    async def _read_all(self) -> None:
        error: Exception = StoreFault(classify("CANCELLED", "the connection was closed under the stream"))
        try:
            with translated():
                while True:
                    reply = readable(await self._call.read())
                    # The end of the stream is false, and no message is.
                    if not reply:
                        break
                    self._route(reply)
                code, details = await self._call.code(), await self._call.details()
            error = StoreFault(classify(code.name, details or "stream removed (ended by the server)"))
        except StoreFault as exc:
            # Not with the frames it comes from: they refer to the call; see `aclose`.
            error = StoreFault(exc.fault)
        except asyncio.CancelledError:
            # Of `aclose`, or grpc's own when the channel was closed under the stream: both are the end.
            pass
        except Exception as exc:  # noqa: BLE001  # raised in every watch
            error = exc
        finally:
            self._end(error)
            self._call.cancel()

    def _end(self, error: Exception) -> None:
        self.retired = True
        self.ended = self.ended or error
        waiting = [*(watch for _, watch in self._creating), *(watch for watch, *_ in self._wanted)]
        watches = [*self._watches.values(), *waiting]
        self._watches, self._askers = {}, {}
        self._creating.clear()
        self._wanted.clear()
        for watch in watches:
            watch.end(self.ended)

    def _route(self, reply: Any) -> None:
        if reply.created:
            self._apply_answer(reply)
        elif reply.watch_id == _ALL:
            if reply.canceled:
                raise _refusal(reply)
            for asker in list(self._askers):
                asker.apply_progress(header_of(reply))
        elif (of := self._watches.get(reply.watch_id)) is not None:
            of.apply(reply)
            if of.ended is not None:
                del self._watches[reply.watch_id]
                if not (reply.canceled or reply.compact_revision):
                    self._cancel(reply.watch_id)

    def _apply_answer(self, reply: Any) -> None:
        """Apply the answer to the oldest creation under way."""
        if not self._creating:
            raise StoreFault(classify("UNKNOWN", "etcd created a watch without a request"))
        number, watch = self._creating.popleft()
        self._proxied = by_proxy(reply, asked_for=number)
        self.answered = header_of(reply)
        self._on_answer(self._proxied)
        if reply.canceled or reply.compact_revision:
            watch.apply(reply)
        elif watch.ended is not None:  # given up meanwhile
            self._cancel(reply.watch_id)
        else:
            self._watches[reply.watch_id] = watch
            watch.begin(reply.watch_id, self.answered)
        self._create()

    def _cancel(self, number: int) -> None:
        self._outbox.put_nowait(rpc.WatchRequest(cancel_request=rpc.WatchCancelRequest(watch_id=number)))


def _create_request(number: int, key: bytes, end: bytes | None, start_revision: int) -> Any:
    return rpc.WatchRequest(
        create_request=rpc.WatchCreateRequest(
            key=key,
            range_end=end or b"",
            start_revision=start_revision,
            progress_notify=True,
            watch_id=number,
            fragment=True,
        )
    )


def _event(event: Any) -> Event:
    kv = event.kv
    return Event(kv.key, None if event.type == _DELETE else entry_of(kv), kv.mod_revision)


def _refusal(reply: Any) -> StoreFault:
    return StoreFault(classify("UNKNOWN", reply.cancel_reason or "stream removed (watch cancelled by the server)"))
