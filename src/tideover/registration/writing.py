"""Writing registrations' keys: one, whatever it stood under before, or those of many that have none yet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from tideover.client.gateway import Gateway
from tideover.errors import Closed, KeyTaken, PermissionDenied, TideoverError
from tideover.registration.bulk import unwritable
from tideover.registration.publisher import PASSING, Publisher
from tideover.registration.shared import SharedSession
from tideover.sessions.key import LeasedKey
from tideover.store.operations import Delete, Range
from tideover.store.transactions import Compare, Txn

Leave = Callable[[Publisher, SharedSession[Publisher], bytes | None], None]
Gone = Callable[[Publisher, LeasedKey], None]


async def write(
    publisher: Publisher, shared: SharedSession[Publisher], *, gateway: Gateway, leave: Leave, gone: Gone
) -> None:
    """Write until etcd has what it is to have, or there is a reason to wait, which the registration knows then.

    Args:
        publisher: The registration.
        shared: The session that its key is to be under.
        gateway: The way to etcd.
        leave: Called when it stands under another session no more, with its key if that could not be deleted.
        gone: Called when its key is gone.
    """
    moved = await _move(publisher, shared, leave)
    while not (publisher.ended or shared.lost):
        wanted = publisher.endpoint
        if publisher.is_there and publisher.written == wanted:
            return
        try:
            own = await shared.session.put(wanted.key, wanted.encode())
        except KeyTaken:
            await _give_way(publisher, gateway)
        except Closed:
            return
        except PermissionDenied as exc:
            await _refused(publisher, shared, exc, gateway)
            return
        except TideoverError as exc:
            if not shared.lost:
                publisher.set_back(exc)
            return
        else:
            if publisher.own is not own:
                own.gone.then(partial(gone, publisher, own))
            publisher.take(own, wanted, moved=moved)


async def write_new(
    publishers: Sequence[Publisher], shared: SharedSession[Publisher], *, gone: Gone
) -> Sequence[Publisher]:
    """Write the keys of many that have none yet, in one transaction.

    Args:
        publishers: The registrations.
        shared: The session that their keys are to be under.
        gone: Called when a key is gone.

    Returns:
        Those that are to be written one by one, because etcd has said no: it does not tell to which.
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
                publisher.set_back(exc)
        return ()
    except TideoverError:
        made = None
    if made is None:
        return publishers
    for own, (publisher, endpoint) in zip(made, wanted.items(), strict=True):
        own.gone.then(partial(gone, publisher, own))
        publisher.take(own, endpoint, moved=False)
    return ()


async def _move(publisher: Publisher, shared: SharedSession[Publisher], leave: Leave) -> bool:
    """Take the key away from under another session; return whether it was there."""
    old, own = publisher.shared, publisher.own
    if old is shared:
        return False
    there, left = publisher.is_there, None
    # Before it is deleted: nobody else has taken it away.
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
    """Find out whether it is this key that was refused, or the lease for another one's (3.5.30 and later)."""
    try:
        others = len(shared.tenants) > 1 and not await unwritable(gateway, [publisher.full])
    except TideoverError:
        others = False
    if others:
        shared.suspected = True
        publisher.fail(str(exc))
    else:
        publisher.set_back(exc)


async def _give_way(publisher: Publisher, gateway: Gateway) -> None:
    """Draw another incarnation, because there is a key of ours under a lease that is not.

    From a backup, for one: then it goes with its lease. If it has none, because it was mirrored or somebody
    has written it by hand, nobody else would ever delete it.
    """
    own, shared, full = publisher.own, publisher.shared, publisher.full
    publisher.yield_name()
    if own is not None and shared is not None:
        await shared.session.delete(own)
    read = Range(full, keys_only=True)
    try:
        await gateway.call(Txn((Compare(full, lease=0),), then=(Delete(full),), otherwise=(read,)))
    except TideoverError as exc:
        publisher.tell(f"{full!r} may stay although nobody holds it: {exc}", logging.WARNING)
