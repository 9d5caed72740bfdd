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
    """Report that this process leads, with another standing than before, or no longer, with none."""
    led = {"tideover.standing": standing} if standing else {}
    attributes: Attributes = {"tideover.election": election, "tideover.token": token, **led}
    text = f"{election!r}, token {token}: {what}"
    event("tideover.leadership.change", text, "election", attributes, level=level)


def election_reset(election: str) -> None:
    """Report that a candidate sees another history of etcd than before."""
    text = f"{election!r}: etcd shows another history: it was restored, rebuilt or replaced"
    event("tideover.election.reset", text, "election", {"tideover.election": election}, level=logging.WARNING)


def peers_noted(what: str, *, level: int = logging.INFO, error: BaseException | None = None) -> None:
    """Report an event of the messages between candidates."""
    event("tideover.election.peers", what, "election", level=level, error=error)


def loop_stalled(election: str, *, token: int, late: float, stack: str) -> None:
    """Report an event loop blocked for `late` seconds beyond a leader's deadline. Called by another thread."""
    _stalls.add(1, {"tideover.election": election})
    text = (
        f"{election!r}, token {token}: the event loop is blocked, {late:.1f} s beyond the deadline; another "
        f"process may be elected while it is. It is here:"
    )
    level = logging.ERROR
    attributes: Attributes = {"tideover.election": election, "tideover.token": token}
    event("tideover.election.stall", text, "election", attributes, level=level, stack=stack)


def job_failed(election: str, error: BaseException, pause: float | None, *, why: str = "") -> None:
    """Count and report a job that raised while leading, and so resigned.

    Args:
        pause: Seconds until this process is a candidate again; None for never.
        why: Why the job did not start; empty if the job started.
    """
    about = {"tideover.election": election, "error.type": type(error).__name__}
    _failures.add(1, about)
    again = "" if pause is None else f"; this process is a candidate again in {pause:.1f} s"
    text = f"this process {why}{again}" if why else f"the job of {election!r} has failed{again}"
    subject = " ".join(about.values())
    event("tideover.job.failed", text, "election", about, level=logging.ERROR, about=subject, error=error)


def job_ended(election: str) -> None:
    """Report that a job returned while leading."""
    text = f"the job of {election!r} has returned, and does not run here again"
    event("tideover.job.ended", text, "election", {"tideover.election": election})
