"""Whether an event loop is blocked beyond the deadline of an election that it leads: a pure verdict.

The loop looks at each deadline as soon as it has passed, and several times a second from then on. A loop that has
not looked since is blocked; or the whole process was stopped, or the machine suspended, and the watcher has woken
up first. So the watcher waits for a moment, which counts only if the watcher itself was awake throughout.

Guarantee: a loop that keeps looking is never called blocked, however late the watcher runs; a blocked loop is
called so `PATIENCE` seconds after the deadline. Not guaranteed: that a verdict still holds when it is acted upon.

Prior art: the kernel's soft-lockup detector, which also compares a timestamp that the watched side writes, and
ignores time in which the watcher did not run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

# Seconds without a look of the loop while the watcher is awake; a healthy loop takes half as long.
PATIENCE = 0.5
# Seconds between two looks of a suspicious watcher; a longer gap means that the watcher was stopped too.
LOOK_EVERY = 0.1
_GAP = 3 * LOOK_EVERY
# The longest sleep of the watcher in seconds: its timer stands still while the machine is suspended.
IDLE_LOOK = 1.0


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What a watcher knows of one deadline: since when the loop should have looked and has not, without a gap.

    In seconds on the boot-time clock; infinite if the loop has looked.
    """

    since: float = math.inf
    looked_at: float = -math.inf
    blocked: bool = False

    def looked(self, now: float, deadline: float, seen_at: float) -> Suspicion:
        """Apply a look of the watcher; `seen_at` is when the loop last looked at the deadline."""
        if now < deadline or seen_at >= deadline:
            return Suspicion(looked_at=now)
        since = self.since if now - self.looked_at <= _GAP and self.since <= now else now
        return replace(self, since=since, looked_at=now, blocked=self.blocked or now - since >= PATIENCE)

    def next_look(self, now: float, deadline: float) -> float:
        """Return in how many seconds to look again."""
        return LOOK_EVERY if math.isfinite(self.since) else min(max(LOOK_EVERY, deadline - now), IDLE_LOOK)
