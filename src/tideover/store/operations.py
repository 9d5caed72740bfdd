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
        version: The member's version, such as `"3.5.1"`; None if it does not tell this user. Only versions from
            3.4.42, 3.5.28 and 3.6.9 on refuse that (CVE-2026-33413).
        alarms: The alarms that any member has raised, such as `"NOSPACE"`; None if it does not tell this user.
    """

    header: Header
    version: str | None
    alarms: frozenset[str] | None = frozenset()


@dataclass(frozen=True, slots=True)
class Status(Op[StatusResult]):
    """Ask a member about itself; needs no quorum, and no right: who may not ask is told who answers."""

    @property
    def lane(self) -> Lane:
        """Which lane it travels in."""
        return Lane.MEMBER


@dataclass(frozen=True, slots=True)
class AlarmListResult:
    """The answer to an `AlarmList`.

    Attributes:
        header: Who answered.
        alarms: The alarms that any member has raised, such as `"NOSPACE"`.
    """

    header: Header
    alarms: frozenset[str]


@dataclass(frozen=True, slots=True)
class AlarmList(Op[AlarmListResult]):
    """Ask for the alarms. It is a proposal, which all members write to their logs: `Status` is cheaper."""


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
