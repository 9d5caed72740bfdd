"""`tide.status()` and a page of keys with 10,000 keys followed, beside the same with ten."""

from __future__ import annotations

from benchmarks.coordinators import healthy
from benchmarks.harness import Comparison, Goal, Row, interleave, statement
from tideover import StalenessLimit

_MANY, _FEW = 10_000, 10
_REPORT = f"status(), {_MANY:,} keys"
_PAGE = f"config_keys('99'), {_MANY:,} keys"


def _values(number: int) -> dict[str, str]:
    return {f"payments/{n:05}": "2.5" for n in range(number)}


async def measure() -> list[Comparison]:
    """Make reports and pages over and over."""
    limits = {"payments/": StalenessLimit(3600.0, "raise")}
    async with healthy(_values(_MANY), limits=limits) as many, healthy(_values(_FEW), limits=limits) as few:
        times = await interleave(
            {
                "report": statement("tide.status()", {"tide": many}),
                "small report": statement("tide.status()", {"tide": few}),
                "page": statement("tide.config_keys('99')", {"tide": many}),
                "json": statement("tide.status().to_dict()", {"tide": many}),
            }
        )
    return [
        times.compare(_REPORT, "report", f"status(), {_FEW} keys", "small report"),
        times.compare(_PAGE, "page", f"status(), {_FEW} keys", "small report"),
        times.compare("for scale: status().to_dict()", "json", f"status(), {_FEW} keys", "small report"),
    ]


ROW = Row(
    name="status",
    what="a report and a page of keys, however many keys are followed",
    peer="a report of few keys",
    goals={_REPORT: Goal(1.5), _PAGE: Goal(0.05, of="value")},
    measure=measure,
)
