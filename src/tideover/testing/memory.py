"""`MemoryStore`: a cluster in memory, for tests that run on a mock clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import anyio

from tideover.core.signal import Signal
from tideover.etcd.faults import StoreFault, classify
from tideover.etcd.store import (
    MOST_READS,
    Compacted,
    Delete,
    Event,
    Lane,
    Op,
    Put,
    Range,
    RangeResult,
    ReadBatch,
    ReadBatchResult,
    Result,
    Status,
    StatusResult,
    WatchBatch,
    WriteResult,
    within,
)
from tideover.records import Entry, Header
from tideover.resilience.diagnosis import quorum_of

R = TypeVar("R", bound=Result)


# etcd's default limits in bytes: on what is written, 1.5 MiB, and on any message, half a MiB more.
_MAX_REQUEST = 1_572_864
_MAX_MESSAGE = _MAX_REQUEST + 512 * 1024


class MemoryStore:
    """An etcd cluster in memory that can be broken at will.

    Change the public attributes, then call `touch()` so that open watches notice.

    Args:
        members: How many members.

    Attributes:
        down: Members that refuse connections.
        frozen: Members that accept calls and never answer.
        electing: Whether the cluster has no leader although its members are well.
        lagging: For a member, the revision its serializable reads are stuck at.
        delay: Seconds every answer takes.
        raft_term: The term in every header.
        cluster_id: The cluster in every header.
        version: What members say their version is; before 3.5.8 progress replies overtake events.
        calls: Every attempt that reached a member, as (member, operation).
    """

    def __init__(self, members: int = 3) -> None:
        self._members = tuple(f"memory-{n}:2379" for n in range(1, members + 1))
        self.down: set[str] = set()
        self.frozen: set[str] = set()
        self.electing = False
        self.lagging: dict[str, int] = {}
        self.delay = 0.0
        self.raft_term = 2
        self.cluster_id = 77
        self.version = "3.5.9"
        self.calls: list[tuple[str, Op[Result]]] = []
        self._history: list[Event] = []
        self._newest: dict[bytes, Entry] = {}
        self._revision = 1
        self._compacted = 0
        self._changed = Signal()

    def __repr__(self) -> str:
        """Show members, revision and what is broken."""
        return f"<MemoryStore {len(self._members)} members, revision {self._revision}, down {len(self.down)}>"

    @property
    def members(self) -> Sequence[str]:
        """The members' names."""
        return self._members

    @property
    def revision(self) -> int:
        """The newest revision."""
        return self._revision

    @property
    def has_leader(self) -> bool:
        """Whether enough members are well to have a leader."""
        well = len(self._members) - len(self.down | self.frozen)
        return not self.electing and well >= quorum_of(len(self._members))

    def touch(self) -> None:
        """Let open watches notice what was changed."""
        self._changed.fire()

    def compact(self, revision: int) -> None:
        """Forget the history below a revision."""
        self._compacted = revision
        self.touch()

    def rebuild(self, entries: dict[bytes, bytes], *, revision: int = 1) -> None:
        """Replace the cluster by another one on the same members, with the same cluster id."""
        self._history.clear()
        self._newest.clear()
        self._revision, self._compacted, self.raft_term = revision, 0, 1
        for key, value in entries.items():
            self._put(Put(key, value))
        self.touch()

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        """Make one attempt at one member; see `Store.call`."""
        await anyio.lowlevel.checkpoint()
        await self._arrive(member, timeout)
        self.calls.append((member, cast("Op[Result]", op)))
        if self.delay:
            if self.delay >= timeout:
                await anyio.sleep(timeout)
                raise StoreFault(classify("DEADLINE_EXCEEDED", "Deadline Exceeded"))
            await anyio.sleep(self.delay)
        if op.lane is Lane.QUORUM and not self.has_leader:
            raise StoreFault(classify("UNAVAILABLE", "etcdserver: no leader"))
        if _size(op) > _MAX_MESSAGE:
            raise StoreFault(classify("RESOURCE_EXHAUSTED", "grpc: received message larger than max"))
        if not getattr(op, "key", b"?"):
            raise StoreFault(classify("INVALID_ARGUMENT", "etcdserver: key is not provided"))
        match op:
            case Range():
                return cast("R", self._range(op, member))
            case ReadBatch(keys):
                return cast("R", self._read_batch(keys, member))
            case Status():
                return cast("R", StatusResult(self._header(member, self._revision), self.version))
            case Put():
                self._put(op)
                return cast("R", WriteResult(self._header(member, self._revision)))
            case Delete():
                deleted = self._delete(op)
                return cast("R", WriteResult(self._header(member, self._revision), deleted))
            case _:
                raise TypeError(f"MemoryStore does not know the operation {op!r}")

    async def _arrive(self, member: str, timeout: float) -> None:
        if member not in self._members:
            raise KeyError(member)
        if member in self.down:
            raise StoreFault(classify("UNAVAILABLE", "failed to connect to all addresses"))
        with anyio.move_on_after(timeout):
            while member in self.frozen:
                await self._changed.wait()
            return
        raise StoreFault(classify("DEADLINE_EXCEEDED", "Deadline Exceeded"))

    def _header(self, member: str, revision: int) -> Header:
        return Header(self.cluster_id, self._members.index(member) + 1, self.raft_term, revision)

    def _state(self, revision: int) -> dict[bytes, Entry]:
        if revision == self._revision:
            return self._newest
        state: dict[bytes, Entry] = {}
        for event in self._history:
            if event.revision > revision:
                break
            _change(state, event)
        return state

    def _range(self, op: Range, member: str) -> RangeResult:
        now = self.lagging.get(member, self._revision) if op.serializable else self._revision
        if op.revision > now:
            raise StoreFault(classify("OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision"))
        if op.revision and op.revision < self._compacted:
            raise Compacted(self._compacted)
        state = self._state(op.revision or now)
        found = sorted((k, e) for k, e in state.items() if within(k, op.key, op.end))
        changed = [(k, e) for k, e in found if e.mod_revision >= op.changed_since]
        cut = dict(changed[: op.limit] if op.limit else changed)
        if op.keys_only:
            cut = {k: Entry(b"", e.create_revision, e.mod_revision) for k, e in cut.items()}
        return RangeResult(self._header(member, now), cut, len(cut) < len(changed), len(found))

    def _read_batch(self, keys: Sequence[bytes], member: str) -> ReadBatchResult:
        if len(keys) > MOST_READS:
            raise StoreFault(classify("INVALID_ARGUMENT", "etcdserver: too many operations in txn request"))
        if not all(keys):
            raise StoreFault(classify("INVALID_ARGUMENT", "etcdserver: key is not provided"))
        found = {key: self._newest[key] for key in keys if key in self._newest}
        return ReadBatchResult(self._header(member, self._revision), found)

    def _put(self, op: Put) -> None:
        if len(op.key) + len(op.value) > _MAX_REQUEST:
            raise StoreFault(classify("INVALID_ARGUMENT", "etcdserver: request is too large"))
        old = self._newest.get(op.key)
        self._revision += 1
        created = old.create_revision if old else self._revision
        self._record(Event(op.key, Entry(op.value, created, self._revision), self._revision))

    def _delete(self, op: Delete) -> int:
        doomed = sorted(k for k in self._newest if within(k, op.key, op.end))
        self._revision += bool(doomed)
        for key in doomed:
            self._record(Event(key, None, self._revision))
        return len(doomed)

    def _record(self, event: Event) -> None:
        self._history.append(event)
        _change(self._newest, event)
        self.touch()

    @asynccontextmanager
    async def watch(
        self, key: bytes, end: bytes | None, *, start_revision: int, member: str, timeout: float
    ) -> AsyncIterator[MemoryWatch]:
        """Open a watch; see `Store.watch`."""
        await anyio.lowlevel.checkpoint()
        await self._arrive(member, timeout)
        if not self.has_leader:
            raise StoreFault(classify("UNAVAILABLE", "etcdserver: no leader"))
        if start_revision and start_revision < self._compacted:
            raise Compacted(self._compacted)
        yield MemoryWatch(self, member, key, end, start_revision or self._revision + 1)

    async def wait_disconnected(self, member: str) -> None:
        """Return when the member goes down."""
        while member in self.down:
            await self._changed.wait()
        while member not in self.down:
            await self._changed.wait()

    def renew(self, member: str) -> None:
        """Do nothing: there is no connection."""

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""


