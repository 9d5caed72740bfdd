"""How the last holder left: whether its key was deleted, or vanished with its lease."""

from __future__ import annotations

from tideover.client.client import Client
from tideover.errors import AuthenticationFailed, InvalidRequest
from tideover.foreign_bytes import INT64, hexadecimal
from tideover.sessions.key import anchors
from tideover.store.leases import LeaseTimeToLive
from tideover.store.operations import Range


async def has_vanished(client: Client, lease: bytes, gone_at: int | None) -> bool:
    """Whether the key named after a lease went with the lease; True if that cannot be known.

    `gone_at` is the revision at which the key went; None if that was not seen.
    """
    try:
        number = hexadecimal(lease.decode(), "a lease", most=INT64)
    except ValueError:
        return False
    try:
        if gone_at is not None and (there := await _anchor_was_there(client, lease, gone_at)) is not None:
            return not there
        return (await client.calls.call(LeaseTimeToLive(number))).result.ttl <= 0
    except AuthenticationFailed:
        raise
    except Exception:  # noqa: BLE001  # whatever prevents the answer: to wait longer is safe
        return True


async def _anchor_was_there(client: Client, lease: bytes, gone_at: int) -> bool | None:
    """Whether a key's session still was there when the key went; None if the key is another client's."""
    anchor = anchors(client.base) + lease
    try:
        found = (await client.calls.call(Range(anchor, revision=gone_at, keys_only=True))).result
        if found.entries:
            return True
        found = (await client.calls.call(Range(anchor, revision=gone_at - 1, keys_only=True))).result
    except InvalidRequest:  # compacted
        return None
    return False if found.entries else None
