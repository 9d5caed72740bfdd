"""The members, etcd's identity, and this process."""

from __future__ import annotations

import math

from tideover.asgi.rules.checks import degraded
from tideover.asgi.rules.health import why_not_live, why_not_ready
from tideover.asgi.rules.leading import GROUNDS, leading
from tideover.asgi.status_page.ages import Ages
from tideover.asgi.status_page.words import Facts, cut, day, notes
from tideover.coordinator.rules.words import counted
from tideover.status import JobStatus, MemberStatus, SessionStatus, StatusReport
from tideover.types import HealthState

# The most elections whose probes are listed.
_PROBES = 5


def members(report: StatusReport, ages: Ages) -> Facts:
    """Return a row for each member, and which history etcd is in."""
    rows, more = cut(report.members)
    quorum, identity = report.quorum, report.identity
    note = f"{quorum.answering} of {quorum.members} answer"
    if report.state is not HealthState.AVAILABLE:
        note += f", {quorum.needed} make a quorum"
    known = "" if identity.reached else ", from the snapshot"
    recorded = ", recorded in etcd" if identity.recorded else ", this process's own count"
    return {
        "note": note,
        "rows": [_member(each) for each in rows],
        "more": more,
        "alerts": notes(report, ages, "members"),
        "cluster": identity.cluster_id or "",
        "epoch": f"{identity.epoch}{known or recorded}",
        "revision": f"{identity.revision:,}{known}",
        "raft_term": f"{identity.raft_term:,}{known}",
        "resets": f"{counted(identity.resets, 'reset')} seen by this process: {identity.last_reset}"
        if identity.last_reset
        else "none seen by this process",
        "reset_ago": None if identity.last_reset_ago is None else ages(identity.last_reset_ago, "ago"),
    }


def _member(member: MemberStatus) -> Facts:
    if member.answers:
        tone, answers = "ok", "answers"
    elif member.answers is None:
        tone, answers = "none", "not used" if member.error else "not asked"
    else:
        tone, answers = "bad", "no answer"
    where = member.endpoint or "not started"
    proxy = ", a grpc-proxy" if member.proxy else ""
    return {
        "name": member.name or where,
        "where": f"{where if member.name else 'name not known'}, {member.origin}{proxy}",
        "tone": tone,
        "answers": answers,
        "active": member.active,
        "error": member.error or "",
    }


def process(report: StatusReport, ages: Ages) -> Facts:
    """Return the process, its snapshots, sessions, jobs and probes."""
    itself = report.process
    sessions, sessions_more = cut(report.sessions, 10)
    jobs, _ = cut(report.jobs, 10)
    stall = report.last_stall
    return {
        "pid": str(itself.pid),
        "host": itself.host,
        "started": day(itself.started, report.at),
        "running": ages(itself.seconds, "ago"),
        "snapshot": _snapshot(report, ages),
        "sessions": [_session(each, ages) for each in sessions],
        "sessions_more": sessions_more,
        "jobs": [_job(each, ages) for each in jobs],
        "probes": _probes(report),
        "stalls": f"blocked past a deadline {counted(report.stalls, 'time')}"
        if report.stalls
        else "never blocked past a deadline",
        "stall_ago": None if stall is None else ages(stall.ago, "ago"),
        "restarts": f"{counted(report.restarts, 'restart')} of background tasks"
        if report.restarts
        else "none has failed",
        "software": f"tideover {itself.version}, Python {itself.python}",
        "alerts": notes(report, ages, "process"),
    }


def _probes(report: StatusReport) -> list[Facts]:
    """Return the health endpoints' answers to load balancers, without further requirements."""
    ready, live = not why_not_ready(report), not why_not_live(report)
    named = [each.name for each in report.elections]
    led = [(f"leader/{name}", leading(report, name, GROUNDS["confirmed"]).leads) for name in dict.fromkeys(named)]
    return [
        {"name": name, "status": 200 if well else 503, "word": word}
        for name, well, word in (
            ("readyz", ready, "degraded" if ready and degraded(report) else ""),
            ("livez", live, ""),
            *((name, leads, "") for name, leads in led[:_PROBES]),
        )
    ]


def _snapshot(report: StatusReport, ages: Ages) -> Facts:
    kept = report.snapshots
    if not kept:
        return {"text": "none is kept", "age": None, "error": ""}
    config, services = ([each for each in kept if each.component == kind] for kind in ("config", "discovery"))
    parts = [counted(sum(each.keys for each in config), "key")] if config else []
    parts += [counted(sum(each.keys for each in services), "endpoint")] if services else []
    oldest = max(each.age for each in kept)
    error = next((each.error for each in kept if each.error), "")
    return {
        "text": f"{', '.join(parts)}, proven",
        "age": ages(oldest, "ago") if math.isfinite(oldest) else None,
        "error": error,
    }


_SESSIONS = {"lock": "locks", "discovery": "registrations"}


def _session(session: SessionStatus, ages: Ages) -> Facts:
    return {
        "id": session.lease_id,
        "state": f"{_SESSIONS.get(session.component, 'opened here')}, {session.state}",
        "left": ages(session.seconds_left, "left"),
        "holding": counted(len(session.keys), "key"),
        "error": session.error or "",
    }


def _job(job: JobStatus, ages: Ages) -> Facts:
    return {
        "name": job.name,
        "state": str(job.state),
        "lasting": ages(job.seconds),
        "error": job.error or "",
    }
