"""The port: what tideover needs of etcd, as data and one protocol.

Operations are frozen records, so that one `call` serves them all and a fake can match on them. Every call names
the member it goes to, and every answer hands back the header: health, freshness and identity are decided from
those. `EtcdStore`, `MemoryStore` and `FaultyStore` stand behind this port and pass one contract suite.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from tideover.etcd.endpoints import Address
from tideover.etcd.faults import StoreFault, classify
from tideover.records import ClusterMember, Entry, Header


class Result(Protocol):
    """Every answer says who gave it."""

    @property
    def header(self) -> Header:
        """Who answered, and at which revision."""
        ...


R = TypeVar("R", bound=Result)


class Lane(StrEnum):
    """Which calls live and die together: QUORUM needs a leader, MEMBER needs only one member."""

    QUORUM = "quorum"
    MEMBER = "member"


@dataclass(frozen=True, slots=True)
class Op(Generic[R]):
    """One request whose answer is an `R`."""

    @property
    def lane(self) -> Lane:
        """Which lane it travels in."""
        return Lane.QUORUM

    @property
    def writes(self) -> bool:
        """Whether it may change the store."""
        return False

    @property
    def linearizable(self) -> bool:
        """Whether its answer tells what is current: not a member's own word, such as that about a lease."""
        return False

    @property
    def name(self) -> str:
        """Its name in spans and messages."""
        return type(self).__name__.lower()


class Sort(StrEnum):
    """In which order keys are returned, and so which of them `limit` leaves out."""

    KEY = "key"
    OLDEST = "oldest"
    NEWEST = "newest"


@dataclass(frozen=True, slots=True)
class RangeResult:
    """The answer to a `Range`.

    Attributes:
        header: Who answered, and at which revision.
        entries: Key to entry, in the order asked for.
        more: Whether `limit` cut the answer short.
        count: How many keys the range holds, regardless of `limit`.
    """

    header: Header
    entries: dict[bytes, Entry]
    more: bool = False
    count: int = 0


@dataclass(frozen=True, slots=True)
class Range(Op[RangeResult]):
    """Read a key, or all keys in [key, end).

    Attributes:
        key: The first key.
        end: The end of the range, exclusive; None for the one key. `b"\\0"` means to the last key.
        serializable: Read from the member's own state, which may lag, instead of through the quorum.
        limit: At most so many keys; 0 means all.
        revision: Read as of this revision; 0 means now.
        keys_only: Leave the values empty.
        changed_since: Only keys changed at this revision or later; `count` still counts all.
        sort: In which order: by key, or by create revision.
        created_until: Only keys created at this revision or before; 0 means all. `count` still counts all.
    """

    key: bytes
    end: bytes | None = None
    serializable: bool = False
    limit: int = 0
    revision: int = 0
    keys_only: bool = False
    changed_since: int = 0
    sort: Sort = Sort.KEY
    created_until: int = 0

    @property
    def lane(self) -> Lane:
        """Which lane it travels in."""
        return Lane.MEMBER if self.serializable else Lane.QUORUM

    @property
    def linearizable(self) -> bool:
        """Whether its answer tells what is current."""
        return not self.serializable


# etcd's own limit on the operations of a transaction.
MOST_READS = 128


@dataclass(frozen=True, slots=True)
class ReadBatchResult:
    """The answer to a `ReadBatch`.

    Attributes:
        header: Who answered, and at which revision.
        entries: Key to entry, all as of that revision; a key that is absent is missing.
    """

    header: Header
    entries: dict[bytes, Entry]


@dataclass(frozen=True, slots=True)
class ReadBatch(Op[ReadBatchResult]):
    """Linearizable reads of several keys in one transaction.

    etcd refuses the whole of it if one read is refused, and takes 128 reads at the most.

    Attributes:
        keys: The keys.
    """

    keys: tuple[bytes, ...]

    @property
    def name(self) -> str:
        """Its name in spans and messages."""
        return "txn"

    @property
    def linearizable(self) -> bool:
        """Whether its answer tells what is current."""
        return True


