"""The pause between a job's failure and its process's next candidacy."""

from __future__ import annotations

# Seconds. The shortest pause leaves time for a healthy process to be elected first.
SHORTEST = 1.0
LONGEST = 60.0


def pause_after(failures: int, chance: float) -> float:
    """Return the seconds until the next candidacy: full jitter above the shortest, up to 2, 4, 8, ... 60 s."""
    most = min(LONGEST, SHORTEST * 2.0 ** min(failures, 16))
    return SHORTEST + chance * (most - SHORTEST)
