"""Elections: the wait, each change of the leadership, a blocked event loop."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager

from tideover.telemetry.events import event
from tideover.telemetry.scope import Attributes, meter, waiting

_stalls = meter.create_counter(
    "tideover.election.stalls",
    unit="{stall}",
    description="Times that the event loop was blocked beyond the deadline of what was led by it.",
)


_failures = meter.create_counter(
    "tideover.job.failures", unit="{failure}", description="Times that what ran while leading has raised."
)


def campaigning(namespace: str, election: str) -> AbstractContextManager[object]:
    """Record the wait to be elected; the span is an error only if the election can never be won."""
    attributes = {"db.namespace": namespace, "tideover.component": "election", "tideover.election": election}
    return waiting("tideover.election.campaign", attributes)


def leadership_changed(election: str, what: str, *, token: int, level: int, standing: str = "") -> None:
    """Report that this process leads, that its standing changed, or that it no longer leads.

    Args:
        standing: Empty where this process does not lead.
    """
    attributes: dict[str, str | bool | int | float] = {
        "tideover.component": "election",
        "tideover.election": election,
        "tideover.token": token,
        **({"tideover.standing": standing} if standing else {}),
    }
    text = f"{election!r}, token {token}: {what}"
    event("tideover.leadership.change", text, attributes, level=level)


def election_reset(election: str) -> None:
    """Report that a candidate sees another history of etcd than before."""
    attributes = {"tideover.component": "election", "tideover.election": election}
    text = f"{election!r}: etcd shows another history: it was restored, rebuilt or replaced"
    event("tideover.election.reset", text, attributes, level=logging.WARNING)


def peers_noted(what: str, *, level: int = logging.INFO, error: BaseException | None = None) -> None:
    """Report an event of the messages between candidates."""
    attributes = {"tideover.component": "election"}
    event("tideover.election.peers", what, attributes, level=level, error=error)


def loop_stalled(election: str, *, token: int, late: float, stack: str) -> None:
    """Report an event loop blocked for `late` seconds beyond a leader's deadline. Called by another thread."""
    _stalls.add(1, {"tideover.election": election})
    attributes: Attributes = {
        "tideover.component": "election",
        "tideover.election": election,
        "tideover.token": token,
    }
    text = (
        f"{election!r}, token {token}: the event loop is blocked, {late:.1f} s beyond the deadline; another "
        f"process may be elected while it is. It is here:"
    )
    event("tideover.election.stall", text, attributes, level=logging.ERROR, stack=stack)


def job_failed(election: str, error: BaseException, pause: float | None, *, why: str = "") -> None:
    """Count and report a job that raised while leading, and so resigned.

    Args:
        pause: Seconds until this process is a candidate again; None for never.
        why: Why the job did not start; empty if the job started.
    """
    kind = type(error).__name__
    _failures.add(1, {"tideover.election": election, "error.type": kind})
    attributes: Attributes = {
        "tideover.component": "election",
        "tideover.election": election,
        "error.type": kind,
    }
    again = "" if pause is None else f"; this process is a candidate again in {pause:.1f} s"
    text = f"this process {why}{again}" if why else f"the job of {election!r} has failed{again}"
    event("tideover.job.failed", text, attributes, level=logging.ERROR, about=f"{election} {kind}", error=error)


def job_ended(election: str) -> None:
    """Report that a job returned while leading."""
    attributes: Attributes = {"tideover.component": "election", "tideover.election": election}
    text = f"the job of {election!r} has returned, and does not run here again"
    event("tideover.job.ended", text, attributes)
