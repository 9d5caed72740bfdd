"""The end of the demo: what was counted, what held, and how to find the same in production."""

from __future__ import annotations

from tideover.cli.demo.scenario import Scenario
from tideover.cli.demo.timeline import Timeline

TRACEQL = "{ span.tideover.degraded = true }"
JAEGER = "tideover.degraded=true"


def summarise(scenario: Scenario, timeline: Timeline) -> None:
    """Print what the run has shown."""
    tally = scenario.load.tally
    counts = ", ".join(f"{count} {source}" for source, count in tally.by_source.items())
    writes = " and ".join(f"{ms:.0f}" for ms in scenario.visible_ms)
    timeline.print_text(
        f"\n{tally.requests} requests, {tally.failed} failed; answers: {counts or 'none'}.\n"
        f"Slowest answer {tally.slowest * 1000:.0f} ms. Writes were in the answers after {writes or '-'} ms.\n"
        f"{tally.degraded} answers carried Tideover-Status; in your traces the same requests are found with\n"
        f"  TraceQL  {TRACEQL}\n"
        f"  Jaeger   tag {JAEGER}"
    )
    if scenario.broken:
        timeline.print_text("\nNOT as promised:")
        for claim in scenario.broken:
            timeline.print_text(f"  - {claim}")
    else:
        timeline.print_text(f"\nAll as promised, in {timeline.seconds:.0f} s.")
    timeline.record(
        "summary",
        requests=tally.requests,
        failed=tally.failed,
        sources=tally.sources.seen,
        states=tally.states.seen,
        answers=dict(tally.by_source),
        degraded=tally.degraded,
        mislabelled=tally.mislabelled,
        went_back=tally.went_back,
        slowest_ms=round(tally.slowest * 1000, 1),
        visible_ms=scenario.visible_ms,
        traceql=TRACEQL,
        jaeger=JAEGER,
        ok=not scenario.broken,
        broken=scenario.broken,
        seconds=round(timeline.seconds, 3),
    )
