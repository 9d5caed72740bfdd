"""The operations: what can be asked of a member of etcd, and what it answers, as data.

Operations are frozen records, so that one `call` of the port serves them all and a fake can match on them. Every
answer hands back the header: health, freshness and identity are decided from those. `transactions` and `leases`
have modules of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from tideover.types import ClusterMember, Entry, Header


class Result(Protocol):
    """What every answer has: the header of the member that gave the answer."""

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
        """The lane of the call."""
        return Lane.QUORUM

    @property
    def writes(self) -> bool:
        """Whether the operation may change the store."""
        return False

    @property
    def linearizable(self) -> bool:
        """Whether the answer is current: not a member's own state, such as its table of leases."""
        return False

    @property
    def name(self) -> str:
        """The name in spans and messages."""
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
        """The lane of the call."""
        return Lane.MEMBER if self.serializable else Lane.QUORUM

    @property
    def linearizable(self) -> bool:
        """Whether the answer is current."""
        return not self.serializable


# etcd's own limit on the operations of a transaction.
MOST_READS = 128


@dataclass(frozen=True, slots=True)
class ReadBatchResult:
    """The answer to a `ReadBatch`.

    Attributes:
        entries: Key to entry, all as of the header's revision; an absent key is missing.
    """

    header: Header
    entries: dict[bytes, Entry]


@dataclass(frozen=True, slots=True)
class ReadBatch(Op[ReadBatchResult]):
    """Linearizable reads of several keys in one transaction.

    etcd refuses all of them if one read is refused, and takes at most 128.
    """

    keys: tuple[bytes, ...]

    name = "txn"
    linearizable = True


@dataclass(frozen=True, slots=True)
class StatusResult:
    """The answer to a `Status`.

    Attributes:
        version: Such as `"3.5.1"`; None where this user has no permission to see the version, which only 3.4.42,
            3.5.28, 3.6.9 and later refuse (CVE-2026-33413).
        alarms: Of all members, such as `"NOSPACE"`; None where this user has no permission.
    """

    header: Header
    version: str | None
    alarms: frozenset[str] | None = frozenset()


@dataclass(frozen=True, slots=True)
class Status(Op[StatusResult]):
    """Ask a member about itself. Needs no quorum, and no permission: a user without one still gets the header."""

    lane = Lane.MEMBER


@dataclass(frozen=True, slots=True)
class AlarmListResult:
    """The alarms of all members, such as `"NOSPACE"`."""

    header: Header
    alarms: frozenset[str]


@dataclass(frozen=True, slots=True)
class AlarmList(Op[AlarmListResult]):
    """Ask for the alarms. etcd writes each such question to the raft log: `Status` is cheaper."""


@dataclass(frozen=True, slots=True)
class MemberListResult:
    """The answer to a `MemberList`.

    Attributes:
        header: Without a meaningful revision.
        members: The cluster's members, as the answering member knows them.
    """

    header: Header
    members: tuple[ClusterMember, ...]


@dataclass(frozen=True, slots=True)
class MemberList(Op[MemberListResult]):
    """Ask a member for the cluster's members; needs no quorum, and the answer may lag."""

    lane = Lane.MEMBER


@dataclass(frozen=True, slots=True)
class WriteResult:
    """The answer to a `Put` or a `Delete`; the header's revision is the one at which the write was applied."""

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

    writes = True
    linearizable = True


@dataclass(frozen=True, slots=True)
class Delete(Op[WriteResult]):
    """Delete a key, or all keys in [key, end)."""

    key: bytes
    end: bytes | None = None

    writes = True
    linearizable = True


@dataclass(frozen=True, slots=True)
class LeaseResult:
    """The answer to any question about a lease.

    Attributes:
        ttl: Seconds left; 0 or less means that the lease is gone.
        granted: Seconds that a renewal gives the lease, where asked for.
    """

    header: Header
    lease: int
    ttl: int
    granted: int = 0
    keys: tuple[bytes, ...] = ()


def prefix_end(prefix: bytes) -> bytes:
    """Return the end of the range of all keys that begin with `prefix`.

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