class MemoryWatch:
    """A watch on a `MemoryStore`."""

    def __init__(
        self, store: MemoryStore, member: str, key: bytes, end: bytes | None, start_revision: int
    ) -> None:
        self._store = store
        self._member = member
        self._key, self._end = key, end
        self._next = start_revision
        self._progress_requests = 0

    async def receive(self) -> WatchBatch:
        """Return the next frame; see `Watch.receive`."""
        store = self._store
        await anyio.lowlevel.checkpoint()
        while True:
            changed = store._changed.next()
            if self._member in store.down:
                raise StoreFault(classify("UNAVAILABLE", "Stream removed (Socket closed)"))
            if self._member not in store.frozen:
                if not store.has_leader:
                    raise StoreFault(classify("UNAVAILABLE", "etcdserver: no leader"))
                batch = self._batch()
                if batch is not None:
                    return batch
            await changed.wait()

    def _batch(self) -> WatchBatch | None:
        store = self._store
        header = store._header(self._member, store.revision)
        events = tuple(
            e for e in store._history if e.revision >= self._next and within(e.key, self._key, self._end)
        )
        if events:
            self._next = store.revision + 1
            return WatchBatch(header, events)
        if self._progress_requests:
            self._progress_requests = 0
            return WatchBatch(header)
        return None

    async def request_progress(self) -> None:
        """Ask for a progress frame; see `Watch.request_progress`."""
        await anyio.lowlevel.checkpoint()
        self._progress_requests += 1
        self._store.touch()


def _size(op: Op[Any]) -> int:
    keys = op.keys if isinstance(op, ReadBatch) else (getattr(op, "key", b""), getattr(op, "value", b""))
    return sum(map(len, keys))


def _change(state: dict[bytes, Entry], event: Event) -> None:
    if event.entry is None:
        state.pop(event.key, None)
    else:
        state[event.key] = event.entry
