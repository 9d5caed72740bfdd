"""Locks: the wait, the hold, its mode, and the conflicts."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from functools import lru_cache

from opentelemetry.trace import INVALID_SPAN

from tideover.errors import Unavailable
from tideover.shown import shown
from tideover.telemetry.events import event
from tideover.telemetry.scope import UNRECORDED, Attributes, bounded, meter, tracer, within_wait

_lock_waits = meter.create_histogram(
    "tideover.lock.acquire.duration",
    unit="s",
    description="How long a lock was waited for.",
    explicit_bucket_boundaries_advisory=[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0],
)
_lock_holds = meter.create_histogram(
    "tideover.lock.hold.duration",
    unit="s",
    description="How long a lock was held.",
    explicit_bucket_boundaries_advisory=[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0],
)
_locks_active = meter.create_up_down_counter(
    "tideover.lock.active", unit="{lock}", description="Locks held, by mode."
)
_lock_conflicts = meter.create_counter(
    "tideover.lock.conflicts", unit="{conflict}", description="Locks that two held at once, or may have."
)


def acquiring(namespace: str, name: str | None) -> AbstractContextManager[object]:
    """Record the wait for a lock; it is an error only if it raises."""
    span = tracer.start_span("tideover.lock.acquire", attributes=_acquire_attributes(namespace, name))
    if span is INVALID_SPAN:
        return UNRECORDED
    # Messages of errors name the lock. Whether an outage is an error is decided by what the caller wants in one.
    return within_wait(span, record_exception=name is not None, no_error=(Unavailable,))


@lru_cache(maxsize=1024)
def _acquire_attributes(namespace: str, name: str | None) -> Attributes:
    named = {} if name is None else {"tideover.lock.name": name}
    return bounded({"db.namespace": namespace, "tideover.component": "lock", **named})


def lock_waited(outcome: str, seconds: float, *, degraded: bool) -> None:
    """Record for how many seconds a lock was waited for, until `ok`, `local`, `timeout` or `refused`."""
    _lock_waits.record(seconds, {"tideover.outcome": outcome, "tideover.degraded": degraded})


def lock_released(outcome: str, seconds: float, *, degraded: bool) -> None:
    """Record for how many seconds a lock was held, until `ok`, `local`, `lost` or `conflict`."""
    _lock_holds.record(seconds, {"tideover.outcome": outcome, "tideover.degraded": degraded})


def locks_active(mode: str, change: int) -> None:
    """Count one held lock more (`change=1`) or less (-1)."""
    _locks_active.add(change, {"tideover.lock.mode": mode})


def lock_turned(name: str, mode: str, why: str) -> None:
    """Report that a held lock changed its mode."""
    text, turned = f"{name!r} is {mode} now: {why}", {"tideover.lock.mode": mode}
    event("tideover.lock.turned", text, "lock", turned, level=logging.WARNING, about=f"{name} {mode}")


def lock_lost(name: str, why: str) -> None:
    """Report that a lock was lost while its body ran."""
    event("tideover.lock.lost", why, "lock", level=logging.WARNING, about=name)


def locks_unhosted(why: str, *, level: int = logging.WARNING) -> None:
    """Report that this machine has no folder for host locks."""
    text = f"no lock can be LOCAL here: {why}"
    event("tideover.lock.unhosted", text, "lock", level=level)


def ledger_failed(why: str) -> None:
    """Report that the ledger of locks held in outages cannot be written or compared."""
    event("tideover.lock.ledger", why, "lock", level=logging.ERROR)


def hold_rejected(key: str, revision: int, why: str) -> None:
    """Report an entry of etcd's ledger that does not describe a held lock."""
    text = f"{shown(key)} at revision {revision} describes no held lock: {why}"
    attributes: Attributes = {"tideover.revision": revision}
    event("tideover.lock.rejected", text, "lock", attributes, level=logging.WARNING, about=key)


def place_rejected(key: str, revision: int, why: str) -> None:
    """Report a key under a lock's prefix that is no holder's and no waiter's."""
    text = f"{shown(key)} at revision {revision} is in the line of a lock: {why}"
    attributes: Attributes = {"tideover.revision": revision}
    event("tideover.lock.rejected", text, "lock", attributes, level=logging.WARNING, about=key)


def lock_conflict(name: str, what: str, *, certain: bool) -> None:
    """Report that two processes held one lock at once (`certain`), or may have."""
    how = {"tideover.lock.certain": certain}
    _lock_conflicts.add(1, how)
    text = f"{name!r}: {what} ({'certain' if certain else 'possible'})"
    level = logging.ERROR if certain else logging.WARNING
    event("tideover.lock.conflict", text, "lock", how, level=level, about=f"{name} {certain}")
