"""All that a report says in words, and in rows, put into it."""

from __future__ import annotations

from dataclasses import replace

from tideover.coordinator.rules.consequences import consequences
from tideover.coordinator.rules.headline import announcement, headline, why
from tideover.coordinator.rules.hour import described
from tideover.coordinator.rules.notes import notes
from tideover.coordinator.rules.rows import Stands, rows
from tideover.coordinator.rules.sentence import sentence
from tideover.coordinator.rules.working import fails, works
from tideover.status import StatusReport


def in_words(
    facts: StatusReport, before: Stands, *, now: float, live_limit: float, matter: str, base: str
) -> tuple[StatusReport, Stands]:
    """Return the report with its words, and since when each primitive is in its state; see `rows`, `sentence`."""
    primitives, stands = rows(facts, before, now=now, live_limit=live_limit)
    report = replace(
        facts,
        sentence=sentence(facts, matter, base=base),
        headline=headline(facts),
        why=why(facts),
        announcement=announcement(facts),
        consequences=consequences(facts),
        works=works(facts),
        fails=fails(facts),
        primitives=primitives,
        history=described(facts),
        notes=notes(facts),
    )
    return report, stands
