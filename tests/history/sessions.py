"""Finding out from a history whether sessions told the truth. Pure: events in, findings out.

    key_gone_early      a key disappeared before its holder's deadline, and no member had just woken up
    notice_late         a key disappeared early, and its holder was told more than 1 s after that was deliverable
    believed_too_long   a session was believed in although its key was gone, and that was deliverable for over 1 s

What etcd takes away early is no violation but is counted, as `EarlyRevoke`: a member that was paused revokes, as
it wakes up, what has expired on its own clock (docs/explanation/leases-and-deadlines.md). No client prevents that.

*Deliverable* means: from the moment that some member has shown the deletion to an observer, but not while the
holder itself is paused or cut off, nor while the member that it uses is.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.history.checker import Violation
from tests.history.events import Event

# Seconds after a member has woken up within which what is gone may be its doing.
WAKES_FOR = 2.0
# Seconds within which a holder is to know.
NOTICE_WITHIN = 1.0


@dataclass(frozen=True, slots=True)
class EarlyRevoke:
    """A key that etcd took away although its lease was proven.

    Attributes:
        early: Seconds before the deadline.
        notice: Seconds until its holder was told, since that was deliverable; NaN if the holder had died.
        deleted: The evidence.
    """

    early: float
    notice: float
    deleted: Event


@dataclass(frozen=True, slots=True)
class SessionFindings:
    """What a history says of its sessions.

    Attributes:
        sessions: How many there were.
        ended: How many keys were seen to disappear although nobody had closed the session.
        smallest: The smallest time in seconds between a deadline and the disappearance after it.
        violations: What must never happen.
        early: What etcd took away early.
    """

    sessions: int = 0
    ended: int = 0
    smallest: float = math.inf
    violations: list[Violation] = field(default_factory=list)
    early: list[EarlyRevoke] = field(default_factory=list)


def check_sessions(events: Iterable[Event]) -> SessionFindings:
    """Return what a history says of its sessions.

    Args:
        events: The events of all processes, in any order.
    """
    history = sorted(events, key=lambda event: event.at)
    by_session: dict[str, list[Event]] = defaultdict(list)
    deleted: dict[str, Event] = {}
    for event in history:
        if "session" in event.fields:
            by_session[event["session"]].append(event)
        elif event.kind == "key_deleted":
            deleted.setdefault(event["key"], event)
    hindrances = _hindrances(history)
    woken = [event.at for event in history if event.kind == "woken"]
    died = {event["victim"]: event.at for event in history if event.kind == "died"}
    violations: list[Violation] = []
    early: list[EarlyRevoke] = []
    ended, smallest = 0, math.inf
    for told in by_session.values():
        opened = next((event for event in told if event.kind == "session_opened"), None)
        gone = None if opened is None else deleted.get(opened["key"])
        if opened is None or gone is None or _closed_before(told, gone.at):
            continue
        ended += 1
        known = [event for event in told if "deadline" in event.fields and event.at <= gone.at]
        # Seen to be deleted before the holder could record that it is there: nothing was believed yet.
        last = known[-1] if known else opened
        deadline = max((event["deadline"] for event in known), default=-math.inf)
        dead = died.get(opened.pid, math.inf)
        deliverable = max([gone.at, *(end for start, end in hindrances(last) if start <= gone.at + NOTICE_WITHIN)])
        if gone.at >= deadline:
            smallest = min(smallest, gone.at - deadline)
        else:
            notice = _notice(told, deliverable) if dead > deliverable + NOTICE_WITHIN else math.nan
            early.append(EarlyRevoke(deadline - gone.at, notice, gone))
            if not any(0 <= gone.at - at <= WAKES_FOR for at in woken):
                message = f"{opened['key']!r}: {deadline - gone.at:.3f} s before its deadline"
                violations.append(Violation("key_gone_early", message, (opened, last, gone)))
            if notice > NOTICE_WITHIN:
                message = f"{opened['key']!r}: its holder was told {notice:.3f} s after that was deliverable"
                violations.append(Violation("notice_late", message, (opened, last, gone)))
        late = [e for e in told if e.kind == "session_believed" and e.at > deliverable + NOTICE_WITHIN]
        if late:
            message = f"{opened['key']!r}: believed in {late[-1].at - deliverable:.3f} s later"
            violations.append(Violation("believed_too_long", message, (opened, gone, late[0])))
    return SessionFindings(len(by_session), ended, smallest, violations, early)


def _closed_before(told: Sequence[Event], at: float) -> bool:
    """Whether the holder gave the session up before, so that it is the holder who has deleted the key."""
    return any(event.kind in ("session_closed", "session_lost") and event.at <= at for event in told)


def _notice(told: Sequence[Event], deliverable: float) -> float:
    """Return the seconds until the holder was told; infinite if it never was."""
    lost = next((event for event in told if event.kind == "session_lost"), None)
    return math.inf if lost is None else max(0.0, lost.at - deliverable)


class _Hindrances:
    """When which processes and members were hindered."""

    def __init__(self, history: Sequence[Event]) -> None:
        self._spans: list[tuple[str, float, float]] = []
        begun: dict[str, float] = {}
        for event in history:
            if event.kind == "hindered":
                begun.setdefault(event["who"], event.at)
            elif event.kind == "unhindered" and event["who"] in begun:
                self._spans.append((event["who"], begun.pop(event["who"]), event.at))
        self._spans += [(who, at, math.inf) for who, at in begun.items()]

    def __call__(self, last: Event) -> list[tuple[float, float]]:
        """Return the spans that concern a session: its process's, and those of the member it uses."""
        concerned = {last.process, last["member"]}
        return [(start, end) for who, start, end in self._spans if who in concerned]


def _hindrances(history: Sequence[Event]) -> _Hindrances:
    return _Hindrances(history)
