"""Ages across processes and boots."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tideover.clock import Clock, Stamp, system_boot_id, system_boot_time


def _clock(*, wall: float, boot: float, boot_id: str = "this") -> Clock:
    return Clock(monotonic=lambda: 0.0, boot=lambda: boot, wall=lambda: wall, boot_id=boot_id)


NOW = _clock(wall=1000.0, boot=100.0)


@pytest.mark.parametrize(
    ("stamp", "elapsed"),
    [
        (Stamp(wall=990.0, boot=95.0, boot_id="this"), 5.0),
        (Stamp(wall=5000.0, boot=95.0, boot_id="this"), 5.0),
        (Stamp(wall=1000.0, boot=101.0, boot_id="this"), math.inf),
        (Stamp(wall=990.0, boot=95.0, boot_id="other"), 10.0),
        (Stamp(wall=990.0, boot=5000.0, boot_id="other"), 10.0),
        (Stamp(wall=1001.0, boot=0.0, boot_id="other"), math.inf),
        (Stamp(wall=990.0, boot=95.0, boot_id=""), 10.0),
    ],
)
def test_the_time_since_a_stamp(stamp: Stamp, elapsed: float) -> None:
    """The boot-time clock counts within one boot, the wall clock across boots; a contradiction is unknown."""
    assert NOW.elapsed(stamp) == elapsed


def test_unknown_boots_are_never_the_same() -> None:
    """Where boots have no id, two empty ids do not make one boot."""
    clock = _clock(wall=1000.0, boot=100.0, boot_id="")
    assert clock.elapsed(Stamp(wall=990.0, boot=95.0, boot_id="")) == 10.0


@settings(deadline=None)
@given(st.floats(0, 1e9), st.sampled_from(["this", ""]))
def test_a_stamp_of_the_past_has_its_age(ago: float, boot_id: str) -> None:
    """What is stamped as so long ago has elapsed for so long."""
    clock = _clock(wall=2e9, boot=1e9, boot_id=boot_id)
    assert clock.elapsed(clock.stamp(ago)) == pytest.approx(ago, abs=1e-3)


@settings(deadline=None)
@given(st.builds(Stamp, wall=st.floats(), boot=st.floats(), boot_id=st.sampled_from(["this", "other", ""])))
def test_an_age_is_never_negative(stamp: Stamp) -> None:
    """Whatever a file claims, the age is at least 0, or infinite where it is unknown."""
    assert NOW.elapsed(stamp) >= 0


def test_the_system_clocks() -> None:
    """The real clocks run forwards, and the boot's id does not change."""
    clock = Clock()
    stamp = clock.stamp()
    assert 0 <= clock.elapsed(stamp) < 60
    assert abs(stamp.wall - time.time()) < 60
    assert system_boot_time() >= stamp.boot
    assert clock.boot_id == system_boot_id()
    assert "\n" not in system_boot_id()
