"""What a series of samples says of growth: a line by least squares, with the standard error of its slope."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

# How many standard errors a slope must exceed to count as growth: one time in a thousand that is chance.
SIGNIFICANT = 3.3


@dataclass(frozen=True, slots=True)
class Slope:
    """A slope with its standard error, both an hour.

    Attributes:
        hourly: What an hour adds.
        error: Its standard error; infinite with too few samples.
    """

    hourly: float
    error: float

    def __str__(self) -> str:
        return f"{self.hourly:+.3g} +- {self.error:.2g} an hour"

    def exceeds(self, bound: float) -> bool:
        """Return whether more than chance puts it beyond a bound.

        Args:
            bound: What an hour may add.
        """
        return self.hourly - SIGNIFICANT * self.error > bound


def slope(times: Sequence[float], values: Sequence[float]) -> Slope:
    """Fit a line.

    Successive samples of a process share what happened just before, so they say less than as many independent
    ones: the error is widened by the correlation of neighbours (a first-order autoregressive process has
    `n * (1 - r) / (1 + r)` independent samples).

    Args:
        times: Seconds.
        values: What was there at these times.
    """
    count = len(times)
    if count < 4:
        return Slope(0.0, math.inf)
    middle, mean = sum(times) / count, sum(values) / count
    spread = sum((t - middle) ** 2 for t in times)
    per_second = sum((t - middle) * (v - mean) for t, v in zip(times, values, strict=True)) / spread
    left = [v - mean - per_second * (t - middle) for t, v in zip(times, values, strict=True)]
    squares = sum(one * one for one in left)
    if squares <= 1e-12 * max(1.0, mean * mean):
        return Slope(3600 * per_second, 0.0)
    shared = sum(a * b for a, b in pairwise(left)) / squares
    shared = min(max(shared, 0.0), 1 - 2 / count)
    error = math.sqrt(squares / (count - 2) / spread * (1 + shared) / (1 - shared))
    return Slope(3600 * per_second, 3600 * error)
