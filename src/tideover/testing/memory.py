"""`MemoryStore`: a cluster in memory, for tests that run on a mock clock."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar, cast

import anyio

from tideover.broadcast import Broadcast
from tideover.codecs import encode
from tideover.config.keys import Keys
from tideover.etcd.proxy_detection import refusal
from tideover.store.endpoints import Address
from tideover.store.faults import UNANSWERED, Fault, StoreFault, classify, unless_expected
from tideover.store.leases import (
    Attachments,
    AttachmentsResult,
    LeaseGrant,
    LeaseKeepAlive,
    LeaseRevoke,
    LeaseTimeToLive,
)
from tideover.store.operations import (
    MOST_READS,
    AlarmList,
    AlarmListResult,
    Delete,
    Lane,
    LeaseResult,
    MemberList,
    MemberListResult,
    Op,
    Put,
    Range,
    RangeResult,
    ReadBatch,
    ReadBatchResult,
    Result,
    Status,
    StatusResult,
    WriteResult,
    within,
)
from tideover.store.protocol import Compacted, Event, KeepAlive, TakeRenewal
from tideover.store.transactions import Step, Txn, TxnResult
from tideover.testing.memory_keys import MemoryKeys
from tideover.testing.memory_leases import MemoryLeases
from tideover.testing.memory_watches import MemoryGroup, MemoryWatch
from tideover.types import ClusterMember, Entry, Header

R = TypeVar("R", bound=Result)
T = TypeVar("T")


# etcd's default limits in bytes: on what is written, 1.5 MiB, and on any message, half a MiB more.
_MAX_REQUEST = 1_572_864
_MAX_MESSAGE = _MAX_REQUEST + 512 * 1024


class MemoryStore:
    """An etcd cluster in memory that can be broken at will.

    It has many public attributes, because each is a way to break it. Change them, then call `touch()` so that open
    watches notice.

    Args:
        members: How many members the cluster has.
        given: How many of them a client is told of; None means all. The others are in the cluster's list only.
        values: What the configuration has: key, as `get` names it, to value, of any type that `put` takes.
        namespace: Where these values are: that of `connect`, letter for letter.

    Raises:
        TypeError: A value is of a type that cannot be stored.
        ValueError: A value cannot be stored, such as NaN.
        InvalidRequest: A key cannot be a key.

    Attributes:
        listed: The cluster's own list of its members.
        aliases: Other addresses of members, such as those behind a name: endpoint to member.
        strangers: Endpoints at which a member of another cluster answers, and that cluster's id.
        down: Members that refuse connections.
        frozen: Members that accept calls and never answer.
        electing: Whether the cluster has no leader although its members are well.
        lagging: For a member, the revision its serializable reads are stuck at.
        stale: Former leaders that acknowledge keep-alives in an old term, without effect.
        delay: Seconds every answer takes.
        raft_term: The term in every header.
        cluster_id: The cluster in every header.
        alarms: Alarms raised: with `"NOSPACE"` writes other than deletes are refused, with `"CORRUPT"` all writes.
        version: What members say their version is; before 3.5.8 progress replies overtake events.
        status_denied: Whether members withhold version and alarms from this user, as newer ones do.
        proxies: Members that are really grpc-proxies: they answer no progress requests, and without a quorum
            nothing at all.
        mute: Members whose watches have died unnoticed: they stay open and deliver nothing.
        calls: Every attempt that reached a member, as (member, operation).
        watched: How often a watch was opened.
    """

    def __init__(
        self,
        members: int = 3,
        *,
        given: int | None = None,
        values: Mapping[str, object] | None = None,
        namespace: str = "",
    ) -> None:
        self._cluster = tuple(f"memory-{n}:2379" for n in range(1, members + 1))
        self._members = self._cluster[:given]
        self.listed: tuple[ClusterMember, ...] = tuple(
            ClusterMember(n, f"memory-{n}", (f"http://{endpoint}",)) for n, endpoint in enumerate(self._cluster, 1)
        )
        self.aliases: dict[str, str] = {}
        self.strangers: dict[str, int] = {}
        self.down: set[str] = set()
        self.frozen: set[str] = set()
        self.electing = False
        self.lagging: dict[str, int] = {}
        self.stale: set[str] = set()
        self.delay = 0.0
        self.raft_term = 2
        self.cluster_id = 77
        self.alarms: set[str] = set()
        self.version = "3.5.9"
        self.status_denied = False
        self.proxies: set[str] = set()
        self.mute: set[str] = set()
        self.calls: list[tuple[str, Op[Result]]] = []
        self.watched = 0
        self._keys = MemoryKeys()
        # The same objects for as long as the store lives; tests look at them.
        self._history, self._newest = self._keys.history, self._keys.newest
        self._leases = MemoryLeases()
        self._changed = Broadcast()
        # By caller of `cut_off`, the members that were up.
        self._cut_off: dict[object, set[str]] = {}
        names = Keys(f"{namespace}/config/", ())
        for key, value in (values or {}).items():
            self._apply([Put(names.full(key), encode(value))], self._members[0])

    def __repr__(self) -> str:
        return f"<MemoryStore {len(self._cluster)} members, revision {self.revision}, down {len(self.down)}>"

    @property
    def members(self) -> Sequence[str]:
        """The names of the members that the client is connected to."""
        return self._members

    async def add(self, address: Address, *, expected: tuple[int, int] | None = None, timeout: float) -> Header:
        """Connect to one more member, if it answers; see `Store.add`."""
        endpoint = address.endpoint
        if self._behind(endpoint) not in self._cluster and endpoint not in self.strangers:
            await anyio.lowlevel.checkpoint()
            raise StoreFault(classify("UNAVAILABLE", "failed to connect to all addresses"))
        await self._arrive(endpoint, timeout)
        header = self._header(endpoint, self.revision)
        unless_expected(endpoint, header, expected)
        if endpoint not in self._members:
            self._members += (endpoint,)
        return header

    def remove(self, member: str) -> None:
        """Give up a member; see `Store.remove`."""
        self._members = tuple(m for m in self._members if m != member)
        self.touch()

    def _behind(self, endpoint: str) -> str:
        return self.aliases.get(endpoint, endpoint)

    @property
    def revision(self) -> int:
        """The newest revision."""
        return self._keys.revision

    @property
    def has_leader(self) -> bool:
        """Whether enough members are well to have a leader."""
        well = set(self._cluster) - self.down - self.frozen
        return not self.electing and len(well) > len(self._cluster) // 2

    def touch(self) -> None:
        """Wake open watches after a change, and freeze leases without a leader."""
        if not self.has_leader:
            self._leases.freeze()
        self._changed.fire()

    def cut_off(self, by: object) -> None:
        """Make all members unreachable, until `reconnect` with the same `by`."""
        self._cut_off[by] = set(self._cluster) - self.down
        self.down |= self._cut_off[by]
        self.touch()

    def reconnect(self, by: object) -> None:
        """End one `cut_off`; the members stay down as long as others last."""
        mine = self._cut_off.pop(by, set())
        if self._cut_off:
            next(iter(self._cut_off.values())).update(mine)
        else:
            self.down -= mine
        self.touch()

    @property
    def is_cut_off(self) -> bool:
        """Whether a `cut_off` is in effect."""
        return bool(self._cut_off)

    def compact(self, revision: int) -> None:
        """Forget the history below a revision."""
        self._keys.compacted = revision
        self.touch()

    def rebuild(self, entries: dict[bytes, bytes], *, revision: int = 1) -> None:
        """Replace the cluster by another one on the same members, with the same cluster id."""
        self._keys.reset(revision)
        self._leases, self.raft_term = MemoryLeases(), 1
        for key, value in entries.items():
            self._apply([Put(key, value)], self._members[0])
        self.touch()

    @property
    def leases(self) -> frozenset[int]:
        """The leases there are."""
        self._advance()
        return frozenset(self._leases.by_id)

    def revoke(self, lease: int) -> None:
        """Revoke a lease, with its keys, as etcd may do to a living one: see leases-and-deadlines.md."""
        keys = sorted(self._leases.by_id.pop(lease).keys)
        self._apply([Delete(key) for key in keys], self._members[0])
        self.touch()

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        """Make one attempt at one member; see `Store.call`."""
        await anyio.lowlevel.checkpoint()
        self._check_is_there(member)
        await self._arrive(member, timeout)
        self.calls.append((member, cast("Op[Result]", op)))
        if self.delay:
            if self.delay >= timeout:
                await anyio.sleep(timeout)
                raise StoreFault(UNANSWERED)
            await anyio.sleep(self.delay)
        if member in self.proxies and not isinstance(op, Status):
            await self._await_leader(timeout)
        if op.lane is Lane.QUORUM and not self.has_leader:
            raise StoreFault(classify("UNAVAILABLE", "etcdserver: no leader"))
        if _size(op) > _MAX_MESSAGE:
            raise StoreFault(classify("RESOURCE_EXHAUSTED", "grpc: received message larger than max"))
        if not getattr(op, "key", b"?"):
            raise StoreFault(classify("INVALID_ARGUMENT", "etcdserver: key is not provided"))
        if op.writes:
            self._check_alarms(op)
        self._advance()
        header = self._header(member, self.revision)
        match op:
            case Range():
                return cast("R", self._range(op, member))
            case ReadBatch(keys):
                return cast("R", self._read_batch(keys, member))
            case Attachments(keys=keys):
                found = self._read_batch(keys, member).entries.items()
                there = {key: (entry.create_revision, self._leases.of(key)) for key, entry in found}
                return cast("R", AttachmentsResult(header, there))
            case Status():
                if self.status_denied:
                    return cast("R", StatusResult(header, None, None))
                return cast("R", StatusResult(header, self.version, frozenset(self.alarms)))
            case AlarmList():
                return cast("R", AlarmListResult(header, frozenset(self.alarms)))
            case MemberList():
                return cast("R", MemberListResult(self._header(member, 0), self.listed))
            case Put() | Delete():
                return cast("R", self._apply([op], member)[0])
            case Txn():
                return cast("R", self._txn(op, member))
            case LeaseGrant(ttl, lease):
                if lease in self._leases.by_id:
                    raise StoreFault(classify("FAILED_PRECONDITION", "etcdserver: lease already exists"))
                granted = self._leases.grant(lease, ttl, anyio.current_time())
                self.touch()
                return cast("R", LeaseResult(header, lease, granted, granted))
            case LeaseRevoke(lease):
                self._lease_must_exist(lease)
                self.revoke(lease)
                return cast("R", LeaseResult(self._header(member, self.revision), lease, 0))
            case LeaseTimeToLive(lease, keys):
                return cast("R", self._time_to_live(lease, header, keys=keys))
            case _:
                raise TypeError(f"MemoryStore does not know the operation {op!r}")

    def _check_is_there(self, member: str) -> None:
        if member not in self._members:
            raise StoreFault(classify("UNAVAILABLE", f"failed to connect to all addresses: {member} was removed"))

    async def _arrive(self, member: str, timeout: float) -> None:
        member = self._behind(member)
        if member in self.down:
            raise StoreFault(classify("UNAVAILABLE", "failed to connect to all addresses"))
        with anyio.move_on_after(timeout):
            while member in self.frozen:
                await self._changed.wait()
            return
        raise StoreFault(UNANSWERED)

    async def _await_leader(self, timeout: float) -> None:
        with anyio.move_on_after(timeout):
            while not self.has_leader:
                await self._changed.wait()
            return
        raise StoreFault(UNANSWERED)

    def _header(self, member: str, revision: int) -> Header:
        if member in self.strangers:
            return Header(self.strangers[member], 99, self.raft_term, revision)
        number = self._cluster.index(self._behind(member)) + 1
        return Header(self.cluster_id, number, self.raft_term, revision)

    def _range(self, op: Range, member: str) -> RangeResult:
        now = self.lagging.get(member, self.revision) if op.serializable else self.revision
        entries, more, count = self._keys.read(op, now)
        return RangeResult(self._header(member, now), entries, more, count)

    def _check_alarms(self, op: Op[R]) -> None:
        if "CORRUPT" in self.alarms:
            raise StoreFault(classify("DATA_LOSS", "etcdserver: corrupt cluster"))
        steps = (*op.then, *op.otherwise) if isinstance(op, Txn) else (op,)
        if "NOSPACE" in self.alarms and any(isinstance(step, Put | LeaseGrant) for step in steps):
            raise StoreFault(classify("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded"))

    def _read_batch(self, keys: Sequence[bytes], member: str) -> ReadBatchResult:
        if len(keys) > MOST_READS:
            raise StoreFault(classify("INVALID_ARGUMENT", "etcdserver: too many operations in txn request"))
        if not all(keys):
            raise StoreFault(classify("INVALID_ARGUMENT", "etcdserver: key is not provided"))
        found = {key: self._newest[key] for key in keys if key in self._newest}
        return ReadBatchResult(self._header(member, self.revision), found)

    def _apply(self, steps: Sequence[Step], member: str) -> list[RangeResult | WriteResult]:
        put = [step.key for step in steps if isinstance(step, Put)]
        deleted = [step for step in steps if isinstance(step, Delete)]
        if len(set(put)) < len(put) or any(within(key, d.key, d.end) for key in put for d in deleted):
            raise StoreFault(classify("INVALID_ARGUMENT", "etcdserver: duplicate key given in txn request"))
        for step in steps:
            if isinstance(step, Put):
                if len(step.key) + len(step.value) > _MAX_REQUEST:
                    raise StoreFault(classify("INVALID_ARGUMENT", "etcdserver: request is too large"))
                if step.lease:
                    self._lease_must_exist(step.lease)
        revision, before = self.revision + 1, len(self._history)
        results: list[RangeResult | WriteResult] = []
        for step in steps:
            match step:
                case Range():
                    results.append(self._range(step, member))
                case Put(key, value, lease):
                    old = self._newest.get(key)
                    self._leases.attach(key, lease)
                    created = old.create_revision if old else revision
                    self._keys.record(Event(key, Entry(value, created, revision), revision))
                    results.append(WriteResult(self._header(member, revision)))
                case Delete():
                    doomed = sorted(k for k in self._newest if within(k, step.key, step.end))
                    for key in doomed:
                        self._leases.attach(key, 0)
                        self._keys.record(Event(key, None, revision))
                    results.append(WriteResult(self._header(member, self.revision), len(doomed)))
        if len(self._history) > before:
            self.touch()
        return results

    def _txn(self, op: Txn, member: str) -> TxnResult:
        succeeded = all(self._keys.holds(each, self._leases.of(each.key)) for each in op.compares)
        results = self._apply(op.then if succeeded else op.otherwise, member)
        return TxnResult(self._header(member, self.revision), succeeded, tuple(results))

    def _advance(self) -> None:
        for lease in self._leases.advance(anyio.current_time(), has_leader=self.has_leader):
            self.revoke(lease)

    def _lease_must_exist(self, lease: int) -> None:
        if lease not in self._leases.by_id:
            raise StoreFault(classify("NOT_FOUND", "etcdserver: requested lease not found"))

    def _time_to_live(self, lease: int, header: Header, *, keys: bool) -> LeaseResult:
        found = self._leases.by_id.get(lease)
        if found is None:
            return LeaseResult(header, lease, -1)
        left = math.ceil(found.expires_at - anyio.current_time())
        return LeaseResult(header, lease, left, found.ttl, tuple(sorted(found.keys)) if keys else ())

    @asynccontextmanager
    async def keep_alive(self, *, member: str) -> AsyncIterator[MemoryKeepAlive]:
        """Renew leases at a member; see `Store.keep_alive`."""
        await anyio.lowlevel.checkpoint()
        yield MemoryKeepAlive(self, member)

    @asynccontextmanager
    async def watch(
        self, key: bytes, end: bytes | None, *, start_revision: int, member: str, timeout: float
    ) -> AsyncIterator[MemoryWatch]:
        """Open a watch; see `Store.watch`."""
        await self._reach_watches(member, timeout)
        if start_revision and start_revision < self._keys.compacted:
            raise Compacted(self._keys.compacted)
        self.watched += 1
        yield MemoryWatch(self, member, key, end, start_revision)

    @asynccontextmanager
    async def watch_group(self, *, member: str, timeout: float) -> AsyncIterator[MemoryGroup]:
        """Begin a group of watches; see `Store.watch_group`."""
        await self._reach_watches(member, timeout)
        yield MemoryGroup(self, member)

    async def _reach_watches(self, member: str, timeout: float) -> None:
        await anyio.lowlevel.checkpoint()
        self._check_is_there(member)
        await self._arrive(member, timeout)
        if not self.has_leader and member not in self.proxies:
            raise StoreFault(classify("UNAVAILABLE", "etcdserver: no leader"))

    async def _frame(self, member: str, found: Callable[[], T | None]) -> T:
        """Wait until a watch at a member has a frame, or ends."""
        await anyio.lowlevel.checkpoint()
        while True:
            changed = self._changed.next()
            behind = self._behind(member)
            if behind in self.down or member not in self._members:
                raise StoreFault(classify("UNAVAILABLE", "Stream removed (Socket closed)"))
            silent = behind in self.frozen | self.mute
            if not silent and (self.has_leader or member not in self.proxies):
                if not self.has_leader:
                    raise StoreFault(classify("UNAVAILABLE", "etcdserver: no leader"))
                frame = found()
                if frame is not None:
                    return frame
            # Leases end by the clock alone.
            with anyio.move_on_after(self._leases.next_expiry - anyio.current_time()):
                await changed.wait()
            self._advance()

    def is_proxy(self, member: str) -> bool | None:
        """Whether the member is one of `proxies`."""
        return member in self.proxies

    def way(self, member: str) -> str:
        """Return an empty text: nothing lies on the way."""
        return ""

    async def require_member(self, member: str, *, timeout: float) -> None:
        """Refuse one of `proxies`; see `Store.require_member`."""
        await anyio.lowlevel.checkpoint()
        await self._arrive(member, timeout)
        if member in self.proxies:
            raise refusal(member)

    async def wait_disconnected(self, member: str) -> None:
        """Return when the member goes down."""
        member = self._behind(member)
        while member in self.down:
            await self._changed.wait()
        while member not in self.down:
            await self._changed.wait()

    def renew(self, member: str) -> None:
        """Do nothing: there is no connection."""

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""


class MemoryKeepAlive(KeepAlive):
    """Renews leases of a `MemoryStore`."""

    def __init__(self, store: MemoryStore, member: str) -> None:
        self._store = store
        self._member = member

    async def renew_all(self, leases: Sequence[int], take: TakeRenewal) -> None:
        """Renew leases; see `KeepAlive.renew_all`."""
        store, member = self._store, self._member
        await anyio.lowlevel.checkpoint()
        await store._arrive(member, math.inf)
        store.calls.extend((member, cast("Op[Result]", LeaseKeepAlive(lease))) for lease in leases)
        await anyio.sleep(store.delay)
        for lease in leases:
            take(lease, self._renew(lease))

    def _renew(self, lease: int) -> LeaseResult | Fault:
        store, member = self._store, self._member
        if member in store.stale:
            found = store._leases.by_id.get(lease)
            old = replace(store._header(member, store.revision), raft_term=store.raft_term - 1)
            return LeaseResult(old, lease, found.ttl if found else 0)
        if not store.has_leader:
            raise StoreFault(classify("UNAVAILABLE", "etcdserver: no leader"))
        store._advance()
        ttl = store._leases.renew(lease, anyio.current_time())
        return LeaseResult(store._header(member, store.revision), lease, ttl, ttl)


def _size(op: Op[Any]) -> int:
    keys = op.keys if isinstance(op, ReadBatch) else (getattr(op, "key", b""), getattr(op, "value", b""))
    return sum(map(len, keys))
