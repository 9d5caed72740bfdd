"""The top of the page: the bar, the verdict, what works and what does not, and the screen reader's text."""

from __future__ import annotations

from tideover.asgi.status_page.ages import Ages
from tideover.asgi.status_page.words import TONES, Facts, Phrase, clock, day, phrase, phrases
from tideover.status import OutageStatus, StatusReport, duration
from tideover.types import HealthState


def bar(report: StatusReport, ages: Ages) -> Facts:
    """Return the state in the bar, with how long it has lasted unless all is well."""
    well = report.state is HealthState.AVAILABLE
    return {
        "tone": TONES[report.state],
        "state": str(report.state),
        "lasting": None if well else ages(report.seconds),
    }


def announce(report: StatusReport, ages: Ages) -> Facts:
    """Return what a screen reader says when the state changes."""
    return {"text": report.announcement}


def title(name: str, report: StatusReport) -> str:
    """Return the title of the browser's tab."""
    state = str(report.state)
    return f"{name}: {state if report.state is HealthState.AVAILABLE else state.upper()} - tideover"


def verdict(report: StatusReport, ages: Ages, *, name: str) -> Facts:
    """Return the sentence, its consequences, and the lines for pasting into a chat."""
    return {
        "tone": TONES[report.state],
        "state": str(report.state),
        "title": title(name, report),
        "why": report.why,
        "headline": phrase(report.headline, ages),
        "consequences": phrases(report.consequences, ages),
        "since": day(report.since, report.at),
        "since_iso": report.since.isoformat(timespec="seconds"),
        "seconds": ages(report.seconds),
        "next_probe": ages(report.next_probe, "in"),
        "outage": _outage(report, ages),
    }


def _outage(report: StatusReport, ages: Ages) -> Facts | None:
    outage = report.outage or report.last_outage
    if outage is None:
        return None
    present = report.outage is not None
    return {
        "id": outage.outage_id,
        "label": "Outage" if present else "Last outage",
        "lasted": None if present else Phrase(_lasted(outage)),
        "why": outage.why,
        "query": outage.trace_query,
        "query_label": f"Trace query for {'this' if present else 'the last'} outage",
    }


def _lasted(outage: OutageStatus) -> str:
    ended = f", ended {clock(outage.ended)}" if outage.ended is not None else ""
    return f"{duration(outage.seconds)}{ended}"


def works(report: StatusReport, ages: Ages) -> Facts:
    """Return what works and what does not."""
    well = not report.fails
    return {
        "lists": [
            {
                "id": "works",
                "name": "Works" if well else "Still works",
                "lines": phrases(report.works, ages) or [Phrase("Nothing.")],
                "tone": "ok" if report.works else "none",
                "mark": "yes" if report.works else "dash",
            },
            {
                "id": "fails",
                "name": "Does not work",
                "lines": phrases(report.fails, ages) or [Phrase("Nothing.")],
                "tone": "bad" if report.fails else "none",
                "mark": "no" if report.fails else "dash",
            },
        ]
    }
