"""The answers to probes: whether this process is alive, whether it is ready, and the document of `health`."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tideover.asgi.rules.checks import Check, Level, checks
from tideover.shown import shown
from tideover.status import StatusReport, duration
from tideover.types import Phase

# The most parts of a component, the worst first, so that the document stays below 64 KiB.
MOST = 20


def why_not_live(report: StatusReport) -> str:
    """Return what only a restart cures, in words, which never is etcd; else an empty text."""
    late = [each for each in report.elections if each.overdue is not None]
    return "; ".join(
        f"what ran while leading {shown(each.name)!r} has lost that, and still runs {duration(each.overdue or 0)} "
        "later than it may"
        for each in late[:MOST]
    )


def why_not_ready(report: StatusReport) -> str:
    """Return why requests should go to other processes, in words, which never is etcd; else an empty text."""
    return {
        Phase.NEW: "the coordinator has not been entered",
        Phase.STARTING: "it starts: etcd and the disk have yet to be read",
        Phase.RUNNING: "",
        Phase.ENDING: "it shuts down",
        Phase.CLOSED: "the coordinator is closed",
    }[report.phase]


def overall(report: StatusReport, checks: Iterable[Check]) -> Level:
    """Return how well the process is as a whole: `FAIL` only if it is not ready, or not live."""
    if why_not_ready(report) or why_not_live(report):
        return Level.FAIL
    return Level.WARN if any(check.level is not Level.PASS for check in checks) else Level.PASS


def document(report: StatusReport) -> dict[str, object]:
    """Return the document of `health`: at most `MOST` parts of a component, and how many were left out.

    The names follow draft-inadarei-api-health-check-06 where the draft has them.
    """
    found = checks(report)
    level = overall(report, found)
    told: dict[str, list[dict[str, object]]] = {}
    omitted: dict[str, int] = {}
    for check in found:
        parts = told.setdefault(check.component, [])
        if len(parts) < MOST:
            parts.append(_as_json(check))
        else:
            omitted[check.component] = omitted.get(check.component, 0) + 1
    identity = report.identity
    why = why_not_ready(report) or why_not_live(report)
    return {
        "status": level,
        "version": report.process.version,
        "serviceId": report.namespace,
        "output": why or report.sentence,
        "process": report.process.host_pid,
        "phase": report.phase,
        "state": report.state,
        "diagnosis": report.diagnosis,
        "since": report.since.isoformat(),
        "outage_id": report.outage_id or None,
        "cluster_id": identity.cluster_id,
        "epoch": identity.epoch,
        "revision": identity.revision,
        "checks": told,
        "omitted": omitted,
    }


def _as_json(check: Check) -> dict[str, object]:
    """Return a check's JSON object, without empty members."""
    fields = {
        "componentId": shown(check.name),
        "status": check.level,
        "observedValue": check.state,
        "since": check.since.isoformat() if check.since is not None else None,
        "source": check.source,
        "output": shown(check.error) if check.error else None,
        "holder": shown(check.holder) if check.holder else None,
        "token": check.token,
        "outage_id": check.outage_id,
    }
    told: dict[str, object] = {name: value for name, value in fields.items() if value is not None and value != ""}
    if check.age is not None:
        told["age"] = check.age if math.isfinite(check.age) else None
    return told
