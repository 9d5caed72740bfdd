"""The soak's verdict: what grows is told from what only varies."""

from __future__ import annotations

import random

import pytest

from tests.soak.slope import slope

TIMES = [5.0 * n for n in range(200)]


def test_a_line_is_found_as_it_is() -> None:
    """Of samples on a line the slope is the line's, an hour, without an error."""
    found = slope(TIMES, [3 + t / 3600 for t in TIMES])
    assert found.hourly == pytest.approx(1)
    assert found.error == pytest.approx(0, abs=1e-6)
    assert found.exceeds(0)


@pytest.mark.parametrize("seed", range(20))
def test_what_varies_does_not_grow(seed: int) -> None:
    """Neither independent noise nor what drifts and comes back counts as growth."""
    chance, level = random.Random(seed), 0.0
    drifting = [level := 0.9 * level + chance.gauss(0, 1) for _ in TIMES]
    assert not slope(TIMES, [chance.gauss(50, 3) for _ in TIMES]).exceeds(0)
    assert not slope(TIMES, drifting).exceeds(0)


@pytest.mark.parametrize("seed", range(20))
def test_what_grows_within_noise_is_found(seed: int) -> None:
    """A descriptor lost every minute shows through noise of three times that."""
    chance = random.Random(seed)
    assert slope(TIMES, [50 + t / 60 + chance.gauss(0, 3) for t in TIMES]).exceeds(0)


def test_too_few_samples_say_nothing() -> None:
    """Three samples are no series."""
    assert not slope([0, 1, 2], [0, 10, 20]).exceeds(0)
