"""Whether this process leads an election, on the grounds that are asked for."""

from __future__ import annotations

from dataclasses import dataclass

from tideover.records import Record
from tideover.shown import shown
from tideover.status import StatusReport
from tideover.types import JobState, Standing


@dataclass(frozen=True, slots=True)
class Leading(Record):
    """Whether this process leads an election.

    Attributes:
        election: The election.
        known: Whether this process is a candidate.
        leads: Whether it leads, on one of the grounds that are asked for.
        standing: On what ground it leads; None if it does not.
        token: The fencing token; None if it does not lead.
        remaining: Seconds until its deadline, negative beyond it; None if it does not lead.
        holder: Who leads, for people; None if nobody was seen to.
        address: Where the leader says it can be reached; None if it does not say.
        process: This process, as `host:pid`.
    """

    election: str
    known: bool
    process: str
    leads: bool = False
    standing: Standing | None = None
    token: int | None = None
    remaining: float | None = None
    holder: str | None = None
    address: str | None = None

    @property
    def why(self) -> str:
        """Why it does not lead, in words."""
        name = shown(self.election)
        if self.standing is not None:
            return f"{name!r} is led here, {self.standing}, which was not asked for"
        elsewhere = f"; last seen to be led by {self.holder}" if self.holder else ""
        return f"{name!r} is not led here{elsewhere}"


# What may be asked for as `?standing=`, and what it accepts.
GROUNDS = {
    "held": frozenset({Standing.HELD}),
    "confirmed": frozenset({Standing.HELD, Standing.CONFIRMED}),
    "unconfirmed": frozenset(Standing),
}


def leading(report: StatusReport, election: str, grounds: frozenset[Standing]) -> Leading:
    """Return whether this process leads an election.

    Args:
        report: The facts.
        election: The election.
        grounds: On which grounds it counts.
    """
    candidacies = [each for each in report.elections if each.name == election]
    if not candidacies:
        # A job is no candidate while it rests after a failure, and will be one again.
        jobs = [job for job in report.jobs if job.name == election and job.state is not JobState.ENDED]
        return Leading(election, bool(jobs), report.process)
    best = min(candidacies, key=lambda each: _rank(each.standing))
    seen = next((each for each in candidacies if each.held_by or each.address), best)
    return Leading(
        election,
        True,
        report.process,
        leads=best.standing in grounds,
        standing=best.standing,
        token=best.token,
        remaining=best.remaining,
        holder=seen.held_by,
        address=seen.address,
    )


def _rank(standing: Standing | None) -> int:
    return len(Standing) if standing is None else list(Standing).index(standing)
