"""Whether an event loop is blocked beyond the deadline of something that is led by it: one watcher's side, pure.

The loop looks at each deadline as soon as it has passed, and several times a second from then on. If it has not
looked since, it is blocked; or the whole process was stopped, or the machine suspended, and the watcher has only
been the first to wake up. So the watcher is patient for a moment, and a moment counts only if the watcher itself
was awake in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

# Seconds for which the loop may not have looked, with the watcher awake; twice as long as it may take when well.
PATIENCE = 0.5
# Seconds between two looks of a watcher that has become suspicious; a longer gap means that it was stopped too.
LOOK_EVERY = 0.1
_GAP = 3 * LOOK_EVERY
# Seconds between two looks at the most while all is well: its timer stands still while the machine is suspended.
IDLE_LOOK = 1.0


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What a watcher knows of one deadline. All times are seconds on the boot-time clock.

    Attributes:
        since: Since when the loop should have looked and has not, seen without a gap; infinite if it has.
    """

    since: float = math.inf
    looked_at: float = -math.inf
    blocked: bool = False

    def looked(self, now: float, deadline: float, seen_at: float) -> Suspicion:
        """Take in a look."""
        if now < deadline or seen_at >= deadline:
            return Suspicion(looked_at=now)
        since = self.since if now - self.looked_at <= _GAP and self.since <= now else now
        return replace(self, since=since, looked_at=now, blocked=self.blocked or now - since >= PATIENCE)

    def next_look(self, now: float, deadline: float) -> float:
        """Return in how many seconds to look again."""
        return LOOK_EVERY if math.isfinite(self.since) else min(max(LOOK_EVERY, deadline - now), IDLE_LOOK)
