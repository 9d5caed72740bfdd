"""The table at the end, and the same as JSON."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from benchmarks import go_client
from benchmarks.harness import Goal, Outcome, Unit
from tideover.etcd.transports import chosen

_COLUMNS = ("what", "measured", "peer", "measured", "ratio", "goal", "met")
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_VERSIONS = (
    "anyio",
    "uvloop",
    "grpcio",
    "aetcd",
    "starlette",
    "pydantic",
    "cachetools",
    "cashews",
    "aiocache",
    "stamina",
    "circuitbreaker",
)


def spell(value: float, unit: Unit) -> str:
    """Return a number with its unit, three digits."""
    if unit == "s":
        if value == 0:
            return "0 s"
        scale, name = next((s for s in _SECONDS if abs(value) >= s[0]), _SECONDS[-1])
        return f"{value / scale:.3g} {name}" if value / scale < 1000 else f"{value / scale:.0f} {name}"
    if unit == "B":
        return f"{value / 1024:,.0f} KiB"
    return f"{value:.3g} {unit}".rstrip()


def spell_goal(goal: Goal, unit: Unit) -> str:
    """Return a goal as the table shows it."""
    return f"<= {goal.limit:g} x" if goal.of == "ratio" else f"<= {spell(goal.limit, unit)}"


def lines(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """Return the table's cells."""
    return [_line(outcome) for outcome in outcomes]


def _line(outcome: Outcome) -> tuple[str, ...]:
    seen, goal = outcome.comparison, outcome.goal
    ratio = f"{seen.ratio:.3g} x"
    if seen.low is not None and seen.high is not None:
        ratio += f" ({seen.low:.3g}-{seen.high:.3g})"
    met = {True: "yes", False: "NO", None: "-"}[outcome.met]
    if goal is not None and outcome.tries > 1:
        met += f" (best of {outcome.tries})"
    return (
        seen.what,
        spell(seen.value, seen.unit),
        seen.peer,
        spell(seen.peer_value, seen.unit),
        ratio,
        "-" if goal is None else spell_goal(goal, seen.unit),
        met,
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """Return all outcomes as a Markdown table that also reads well as plain text."""
    rows = [_COLUMNS, *lines(outcomes)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(_COLUMNS))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def environment() -> dict[str, str]:
    """Return what the numbers depend on."""
    found = {
        "python": sys.version.split()[0],
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        "transport": chosen(None, "127.0.0.1:2379"),
    }
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | go_client.versions()


def document(outcomes: Sequence[Outcome], unmeasured: Mapping[str, str]) -> dict[str, object]:
    """Return the outcomes as `--json` writes them; seconds, bytes and per cent are plain numbers.

    Args:
        unmeasured: Why rows have not been measured, by name.
    """
    return {
        "environment": environment(),
        "results": [_record(outcome) for outcome in outcomes],
        "not measured": dict(unmeasured),
    }


def _record(outcome: Outcome) -> dict[str, object]:
    seen, goal = outcome.comparison, outcome.goal
    return {
        "row": outcome.row,
        "what": seen.what,
        "value": seen.value,
        "peer": seen.peer,
        "peer_value": seen.peer_value,
        "unit": seen.unit,
        "ratio": seen.ratio,
        "quartiles": None if seen.low is None else [seen.low, seen.high],
        "goal": None if goal is None else {"limit": goal.limit, "of": goal.of},
        "met": outcome.met,
        "tries": outcome.tries,
    }
