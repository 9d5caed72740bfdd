"""Leases: keys that vanish by themselves unless their owner keeps renewing.

A lease is a promise of etcd's leader, and an acknowledged renewal is no proof of it: a member that was paused
answers from its own table after another leader was elected (docs/explanation/leases-and-deadlines.md). What may be
concluded from these answers is decided in `sessions.session`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tideover.store.operations import LeaseResult, Op
from tideover.types import Header


@dataclass(frozen=True, slots=True)
class LeaseGrant(Op[LeaseResult]):
    """Make a lease.

    Attributes:
        ttl: Seconds it lives without renewal; etcd grants 2 s at the least.
        lease: Its id, chosen by the caller: after a lost reply only a chosen id can be recognised.
    """

    ttl: int
    lease: int

    @property
    def writes(self) -> bool:
        """Whether it may change the store."""
        return True


@dataclass(frozen=True, slots=True)
class LeaseRevoke(Op[LeaseResult]):
    """End a lease and delete its keys.

    Attributes:
        lease: Its id.
    """

    lease: int

    @property
    def writes(self) -> bool:
        """Whether it may change the store."""
        return True


@dataclass(frozen=True, slots=True)
class LeaseTimeToLive(Op[LeaseResult]):
    """Ask how long a lease will live; etcd answers a lease that is gone with a TTL of -1.

    Attributes:
        lease: Its id.
        keys: Whether to list its keys.
    """

    lease: int
    keys: bool = False


@dataclass(frozen=True, slots=True)
class LeaseKeepAlive(Op[LeaseResult]):
    """Renew a lease; sent over a `KeepAlive` only. A TTL of 0 in the answer means that the lease is gone.

    Attributes:
        lease: Its id.
    """

    lease: int


@dataclass(frozen=True, slots=True)
class AttachmentsResult:
    """The answer to an `Attachments`.

    Attributes:
        header: Who answered, and at which revision.
        found: For each key that is there, the revision at which it came to be, and its lease; 0 if it has none.
    """

    header: Header
    found: dict[bytes, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Attachments(Op[AttachmentsResult]):
    """Ask to which leases keys are attached: linearizable reads in one transaction, of 128 keys at the most.

    etcd refuses the whole of it if one read is refused.

    Attributes:
        keys: The keys.
        neighbours: Whether few other keys lie between them: then one range is read, at half the cost.
    """

    keys: tuple[bytes, ...]
    neighbours: bool = False

    @property
    def name(self) -> str:
        """Its name in spans and messages."""
        return "txn"

    @property
    def linearizable(self) -> bool:
        """Whether its answer tells what is current."""
        return True
