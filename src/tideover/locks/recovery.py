"""A LOCAL hold when etcd is back: its key comes first, and it is DISTRIBUTED; or it is in conflict."""

from __future__ import annotations

import anyio

from tideover.errors import LockConflict, LockLost, OutcomeUnknown, SessionLost, TideoverError, Unavailable
from tideover.locks.cohort import AFTER_DOUBT, Cohort
from tideover.locks.context import LockContext
from tideover.locks.grant import Grant
from tideover.locks.rules.recovery import Verdict, verdict


async def reconcile(cohort: Cohort, grant: Grant, context: LockContext) -> None:
    """Promote a LOCAL hold, or end it; ends early if another outage is declared."""
    grant.is_reconciled = True
    cohort.use(1)
    try:
        while grant.is_local and not context.client.state.health.outage_declared:
            try:
                if await _try(cohort, grant):
                    return
            except (SessionLost, OutcomeUnknown, Unavailable):
                pass
            except TideoverError as exc:
                grant.end(LockLost(f"lock {cohort.name!r} was held LOCAL, and cannot be had from etcd: {exc}"))
                return
            await anyio.sleep(AFTER_DOUBT * (0.5 + 0.5 * context.client.random()))
    finally:
        grant.is_reconciled = False
        cohort.clear_away()
        cohort.use(-1)


async def _try(cohort: Cohort, grant: Grant) -> bool:
    """Try once; return whether it is decided."""
    front, before = cohort.front, grant.place
    if before is not None:
        loss = before.loss()
        if loss is not None and not loss.definite:
            return False  # the lease is neither proven yet nor lost
        if loss is not None:
            front.forget(before)
            grant.place = before = None
    place = before or await front.make()
    older = await front.queue.before(place.own)
    if not grant.is_local:
        return True  # left meanwhile
    if place.holder not in (None, grant):
        return _conflict(cohort, grant, "another hold of this process")
    if place.loss() is not None:
        return False
    own = place.own.create_revision
    first = own if older is None else older.entry.create_revision
    found = verdict(own=own, first=first, before=None if before is None else own)
    if found is Verdict.CONFLICT:
        return _conflict(cohort, grant, front.queue.keys.describe(older) if older is not None else "")
    cohort.promote(grant, place)
    return True


def _conflict(cohort: Cohort, grant: Grant, who: str) -> bool:
    text = f"lock {cohort.name!r} was held LOCAL while etcd was away, and is held by {who}"
    grant.end(LockConflict(text))
    return True
