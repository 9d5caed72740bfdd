"""The clocks, gathered so that tests can hand in their own.

Deadlines and ages inside a process use the monotonic clock. What outlives the process (snapshots) carries a
`Stamp`: wall time, and the boot-time clock with the id of the boot it belongs to, which is immune to an operator
setting the wall clock.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path


@cache
def system_boot_id() -> str:
    """Return the kernel's id of this boot, or an empty string where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


# Linux has it.
_BOOT_TIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)
# Returns seconds on the boot-time clock, which keeps counting while the machine is suspended.
system_boot_time: Callable[[], float] = (
    time.monotonic if _BOOT_TIME is None else partial(time.clock_gettime, _BOOT_TIME)
)


@dataclass(frozen=True, slots=True)
class Stamp:
    """A moment that can be compared with a later one in another process.

    Attributes:
        wall: Seconds since the epoch.
        boot: Seconds on the boot-time clock.
        boot_id: The boot to which `boot` belongs; empty if unknown.
    """

    wall: float
    boot: float
    boot_id: str


@dataclass(frozen=True, slots=True)
class Clock:
    """The clocks of this process.

    Attributes:
        monotonic: Seconds, for deadlines and ages within the process.
        boot: Seconds, counting through suspend.
        wall: Seconds since the epoch; only for what is written to disk or shown to people.
        boot_id: Names the current boot.
    """

    monotonic: Callable[[], float] = time.monotonic
    boot: Callable[[], float] = system_boot_time
    wall: Callable[[], float] = time.time
    boot_id: str = field(default_factory=system_boot_id)

    def stamp(self, ago: float = 0.0) -> Stamp:
        """Return the moment `ago` seconds before now."""
        return Stamp(self.wall() - ago, self.boot() - ago, self.boot_id)

    def elapsed(self, since: Stamp) -> float:
        """Return the seconds that passed since a stamp, perhaps of another process or another boot.

        Returns:
            Seconds by the boot-time clock within one boot, else by the wall clock; infinity if the clocks
            contradict each other (a negative time), because then the age is unknown.
        """
        same_boot = bool(self.boot_id) and since.boot_id == self.boot_id
        elapsed = self.boot() - since.boot if same_boot else self.wall() - since.wall
        return elapsed if elapsed >= 0 else math.inf
