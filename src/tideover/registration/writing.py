"""Writes the keys of registrations: one, whatever its session was before, or many new ones together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from tideover.client.gateway import Gateway
from tideover.errors import Closed, KeyTaken, PermissionDenied, TideoverError
from tideover.registration.bulk import unwritable
from tideover.registration.publisher import PASSING, Publisher
from tideover.registration.rules import Failure
from tideover.registration.shared import SharedSession
from tideover.sessions.key import LeasedKey
from tideover.store.operations import Delete, Range
from tideover.store.transactions import Compare, Txn

Leave = Callable[[Publisher, SharedSession[Publisher], bytes | None], None]
Gone = Callable[[Publisher, LeasedKey], None]


async def write(
    publisher: Publisher, shared: SharedSession[Publisher], *, gateway: Gateway, leave: Leave, gone: Gone
) -> None:
    """Write the key until etcd has the endpoint, or there is a reason to wait, which the publisher records."""
    moved = await _move(publisher, shared, leave)
    while not (publisher.ended or shared.lost):
        wanted = publisher.endpoint
        if publisher.is_there and publisher.written == wanted:
            return
        try:
            own = await shared.session.put(wanted.key, wanted.encode())
        except KeyTaken:
            await _rename(publisher, gateway)
        except Closed:
            return
        except PermissionDenied as exc:
            await _refused(publisher, shared, exc, gateway)
            return
        except TideoverError as exc:
            if not shared.lost:
                publisher.record_error(exc)
            return
        else:
            if publisher.own is not own:
                own.gone.then(partial(gone, publisher, own))
            publisher.record_written(own, wanted, moved=moved)


async def write_new(
    publishers: Sequence[Publisher], shared: SharedSession[Publisher], *, gone: Gone
) -> Sequence[Publisher]:
    """Write the keys of many new registrations in one transaction.

    Returns those to write one by one: etcd has refused some, and does not say which.
    """
    wanted = {publisher: publisher.endpoint for publisher in publishers if not publisher.ended}
    if not wanted:
        return ()
    for publisher in wanted:
        publisher.shared = shared
    try:
        made = await shared.session.make({endpoint.key: endpoint.encode() for endpoint in wanted.values()})
    except Closed:
        return ()
    except PASSING as exc:
        if not shared.lost:
            for publisher in wanted:
                publisher.record_error(exc)
        return ()
    except TideoverError:
        made = None
    if made is None:
        return publishers
    for own, (publisher, endpoint) in zip(made, wanted.items(), strict=True):
        own.gone.then(partial(gone, publisher, own))
        publisher.record_written(own, endpoint, moved=False)
    return ()


async def _move(publisher: Publisher, shared: SharedSession[Publisher], leave: Leave) -> bool:
    """Delete the key under another session; return whether it was there."""
    old, own = publisher.shared, publisher.own
    if old is shared:
        return False
    there, left = publisher.is_there, None
    # Forgotten before the delete, whose event would look like a loss.
    publisher.own = None
    if old is not None and own is not None and there and not await old.session.delete(own):
        left = own.full
    publisher.shared = shared
    if old is not None:
        leave(publisher, old, left)
    return there


async def _refused(
    publisher: Publisher, shared: SharedSession[Publisher], exc: PermissionDenied, gateway: Gateway
) -> None:
    """Record a refusal: of this key, or of the lease because of another key (3.5.30 and later)."""
    try:
        others = len(shared.tenants) > 1 and not await unwritable(gateway, [publisher.full])
    except TideoverError:
        others = False
    if others:
        shared.suspected = True
        publisher.record_failure(Failure.FAILED, str(exc))
    else:
        publisher.record_error(exc)


async def _rename(publisher: Publisher, gateway: Gateway) -> None:
    """Draw another incarnation, because etcd has a key of this name under another lease.

    From a backup, for one: that key goes with its lease. A key without a lease, mirrored or written by hand, is
    deleted here: no other process ever would.
    """
    own, shared, full = publisher.own, publisher.shared, publisher.full
    publisher.rename()
    if own is not None and shared is not None:
        await shared.session.delete(own)
    read = Range(full, keys_only=True)
    try:
        await gateway.call(Txn((Compare(full, lease=0),), then=(Delete(full),), otherwise=(read,)))
    except TideoverError as exc:
        publisher.report(f"{full!r} may stay although nobody holds it: {exc}", logging.WARNING)
