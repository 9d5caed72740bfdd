"""How long a process is no candidate after what it ran while leading has raised: a pure decision."""

from __future__ import annotations

# Seconds: no pause is shorter, so that a healthy process is elected first, and none is longer.
SHORTEST = 1.0
LONGEST = 60.0


def pause_after(failures: int, chance: float) -> float:
    """Return the seconds until the next candidacy: full jitter above the shortest, up to 2, 4, 8, ... 60 s."""
    most = min(LONGEST, SHORTEST * 2.0 ** min(failures, 16))
    return SHORTEST + chance * (most - SHORTEST)
