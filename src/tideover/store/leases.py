"""Leases: their keys are deleted when the owner stops renewing.

A lease is a promise of etcd's leader, and an acknowledged renewal is no proof of it: a member that was paused
answers from its own table after another leader was elected (docs/explanation/leases-and-deadlines.md). What these
answers prove is decided in `sessions.session`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tideover.store.operations import LeaseResult, Op
from tideover.types import Header


@dataclass(frozen=True, slots=True)
class LeaseGrant(Op[LeaseResult]):
    """Make a lease.

    Attributes:
        ttl: Seconds without renewal until the lease expires; etcd grants at least 2 s.
        lease: The id, chosen by the caller: after a lost reply only a chosen id can be recognised.
    """

    ttl: int
    lease: int

    writes = True


@dataclass(frozen=True, slots=True)
class LeaseRevoke(Op[LeaseResult]):
    """End a lease and delete its keys."""

    lease: int

    writes = True


@dataclass(frozen=True, slots=True)
class LeaseTimeToLive(Op[LeaseResult]):
    """Ask for a lease's remaining TTL: -1 in the answer means that the lease is gone."""

    lease: int
    keys: bool = False


@dataclass(frozen=True, slots=True)
class LeaseKeepAlive(Op[LeaseResult]):
    """Renew a lease; sent over a `KeepAlive` only. A TTL of 0 in the answer means that the lease is gone."""

    lease: int


@dataclass(frozen=True, slots=True)
class AttachmentsResult:
    """The answer to an `Attachments`.

    Attributes:
        found: Each existing key's create revision, and its lease or 0.
    """

    header: Header
    found: dict[bytes, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Attachments(Op[AttachmentsResult]):
    """Ask to which leases up to 128 keys are attached, by linearizable reads in one transaction.

    etcd refuses all of them if one read is refused.

    Attributes:
        neighbours: Whether few other keys lie between them: one range is then read, at half the cost.
    """

    keys: tuple[bytes, ...]
    neighbours: bool = False

    name = "txn"
    linearizable = True