@dataclass(frozen=True, slots=True)
class StatusResult:
    """The answer to a `Status`.

    Attributes:
        header: Who answered.
        version: The member's version, such as `"3.5.1"`.
        alarms: The alarms that any member has raised, such as `"NOSPACE"`.
    """

    header: Header
    version: str
    alarms: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Status(Op[StatusResult]):
    """Ask a member about itself; needs no quorum."""

    @property
    def lane(self) -> Lane:
        """Which lane it travels in."""
        return Lane.MEMBER


@dataclass(frozen=True, slots=True)
class MemberListResult:
    """The answer to a `MemberList`.

    Attributes:
        header: Who answered; its revision means nothing.
        members: The cluster's members, as this one knows them.
    """

    header: Header
    members: tuple[ClusterMember, ...]


@dataclass(frozen=True, slots=True)
class MemberList(Op[MemberListResult]):
    """Ask a member who belongs to its cluster; needs no quorum, and may lag."""

    @property
    def lane(self) -> Lane:
        """Which lane it travels in."""
        return Lane.MEMBER


@dataclass(frozen=True, slots=True)
class WriteResult:
    """The answer to a `Put` or a `Delete`.

    Attributes:
        header: Who answered, and at which revision the write was applied.
        deleted: How many keys a `Delete` removed.
    """

    header: Header
    deleted: int = 0


@dataclass(frozen=True, slots=True)
class Put(Op[WriteResult]):
    """Write one key.

    Attributes:
        key: The key.
        value: Its new value.
        lease: The lease with which the key ends; 0 means none.
    """

    key: bytes
    value: bytes
    lease: int = 0

    @property
    def writes(self) -> bool:
        """Whether it may change the store."""
        return True

    @property
    def linearizable(self) -> bool:
        """Whether its answer tells what is current."""
        return True


@dataclass(frozen=True, slots=True)
class Delete(Op[WriteResult]):
    """Delete a key, or all keys in [key, end)."""

    key: bytes
    end: bytes | None = None

    @property
    def writes(self) -> bool:
        """Whether it may change the store."""
        return True

    @property
    def linearizable(self) -> bool:
        """Whether its answer tells what is current."""
        return True


@dataclass(frozen=True, slots=True)
class LeaseResult:
    """The answer to any question about a lease.

    Attributes:
        header: Who answered.
        lease: The lease.
        ttl: Seconds it will live; 0 or less means that it is gone.
        granted: Seconds that a renewal gives it, where that was asked for.
        keys: Its keys, where they were asked for.
    """

    header: Header
    lease: int
    ttl: int
    granted: int = 0
    keys: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """One key changed.

    Attributes:
        key: The key.
        entry: Its new entry; None if it was deleted.
        revision: The revision of the change.
    """

    key: bytes
    entry: Entry | None
    revision: int


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """One frame of a watch.

    Attributes:
        header: Who sent it.
        events: What changed, in order; a revision is never split over two batches. Empty for a progress reply.
    """

    header: Header
    events: tuple[Event, ...] = ()


class Compacted(StoreFault):
    """Raised when a watch asks for history that has been compacted away.

    Attributes:
        revision: The oldest revision still there.
    """

    def __init__(self, revision: int) -> None:
        super().__init__(classify("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted"))
        self.revision = revision


class Watch(Protocol):
    """An open watch; it ends with the context manager that gave it."""

    async def receive(self) -> WatchBatch:
        """Return the next frame.

        Raises:
            Compacted: The history asked for is gone, or did not come whole: only a full read helps.
            StoreFault: The watch has ended. If its reader was slower than etcd, with `FaultKind.OVERFLOW`, after
                all that had arrived by then.
        """
        ...

    async def request_progress(self) -> None:
        """Ask for a frame that says up to which revision the watch has come.

        Raises:
            StoreFault: The watch has ended.
        """
        ...


