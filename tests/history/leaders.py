"""Finding out from a history whether leaders kept their promise. Pure: events in, findings out.

What `tests.history.checker` finds stands: no two lead at once, but for those who said that they are UNCONFIRMED,
which is counted here. `died` and `told` (a process was asked to end) may say `healthy=True`: nothing else was
wrong then, so that the time until somebody else leads can be held against a limit.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from tests.history.beliefs import Belief, beliefs
from tests.history.checker import Violation, check
from tests.history.events import Event


@dataclass(frozen=True, slots=True)
class LeaderFindings:
    """What a history says of its leaders; times are seconds, by election.

    Attributes:
        terms: How many there were: different tokens.
        returns: How often a leader came back into the same term.
        violations: What must never happen.
        unconfirmed: For how long two led at once, one of them UNCONFIRMED.
        after_death: From the death of a leader until the next one leads, with nothing else wrong.
        after_resigning: From a leader's last moment until the next one leads, likewise.
        overstays: For how long bodies went on beyond a deadline, where the process was not stopped.
    """

    terms: Counter[str] = field(default_factory=Counter)
    returns: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    unconfirmed: dict[str, list[float]] = field(default_factory=dict)
    after_death: dict[str, list[float]] = field(default_factory=dict)
    after_resigning: dict[str, list[float]] = field(default_factory=dict)
    overstays: dict[str, list[float]] = field(default_factory=dict)


def check_leaders(events: Iterable[Event]) -> LeaderFindings:
    """Return what a history says of its leaders.

    Args:
        events: The events of all processes, in any order.
    """
    history = sorted(events, key=lambda event: event.at)
    held = beliefs(history, "leader")
    enters = [event for event in history if event.kind == "enter" and event["role"] == "leader"]
    terms: Counter[str] = Counter()
    for name, _ in {(event["name"], _grant(event)) for event in enters}:
        terms[name] += 1
    return LeaderFindings(
        terms=terms,
        returns=Counter(event["name"] for event in enters) - terms,
        violations=check(history),
        unconfirmed=_unconfirmed(held),
        after_death=_after(history, held, enters, "died"),
        after_resigning=_after(history, held, enters, "told"),
        overstays=_overstays(history),
    )


def leading(events: Iterable[Event], now: float) -> dict[str, Event]:
    """Return by which `enter` each election is led with certainty at a moment."""
    return {
        belief.entered["name"]: belief.entered
        for belief in beliefs(events, "leader")
        if belief.exclusive and belief.since <= now < belief.until
    }


def _grant(event: Event) -> tuple[int, int]:
    return event.fields.get("epoch", 0), event["token"]


def _unconfirmed(held: Sequence[Belief]) -> dict[str, list[float]]:
    """Return the overlaps that were announced; two stretches of one term with the same other are one each."""
    found: dict[str, list[float]] = defaultdict(list)
    for first, second in combinations(held, 2):
        same = first.entered["name"] == second.entered["name"] and first.entered.pid != second.entered.pid
        if same and "unconfirmed" in (first.mode, second.mode) and first.overlaps(second):
            both = min(first.until, second.until) - max(first.since, second.since)
            found[first.entered["name"]].append(both)
    return dict(found)


def _after(
    history: Sequence[Event], held: Sequence[Belief], enters: Sequence[Event], end: str
) -> dict[str, list[float]]:
    """Return how long the office was empty after a leader's end, where nothing else was wrong."""
    found: dict[str, list[float]] = defaultdict(list)
    for event in history:
        if event.kind != end or not event.fields.get("healthy"):
            continue
        for name in {belief.entered["name"] for belief in held}:
            led = [b for b in held if b.entered["name"] == name and b.entered.pid == event["victim"]]
            # Who was told to end leads on for the moment it takes to hear of it.
            last = next((b for b in led if b.since <= event.at and b.until >= event.at), None)
            if last is None:
                continue
            ended = event.at if end == "died" else max(b.until for b in led)
            following = next((e for e in enters if e["name"] == name and e.at >= ended), None)
            found[name].append(float("inf") if following is None else following.at - ended)
    return dict(found)


def _overstays(history: Sequence[Event]) -> dict[str, list[float]]:
    """Return by how much an exit came after the deadline; who was stopped meanwhile could not know."""
    found: dict[str, list[float]] = defaultdict(list)
    deadlines: dict[tuple[int, str], tuple[float, float]] = {}
    stops = [event.at for event in history if event.kind == "stopped"]
    for event in history:
        if event.fields.get("role") != "leader":
            continue
        who = event.pid, event["name"]
        if event.fields.get("deadline") is not None:
            deadlines[who] = event.at, event["deadline"]
        elif event.kind == "turned":
            deadlines.pop(who, None)
        elif event.kind == "exit" and who in deadlines:
            renewed, deadline = deadlines.pop(who)
            if event.at > deadline and not any(renewed <= at <= event.at for at in stops):
                found[event["name"]].append(event.at - deadline)
    return dict(found)
