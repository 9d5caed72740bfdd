"""Timing that survives a noisy machine: everything that is compared is timed in turn, many times, in one process.

A round times every case once, for a few milliseconds each. Noise only ever adds, so a case's time is the least of
its rounds; the ratios of the single rounds say how far that can be trusted. A row that misses a goal is measured
again, at most three times in all, and the best is kept: a goal that is met once can be met, and one that is missed
three times is missed.
"""

from __future__ import annotations

import gc
import itertools
import statistics
import time
import timeit
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from typing import Literal

Clock = Callable[[], float]
# Runs something so many times and returns the seconds that took.
Loop = Callable[[int], "float | Awaitable[float]"]
# A number made of the times of several cases, such as "decorated minus plain".
Formula = Callable[[Mapping[str, float]], float]
Unit = Literal["s", "B", "%", "x", ""]

ROUNDS = 100
# Seconds for which a case runs in one round.
SLICE = 0.002
TRIES = 3


# What is compared ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Goal:
    """What a comparison must reach.

    Attributes:
        limit: The most it may be.
        of: Whether that is the ratio to the peer, or the measured value itself.

    Raises:
        ValueError: The limit is negative.
    """

    limit: float
    of: Literal["ratio", "value"] = "ratio"

    def __post_init__(self) -> None:
        """Reject what nothing can reach."""
        if self.limit < 0:
            raise ValueError(f"limit must not be negative, not {self.limit}")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One line of the table.

    Attributes:
        what: What was measured.
        value: How much it was.
        peer: What it is compared with.
        peer_value: How much that was, in the same run.
        low: The lower quartile of the ratios of single rounds; None if there is only one.
        high: The upper quartile.
        unit: Of both values: seconds, bytes, per cent, or a plain number.
    """

    what: str
    value: float
    peer: str
    peer_value: float
    low: float | None = None
    high: float | None = None
    unit: Unit = "s"

    @property
    def ratio(self) -> float:
        """The value in units of the peer's; infinite if the peer's is nothing, and 0 if both are."""
        if self.peer_value > 0:
            return self.value / self.peer_value
        return float("inf") if self.value > 0 else 0.0

    def score(self, goal: Goal | None) -> float:
        """Return the number that the goal limits."""
        return self.value if goal is not None and goal.of == "value" else self.ratio


@dataclass(frozen=True, slots=True)
class Row:
    """One benchmark.

    Attributes:
        name: For `--only`.
        what: What it measures, in words.
        peer: With what that is compared.
        goals: What must be reached, by `Comparison.what`; comparisons without a goal are shown for scale.
        measure: Measures once.

    Raises:
        ValueError: There is no peer or no goal.
    """

    name: str
    what: str
    peer: str
    goals: Mapping[str, Goal]
    measure: Callable[[], Awaitable[Sequence[Comparison]]]

    def __post_init__(self) -> None:
        """Reject a number that nothing gives a meaning."""
        if not self.peer or not self.goals:
            raise ValueError(f"row {self.name!r} needs a peer and a goal")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a comparison.

    Attributes:
        row: The row's name.
        comparison: The best of all tries; without a goal, the last one's.
        goal: Its goal; None if it is shown for scale.
        tries: How often the row was measured.
    """

    row: str
    comparison: Comparison
    goal: Goal | None
    tries: int

    @property
    def met(self) -> bool | None:
        """Whether the goal was met; None without a goal."""
        return None if self.goal is None else self.comparison.score(self.goal) <= self.goal.limit


