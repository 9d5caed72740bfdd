"""Which holds of one lock overlapped: pure.

*Guarantee*, if the wall clocks of two machines differ by no more than `UNCERTAINTY`, and boot-time clocks run
alike: a conflict called certain did happen, and every overlap is found, as certain or as possible. Within one boot
of one machine the clock is the same, and nothing is uncertain.

*Not looked for* are overlaps of two DISTRIBUTED holds: they cannot overlap for longer than a deletion takes to be
seen, and that is counted elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

from tideover.clock import Stamp
from tideover.types import LockMode

# Seconds by which the wall clocks of two machines may differ.
UNCERTAINTY = 1.0


@dataclass(frozen=True, slots=True)
class Hold:
    """One stretch of holding a lock in one mode.

    Attributes:
        id: Unique, so that no hold is counted twice.
        name: The lock.
        owner: The process, unique for each start of one.
        where: The process for people: host and process id.
        token: The fencing token; 0 if the hold was LOCAL.
        ended: When the hold ended; None if it has not, or its process died.
        seen: When the hold was last known to last.
    """

    id: str
    name: str
    owner: str
    where: str
    mode: LockMode
    token: int
    began: Stamp
    ended: Stamp | None
    seen: Stamp

    @property
    def until(self) -> Stamp:
        """Until when the lock was held for certain."""
        return self.ended or self.seen


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two holds of one lock at the same time.

    Attributes:
        first: The hold that began earlier, as far as clocks tell.
        certain: Whether the clocks leave no doubt.
        seconds: How long the overlap was by the clocks; negative if only their uncertainty makes it possible.
    """

    first: Hold
    second: Hold
    certain: bool
    seconds: float

    @property
    def id(self) -> tuple[str, str]:
        """The ids of both holds, so that an overlap is reported once."""
        low, high = sorted((self.first.id, self.second.id))
        return low, high


def overlaps(holds: Iterable[Hold]) -> Iterator[Overlap]:
    """Find the overlaps between holds of different processes; each pair once."""
    by_name: dict[str, dict[tuple[str, str], dict[str, Hold]]] = {}
    for hold in holds:
        clock = hold.owner, hold.began.boot_id
        by_name.setdefault(hold.name, {}).setdefault(clock, {})[hold.id] = hold
    for of_one in by_name.values():
        for ours, theirs in combinations(of_one.items(), 2):
            if ours[0][0] != theirs[0][0]:
                same = bool(ours[0][1]) and ours[0][1] == theirs[0][1]
                yield from _between(ours[1].values(), theirs[1].values(), same=same)


def _between(ours: Iterable[Hold], theirs: Iterable[Hold], *, same: bool) -> Iterator[Overlap]:
    # In the order of time, as there may be thousands.
    beginnings = sorted(
        ((_at(hold.began, same), number, hold) for number, hold in enumerate([*ours, *theirs])),
        key=lambda beginning: beginning[:2],
    )
    slack = 0.0 if same else UNCERTAINTY
    lasting: list[Hold] = []
    for at, _, hold in beginnings:
        lasting = [other for other in lasting if other.ended is None or _at(other.until, same) > at - slack]
        for other in lasting:
            found = overlap(other, hold)
            if found is not None:
                yield found
        lasting.append(hold)


def overlap(one: Hold, other: Hold) -> Overlap | None:
    """Return the overlap of two holds of one lock; None if there is none."""
    if one.owner == other.owner or LockMode.LOCAL not in (one.mode, other.mode):
        return None
    same = bool(one.began.boot_id) and one.began.boot_id == other.began.boot_id
    slack = 0.0 if same else UNCERTAINTY
    began_one, began_other = _at(one.began, same), _at(other.began, same)
    until_one, until_other = _at(one.until, same), _at(other.until, same)
    latest = max(began_one, began_other)
    known = min(until_one, until_other) - latest
    conceivable = min(
        math.inf if one.ended is None else until_one, math.inf if other.ended is None else until_other
    )
    if conceivable - latest <= -slack:
        return None
    first, second = (one, other) if began_one <= began_other else (other, one)
    return Overlap(first, second, certain=known > slack, seconds=known)


def _at(stamp: Stamp, same_boot: bool) -> float:
    return stamp.boot if same_boot else stamp.wall
