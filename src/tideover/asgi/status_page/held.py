"""Elections and locks."""

from __future__ import annotations

import math

from tideover.asgi.status_page.ages import Ages
from tideover.asgi.status_page.words import Facts, Phrase, alert, cut, notes
from tideover.coordinator.rules.words import counted
from tideover.status import (
    ElectionStatus,
    LockConflictStatus,
    LockStatus,
    LockWaitStatus,
    StatusReport,
    duration,
)
from tideover.types import HealthState, LockMode, Standing


def elections(report: StatusReport, ages: Ages) -> Facts:
    """Return a row for each candidacy."""
    rows, more = cut(report.elections)
    well = report.state is HealthState.AVAILABLE
    return {
        "note": f"{counted(len(report.elections), 'candidacy', 'candidacies')} of this process",
        "rows": [_election(report, each, ages, well=well) for each in rows],
        "more": more,
        "alerts": [
            *notes(report, ages, "election"),
            *(alert(Phrase(each.error), subject=each.name) for each in rows if each.error),
        ],
    }


def _election(report: StatusReport, election: ElectionStatus, ages: Ages, *, well: bool) -> Facts:
    leads = election.standing is not None
    if election.standing is None:
        tone, standing = ("none", "candidate") if well else ("bad", "not led here")
    else:
        tone = "warn" if election.standing is Standing.UNCONFIRMED else "ok"
        standing = str(election.standing).upper()
    remaining, holder = election.remaining, election.held_by or election.holder or ""
    return {
        "name": election.name,
        "policy": election.on_outage,
        "here": leads,
        "token": str(election.token),
        "holder": "this process" if report.process.is_named(holder) else holder,
        "old": not well,
        "tone": tone,
        "standing": standing,
        "deadline": None if remaining is None else ages(remaining, "due"),
        "past": remaining is not None and remaining < 0,
    }


def locks(report: StatusReport, ages: Ages) -> Facts:
    """Return a row for each lock that is held or waited for."""
    held, held_more = cut(report.locks)
    waited, waited_more = cut(report.lock_waits)
    alerts = notes(report, ages, "lock")
    conflicts, _ = cut(report.lock_conflicts, 10)
    return {
        "note": f"{len(report.locks)} held, {len(report.lock_waits)} waited for",
        "rows": [_lock(each, ages) for each in held] + [_wait(each, ages) for each in waited],
        "more": held_more + waited_more,
        "alerts": alerts,
        "conflicts": [_conflict(each, ages) for each in conflicts],
    }


def _lock(lock: LockStatus, ages: Ages) -> Facts:
    local = lock.mode is LockMode.LOCAL
    return {
        "name": lock.name,
        "waiting": f"{counted(lock.waiting, 'waits', 'wait')} here" if lock.waiting else "",
        "tone": "warn" if local else "ok",
        "mode": str(lock.mode).upper(),
        "lasting": ages(lock.seconds),
        "token": "none while LOCAL" if lock.token is None else str(lock.token),
    }


def _wait(wait: LockWaitStatus, ages: Ages) -> Facts:
    return {
        "name": wait.name,
        "waiting": f"{counted(wait.waiting, 'waits', 'wait')} here" if wait.waiting > 1 else "",
        "tone": "none",
        "mode": "waits",
        "lasting": ages(wait.seconds),
        "token": f"held by {wait.held_by}" if wait.held_by else "not known",
    }


def _conflict(conflict: LockConflictStatus, ages: Ages) -> Facts:
    how = f"certain, {duration(conflict.seconds)}" if conflict.certain else "possible"
    one, other = conflict.holders
    known = math.isfinite(conflict.ended_ago)
    return {
        "text": f"Conflict of {conflict.name}: {how}, by {one} and {other}",
        "ago": ages(conflict.ended_ago, "ago") if known else None,
    }
