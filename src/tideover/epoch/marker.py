"""The marker in etcd: reading it, and replacing it by compare-and-swap.

Straight to the store: a call through the gateway waits for what is decided from this.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from tideover.epoch.rules import EpochMarker, decode_marker
from tideover.foreign_bytes import Malformed
from tideover.store.faults import FaultKind, StoreFault
from tideover.store.leases import LeaseRevoke
from tideover.store.operations import Put, Range
from tideover.store.protocol import Store
from tideover.store.transactions import Compare, Txn
from tideover.types import Header

# Seconds for one attempt; for a read, and what the link takes.
READ_TIMEOUT = 0.8
WRITE_TIMEOUT = 2.0


def marker_key(namespace: str) -> bytes:
    """Return the key of a namespace's marker."""
    return f"{namespace}/tideover/epoch".encode()


@dataclass(frozen=True, slots=True)
class Look:
    """A linearizable look at the marker.

    Attributes:
        marker: The marker; None if there is none, or something else is in its place.
        mod_revision: The key's; 0 if there is no such key.
        foreign: Why what is in its place is no marker; None if nothing else is there.
    """

    marker: EpochMarker | None
    mod_revision: int
    header: Header
    foreign: str | None = None


async def read_marker(store: Store, key: bytes, member: str, timeout: float = READ_TIMEOUT) -> Look:
    """Read the marker. Raises `StoreFault`: it could not be read."""
    found = await store.call(Range(key), member=member, timeout=timeout)
    entry = found.entries.get(key)
    if entry is None:
        return Look(None, 0, found.header)
    try:
        return Look(decode_marker(entry.value), entry.mod_revision, found.header)
    except Malformed as exc:
        return Look(None, entry.mod_revision, found.header, str(exc))


async def write_marker(
    store: Store, key: bytes, member: str, look: Look, epoch: int, history: str = ""
) -> EpochMarker | None:
    """Write a new marker, with a new random id unless it has one already; None if another process was faster.

    Raises `StoreFault` where it could not be written, or was and the answer was lost: look again.
    """
    header = look.header
    marker = EpochMarker(epoch, history or secrets.token_hex(8), header.cluster_id, header.raft_term)
    unchanged = Compare(key, mod_revision=look.mod_revision)
    swap = Txn((unchanged,), (Put(key, marker.encode()),))
    written = await store.call(swap, member=member, timeout=WRITE_TIMEOUT)
    return marker if written.succeeded else None


async def catch_up(store: Store, member: str) -> None:
    """Let a member apply one more entry of the log, so that its answers say the term that rules.

    A member that was paused and caught up from a snapshot has all content, and goes on to say the term of the
    last entry that it applied itself, until there is another one. This one changes nothing: lease 0 is the one
    that etcd never grants. Its revocation goes through the log all the same before it is refused, even when the
    space is exhausted, and whatever the user may read or write: who may revoke a lease is a question of its keys.

    Raises:
        StoreFault: It is not known to have been applied.
    """
    try:
        await store.call(LeaseRevoke(0), member=member, timeout=WRITE_TIMEOUT)
    except StoreFault as exc:
        if exc.fault.kind is not FaultKind.LEASE_NOT_FOUND:
            raise