class KeepAlive(Protocol):
    """An open stream for renewing leases; it ends with the context manager that gave it."""

    async def renew(self, lease: int) -> LeaseResult:
        """Renew a lease: one at a time, and never again after a call was cancelled.

        An answer cannot be told from that to an earlier question, so that a stream with an unanswered one is of
        no more use.

        Args:
            lease: Its id.

        Returns:
            The member's word, which is no proof. A TTL of 0 means that the lease is gone.

        Raises:
            StoreFault: The stream has ended.
        """
        ...


class Store(Protocol):
    """etcd, as far as tideover uses it."""

    @property
    def members(self) -> Sequence[str]:
        """The members' names: their endpoints, in the order given and then added."""
        ...

    async def add(self, address: Address, *, timeout: float) -> Header:
        """Connect to one more member, if it answers.

        Whoever answers there is not told this client's credentials before the first `call`.

        Args:
            address: Where it is; its endpoint becomes its name.
            timeout: Seconds until giving up.

        Returns:
            Who answered.

        Raises:
            StoreFault: Nobody did; nothing has changed.
        """
        ...

    def remove(self, member: str) -> None:
        """Give up a member: calls in flight end within 2 s, and later ones are refused as unreachable.

        Args:
            member: Whose connection; one that is not there is left alone.
        """
        ...

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        """Make one attempt at one member.

        Args:
            op: What to do.
            member: Whom to ask.
            timeout: Seconds until giving up.

        Returns:
            The member's answer.

        Raises:
            StoreFault: The attempt failed.
        """
        ...

    def watch(
        self, key: bytes, end: bytes | None, *, start_revision: int, member: str, timeout: float
    ) -> AbstractAsyncContextManager[Watch]:
        """Open a watch of [key, end) that ends by itself when the member has no leader.

        Args:
            key: The first key.
            end: The end of the range, exclusive; None for the one key.
            start_revision: The first revision of interest.
            member: Whom to ask.
            timeout: Seconds within which the watch must be open.

        Returns:
            A context manager; entering raises `StoreFault` if the watch cannot be opened.
        """
        ...

    def keep_alive(self, *, member: str) -> AbstractAsyncContextManager[KeepAlive]:
        """Open a stream for renewing leases that ends by itself when the member has no leader.

        Args:
            member: Whom to ask.

        Returns:
            A context manager; entering sends nothing yet.
        """
        ...

    def is_proxy(self, member: str) -> bool | None:
        """Whether a member is really an `etcd grpc-proxy`; None as long as no watch has shown it.

        A proxy answers no progress requests. It would answer serializable reads from its cache, as of any time:
        a store asks it for linearizable ones instead, so that without a quorum it answers nothing.

        Args:
            member: Which.
        """
        ...

    async def require_member(self, member: str, *, timeout: float) -> None:
        """Refuse an `etcd grpc-proxy`: for what cannot be trusted through one, such as leases.

        Args:
            member: Whom to examine.
            timeout: Seconds until giving up.

        Raises:
            StoreFault: It is a proxy (`FaultKind.PROXY`), or did not answer.
        """
        ...

    async def wait_disconnected(self, member: str) -> None:
        """Return when an established connection to the member breaks.

        Args:
            member: Whom to observe.
        """
        ...

    def renew(self, member: str) -> None:
        """Give up the connection to a member, so that the next call makes a new one at once.

        Args:
            member: Whose connection.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


def prefix_end(prefix: bytes) -> bytes:
    """Return the end of the range of all keys that begin with `prefix`.

    Args:
        prefix: The prefix; empty means all keys.

    Returns:
        The end, exclusive. For an empty prefix, or one of 0xff bytes only, it is `b"\\0"`: to the last key.
    """
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else b"\0"


def within(key: bytes, start: bytes, end: bytes | None) -> bool:
    """Whether a key is in [start, end), where None means `start` alone and `b"\\0"` to the last key."""
    if end is None:
        return key == start
    return start <= key and (end == b"\0" or key < end)
