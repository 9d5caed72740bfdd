"""From events to intervals of belief: who took itself for the holder or the leader, from when to when.

An interval ends at the first of: the body's exit, the moment its holder was told of the loss, its deadline, the
holder's death. Renewals move the deadline; one that comes after the deadline begins a new interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from tests.history.events import Event

# Standings on which nobody else may stand at the same time. "local" and "unconfirmed" say so themselves.
EXCLUSIVE_MODES = {"distributed", "held", "confirmed"}


@dataclass(frozen=True, slots=True)
class Belief:
    """One stretch of believing to hold something.

    Attributes:
        entered: The event of the grant.
        since: When it began, on the machine's clock.
        until: When it ended; infinite if nothing recorded ends it.
        mode: On what ground.
    """

    entered: Event
    since: float
    until: float
    mode: str

    @property
    def exclusive(self) -> bool:
        """Whether nobody else may believe the same meanwhile."""
        return self.mode in EXCLUSIVE_MODES and self.until > self.since

    @property
    def grant(self) -> tuple[int, int]:
        """The token with its epoch, as sinks compare them."""
        return self.entered.fields.get("epoch", 0), self.entered["token"]

    def overlaps(self, other: Belief) -> bool:
        """Whether there was a moment of both."""
        return max(self.since, other.since) < min(self.until, other.until)


def beliefs(events: Iterable[Event], role: str) -> list[Belief]:
    """Return the beliefs of a role, in the order they began.

    Args:
        events: The history.
        role: "lock" or "leader".

    Returns:
        One for each stretch on one ground.

    Raises:
        ValueError: Something ends, or changes, that did not begin.
    """
    done: list[Belief] = []
    current: dict[tuple[int, str, str], Belief] = {}

    def end(holder: tuple[int, str, str], at: float) -> None:
        belief = current.pop(holder)
        done.append(replace(belief, until=min(belief.until, at)))

    for event in sorted(events, key=lambda event: event.at):
        if event.kind == "died":
            for holder in [holder for holder in current if holder[0] == event["victim"]]:
                end(holder, event.at)
        if event.fields.get("role") != role:
            continue
        holder = event.pid, event["name"], event.fields.get("holder", "")
        if event.kind == "enter":
            if holder in current:
                raise ValueError(f"entered again without an exit: {event}")
            current[holder] = Belief(event, event.at, _deadline(event), event["mode"])
        elif holder not in current:
            # An exit follows a loss; nothing else may follow the end.
            if event.kind != "exit":
                raise ValueError(f"not held: {event}")
        elif event.kind in ("exit", "lost"):
            end(holder, event.at)
        elif event.kind == "renewed":
            belief = current[holder]
            if event.at > belief.until:
                done.append(belief)
                belief = replace(belief, since=event.at)
            current[holder] = replace(belief, until=_deadline(event))
        elif event.kind == "turned":
            belief = current[holder]
            end(holder, event.at)
            until = _deadline(event) if "deadline" in event.fields else belief.until
            current[holder] = replace(belief, since=event.at, until=until, mode=event["mode"])
    return sorted([*done, *current.values()], key=lambda belief: belief.since)


def _deadline(event: Event) -> float:
    deadline = event["deadline"]
    return math.inf if deadline is None else deadline