async def run_row(row: Row, *, tries: int = TRIES) -> list[Outcome]:
    """Measure a row until its goals are met.

    Args:
        row: The row.
        tries: How often to measure at the most.

    Returns:
        One outcome per comparison, in the row's order.

    Raises:
        LookupError: A goal was not measured.
    """
    best: dict[str, Comparison] = {}
    outcomes: list[Outcome] = []
    for number in range(1, tries + 1):
        for seen in await row.measure():
            goal = row.goals.get(seen.what)
            # What is shown for scale is that of the last try, which is the one that met the goals, if any did.
            if seen.what not in best or goal is None or seen.score(goal) < best[seen.what].score(goal):
                best[seen.what] = seen
        if missing := row.goals.keys() - best.keys():
            raise LookupError(f"row {row.name!r} has goals that it does not measure: {sorted(missing)}")
        outcomes = [Outcome(row.name, seen, row.goals.get(what), number) for what, seen in best.items()]
        if all(outcome.met is not False for outcome in outcomes):
            break
    return outcomes


class NotMeasured(Exception):
    """Raised when a row cannot be measured here, because what it is compared with is missing."""


# Timing --------------------------------------------------------------------------------------------------------


def statement(text: str, namespace: Mapping[str, object], *, clock: Clock = time.perf_counter) -> Loop:
    """Return a loop over a line of code, with the least overhead there is.

    Args:
        text: The line.
        namespace: The names in it.
        clock: Returns seconds.
    """
    return timeit.Timer(text, timer=clock, globals=dict(namespace)).timeit


def awaiting(text: str, namespace: Mapping[str, object], *, clock: Clock = time.perf_counter) -> Loop:
    """Return a loop over a line of code that awaits; see `statement`."""
    source = (
        "async def loop(_count):\n"
        "    _began = _clock()\n"
        "    for _ in _repeat(None, _count):\n"
        f"        {text}\n"
        "    return _clock() - _began\n"
    )
    scope: dict[str, object] = {"_clock": clock, "_repeat": itertools.repeat, **namespace}
    exec(source, scope)
    loop = scope["loop"]
    assert callable(loop)
    return loop


class Timings:
    """Seconds per call of every case in every round.

    Args:
        rounds: One mapping of case to seconds per round.
    """

    def __init__(self, rounds: Sequence[Mapping[str, float]]) -> None:
        self.rounds = rounds
        self.best = {case: min(one[case] for one in rounds) for case in rounds[0]}

    def __repr__(self) -> str:
        """Show the best of each case."""
        return f"<Timings of {len(self.rounds)} rounds {self.best}>"

    def compare(self, what: str, of: str | Formula, peer: str, to: str | Formula) -> Comparison:
        """Compare two cases, or numbers made of several.

        Args:
            what: What the table calls the first.
            of: A case, or a formula over all of them.
            peer: What the table calls the second.
            to: A case, or a formula over all of them.
        """
        value, reference = _formula(of), _formula(to)
        ratios = [value(one) / reference(one) for one in self.rounds if reference(one) > 0]
        low = high = None
        if len(ratios) > 1:
            low, _, high = statistics.quantiles(ratios, n=4)
        return Comparison(what, value(self.best), peer, reference(self.best), low, high)


def _formula(of: str | Formula) -> Formula:
    return of if callable(of) else lambda times: times[of]


async def interleave(cases: Mapping[str, Loop], *, rounds: int = ROUNDS, slice: float = SLICE) -> Timings:
    """Time all cases in turn, round after round.

    Args:
        cases: Name to loop.
        rounds: How many rounds.
        slice: Seconds that a case may take in a round.

    Returns:
        The times per call.
    """
    counts = {case: await _calibrate(loop, slice) for case, loop in cases.items()}
    gc.collect()
    gc.disable()
    try:
        return Timings([await _round(cases, counts) for _ in range(rounds)])
    finally:
        gc.enable()


async def _round(cases: Mapping[str, Loop], counts: Mapping[str, int]) -> dict[str, float]:
    return {case: await _run(loop, counts[case]) / counts[case] for case, loop in cases.items()}


async def _calibrate(loop: Loop, slice: float) -> int:
    """Return how many calls fill a slice, after a warm-up."""
    count = 1
    while (elapsed := await _run(loop, count)) < slice / 4:
        count *= 2
    return max(1, round(count * slice / elapsed))


async def _run(loop: Loop, count: int) -> float:
    elapsed = loop(count)
    return await elapsed if isawaitable(elapsed) else elapsed
