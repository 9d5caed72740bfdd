"""Finding out from a history whether locks kept their promise. Pure: events in, findings out.

What `tests.history.checker` finds stands, with one exception: two holders are excused if the first one's key
was taken away by etcd under a proven lease, as a paused member woke up, and if the two overlapped for no more
than 1 s after that was deliverable. No client prevents that; fencing tokens make it harmless.

An observer records `key_deleted`, the nemesis `woken`, `hindered` and `unhindered`; an `enter` names its `key`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.history.beliefs import Belief, beliefs
from tests.history.checker import Violation, check
from tests.history.events import Event

# Seconds after a member has woken up within which what is gone may be its doing; within which a holder is to know.
WAKES_FOR = 2.0
NOTICE_WITHIN = 1.0


@dataclass(frozen=True, slots=True)
class LockFindings:
    """What a history says of its locks.

    Attributes:
        grants: How many there were, by mode.
        violations: What must never happen.
        early: Overlaps that are excused, with their length in seconds.
    """

    grants: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    early: list[tuple[float, Violation]] = field(default_factory=list)


def check_locks(events: Iterable[Event]) -> LockFindings:
    """Return what a history says of its locks.

    Args:
        events: The events of all processes, in any order.
    """
    history = sorted(events, key=lambda event: event.at)
    held = beliefs(history, "lock")
    violations: list[Violation] = []
    early: list[tuple[float, Violation]] = []
    for violation in check(history):
        overlap = _excused(violation, held, history) if violation.kind == "two_holders" else None
        if overlap is None:
            violations.append(violation)
        else:
            early.append((overlap, violation))
    grants = Counter(event["mode"] for event in history if event.kind == "enter" and event["role"] == "lock")
    return LockFindings(grants, violations, early)


def _excused(violation: Violation, held: Sequence[Belief], history: Sequence[Event]) -> float | None:
    """Return for how long two overlapped if etcd is to blame; None if it is not."""
    first, second = violation.events
    believed = [belief for belief in held if belief.entered is first and belief.exclusive]
    gone = next(
        (e for e in history if e.kind == "key_deleted" and e["key"] == first["key"] and e.at > first.at), None
    )
    if gone is None or not believed:
        return None
    woken = any(e.kind == "woken" and 0 <= gone.at - e.at <= WAKES_FOR for e in history)
    ends = max(belief.until for belief in believed)
    deliverable = max([gone.at, *_mended_after(history, first, gone.at)])
    if not woken or ends > deliverable + NOTICE_WITHIN:
        return None
    return ends - second.at


def _mended_after(history: Sequence[Event], holder: Event, at: float) -> list[float]:
    """Return when what hindered a holder's process around a moment was over."""
    begun: float | None = None
    ends = []
    for event in history:
        if event.fields.get("who") != holder.process:
            continue
        if event.kind == "hindered":
            begun = event.at
        elif event.kind == "unhindered" and begun is not None:
            if begun <= at + NOTICE_WITHIN and event.at >= at:
                ends.append(event.at)
            begun = None
    return ends


def real_overlaps(events: Iterable[Event]) -> dict[tuple[int, int], float]:
    """Return for how long two processes were in the body at the same time, one of them LOCAL, by their pids.

    Args:
        events: The events of all processes, in any order.
    """
    history = sorted(events, key=lambda event: event.at)
    held = [belief for belief in beliefs(history, "lock") if belief.mode in ("local", "distributed")]
    found: dict[tuple[int, int], float] = {}
    for number, one in enumerate(held):
        for other in held[number + 1 :]:
            if other.since >= one.until or one.entered.pid == other.entered.pid:
                continue
            if "local" not in (one.mode, other.mode):
                continue
            low, high = sorted((one.entered.pid, other.entered.pid))
            seconds = min(one.until, other.until) - max(one.since, other.since)
            found[low, high] = max(seconds, found.get((low, high), 0.0))
    return found
