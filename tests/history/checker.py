"""Finding violations in a recorded history. Pure: a list of events in, a list of violations out.

    two_holders         two distributed holders of one lock at once
    two_leaders         two leaders of one election at once
    token_not_growing   a later grant without a larger (epoch, token); a leader may come back with its own
    revision_back       a process read an older value than it had before, within an epoch
    age_too_low         a reading misses a write acknowledged before the moment as of which it claims to be
    registration_lost   somebody looked in settled times and did not see a living registration, or nobody looked

Prior art: Jepsen's checkers; here with one clock, so that real time decides and no search is needed. Not checked:
that anything happened at all. A test counts what it wants to have happened.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from tests.history.beliefs import Belief, beliefs
from tests.history.events import Event


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must never happen.

    Attributes:
        kind: One of the module's list.
        message: What happened.
        events: The evidence, in the order it happened.
    """

    kind: str
    message: str
    events: tuple[Event, ...]

    def __str__(self) -> str:
        """Show the violation with its evidence."""
        return "\n    ".join([f"{self.kind}: {self.message}", *map(str, self.events)])


def check(events: Iterable[Event]) -> list[Violation]:
    """Return all violations in a history.

    Args:
        events: The events of all processes, in any order.

    Returns:
        The violations, in the order of their last evidence; empty if all is well.

    Raises:
        ValueError: The history contradicts itself, such as an end without a beginning.
        KeyError: An event lacks a field that its kind needs.
    """
    history = sorted(events, key=lambda event: event.at)
    found = [
        *_overlaps(beliefs(history, "lock"), "two_holders"),
        *_overlaps(beliefs(history, "leader"), "two_leaders"),
        *_tokens(beliefs(history, "lock")),
        *_tokens(beliefs(history, "leader")),
        *_revisions(history),
        *_ages(history),
        *_registrations(history),
    ]
    return sorted(found, key=lambda violation: violation.events[-1].at)


def _overlaps(held: Sequence[Belief], kind: str) -> Iterator[Violation]:
    for beliefs_of_one in _by_name(held).values():
        for first, second in combinations(beliefs_of_one, 2):
            if first.entered is not second.entered and first.overlaps(second):
                both = min(first.until, second.until) - second.since
                name = first.entered["name"]
                yield Violation(kind, f"{name!r}, for {both:.3f} s", (first.entered, second.entered))


def _tokens(held: Sequence[Belief]) -> Iterator[Violation]:
    for beliefs_of_one in _by_name(held).values():
        newest: Belief | None = None
        for belief in beliefs_of_one:
            if newest is not None and not _same_term(belief, newest) and belief.grant <= newest.grant:
                message = f"{belief.entered['name']!r}: {belief.grant} after {newest.grant}"
                yield Violation("token_not_growing", message, (newest.entered, belief.entered))
            if newest is None or belief.grant > newest.grant:
                newest = belief


def _same_term(belief: Belief, newest: Belief) -> bool:
    """Whether it is one grant: a leader that comes back after an outage, before anybody else led, keeps it."""
    first, second = newest.entered, belief.entered
    back = first["role"] == "leader" and first.pid == second.pid and newest.grant == belief.grant
    return first is second or back


def _revisions(history: Sequence[Event]) -> Iterator[Violation]:
    newest: dict[tuple[Any, ...], Event] = {}
    for event in _of(history, "reading"):
        reader = event.pid, event.fields.get("reader", ""), event["key"], event.fields.get("epoch", 0)
        before = newest.get(reader)
        if not event["present"]:
            continue  # deleted, which has no revision of its own; what may be read next is still newer than before
        if before is not None and event["revision"] < before["revision"]:
            message = f"{event['key']!r}: {event['revision']} after {before['revision']}"
            yield Violation("revision_back", message, (before, event))
        else:
            newest[reader] = event


def _ages(history: Sequence[Event]) -> Iterator[Violation]:
    written: dict[str, list[Event]] = defaultdict(list)
    for event in _of(history, "written"):
        written[event["key"]].append(event)
    for reading in _of(history, "reading"):
        age = reading["age"]
        if math.isnan(age) or age < 0:
            yield Violation("age_too_low", f"{reading['key']!r}: an age of {age}", (reading,))
            continue
        writes = written[reading["key"]]
        epoch = reading.fields.get("epoch", 0)
        as_of = reading["began"] - age
        due = [w for w in writes if w.at < as_of and w.fields.get("epoch", 0) == epoch]
        if not due:
            continue
        missed = max(due, key=lambda write: write["revision"])
        if _revision_read(reading, writes) < missed["revision"]:
            message = f"{reading['key']!r}: claims {age:.3f} s, misses revision {missed['revision']}"
            yield Violation("age_too_low", f"{message}, {as_of - missed.at:.3f} s older", (missed, reading))


def _revision_read(reading: Event, writes: Sequence[Event]) -> int:
    """Return the newest revision that would explain a reading; absent means some deletion, or never written."""
    if reading["present"]:
        return int(reading["revision"])
    return max((w["revision"] for w in writes if not w["present"] and w["began"] < reading.at), default=0)


def _registrations(history: Sequence[Event]) -> Iterator[Violation]:
    alive: dict[tuple[str, str], Event] = {}
    settled: Event | None = None
    owed: dict[tuple[str, str], Event] = {}  # alive since before the settled time, and not seen in it

    def unseen() -> Iterator[Violation]:
        for (name, instance), registered in owed.items():
            if settled is not None:
                message = f"{instance!r} of {name!r}: nobody looked"
                yield Violation("registration_lost", message, (registered, settled))

    for event in history:
        if event.kind == "registered":
            alive[event["name"], event["instance"]] = event
        elif event.kind == "deregistered":
            alive.pop((event["name"], event["instance"]), None)
        elif event.kind == "died":
            alive = {key: birth for key, birth in alive.items() if birth.pid != event["victim"]}
        elif event.kind in ("settled", "disturbed"):
            yield from unseen()
            settled = event if event.kind == "settled" else None
            owed = dict(alive) if settled is not None else {}
        elif event.kind == "discovered" and settled is not None and event["began"] >= settled.at:
            for (name, instance), registered in alive.items():
                if name != event["name"]:
                    continue
                owed.pop((name, instance), None)
                if registered.at < settled.at and instance not in event["instances"]:
                    message = f"{instance!r} of {name!r}: not seen"
                    yield Violation("registration_lost", message, (registered, settled, event))
        owed = {key: birth for key, birth in owed.items() if key in alive}
    yield from unseen()


def _by_name(held: Sequence[Belief]) -> dict[str, list[Belief]]:
    """Group the beliefs that count, in the order they began."""
    grouped: dict[str, list[Belief]] = defaultdict(list)
    for belief in held:
        if belief.exclusive:
            grouped[belief.entered["name"]].append(belief)
    return grouped


def _of(history: Sequence[Event], kind: str) -> Iterator[Event]:
    return (event for event in history if event.kind == kind)
