"""Whether this process leads an election with one of the accepted standings."""

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
        leads: Whether it leads with one of the accepted standings.
        standing: None if it does not lead.
        remaining: Seconds until its deadline, negative beyond it; None if it does not lead.
        holder: The leader, for people; None if none was seen.
        address: The leader's advertised address; None if it advertises none.
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


# The values of `?standing=`, and the standings that each accepts.
GROUNDS = {
    "held": frozenset({Standing.HELD}),
    "confirmed": frozenset({Standing.HELD, Standing.CONFIRMED}),
    "unconfirmed": frozenset(Standing),
}


def leading(report: StatusReport, election: str, grounds: frozenset[Standing]) -> Leading:
    """Return whether this process leads an election."""
    candidacies = [each for each in report.elections if each.name == election]
    if not candidacies:
        # A job that pauses after a failure is no candidate now, but will be again.
        jobs = [job for job in report.jobs if job.name == election and job.state is not JobState.ENDED]
        return Leading(election, bool(jobs), report.process.host_pid)
    best = min(candidacies, key=lambda each: _rank(each.standing))
    seen = next((each for each in candidacies if each.held_by or each.address), best)
    return Leading(
        election,
        True,
        report.process.host_pid,
        leads=best.standing in grounds,
        standing=best.standing,
        token=best.token,
        remaining=best.remaining,
        holder=seen.held_by,
        address=seen.address,
    )


def _rank(standing: Standing | None) -> int:
    return len(Standing) if standing is None else list(Standing).index(standing)
