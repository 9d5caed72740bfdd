"""When a lock's key is handed on inside the process, and when it goes back to etcd: pure.

Handing on costs microseconds, and a round through etcd milliseconds; yet others wait too.

*Guarantee.* From the moment a waiter elsewhere is seen, a key is handed on 64 times or for 50 ms at the most. A
key whose lease may soon end, or whose last holder may still have a write under way that is fenced by the same
key, is given back instead.

*Not guaranteed.* When a waiter elsewhere is seen: the look-out begins with the first handover, and costs a read
and a watch.

Prior art: lock cohorting (Dice, Marathe, Shavit: "Lock Cohorting", PPoPP 2012), whose bound is a count of
handovers.
"""

from __future__ import annotations

from dataclasses import dataclass

from tideover.fencing.token import MOST_HANDOVERS


@dataclass(frozen=True, slots=True)
class HandoverRules:
    """How long others may be kept waiting, from the moment one is seen: `most` handovers, `longest` seconds."""

    most: int = 64
    longest: float = 0.05


@dataclass(frozen=True, slots=True)
class Handover:
    """What the decision is made of.

    Attributes:
        wanted: Whether the options of both the holder and the next one allow handovers.
        trusted: Whether the key may be relied upon right now.
        left: Seconds until the session's deadline.
        renew_interval: Seconds from one renewal to the next.
        unresolved: Whether a guarded write of the holder may still be applied.
        count: How often this key was handed on before.
        seen_after: `count` when a waiter elsewhere was first seen; None if none was.
        seen_for: Seconds since then.
    """

    wanted: bool
    trusted: bool
    left: float
    renew_interval: float
    unresolved: bool
    count: int
    seen_after: int | None = None
    seen_for: float = 0.0


def may_keep_warm(case: Handover) -> bool:
    """Whether a key that no task of this process waits for is kept for a moment: no rival elsewhere was seen."""
    return _is_safe(case) and case.seen_after is None


def may_hand_over(case: Handover, rules: HandoverRules) -> bool:
    """Whether the next task of this process gets the key without a word to etcd."""
    if not _is_safe(case):
        return False
    if case.seen_after is None:
        return True
    return case.count - case.seen_after < rules.most and case.seen_for < rules.longest


def _is_safe(case: Handover) -> bool:
    certain = case.trusted and not case.unresolved and case.left > case.renew_interval
    return case.wanted and certain and case.count < MOST_HANDOVERS
