"""The state of each part of each component, for people and for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from tideover.coordinator.rules.situation import takes_writes
from tideover.records import UnknownAge
from tideover.shown import shown
from tideover.status import (
    ElectionStatus,
    LockStatus,
    PrefixStatus,
    RegistrationStatus,
    ServiceStatus,
    StatusReport,
)
from tideover.status.statements import age_in_words
from tideover.types import (
    Diagnosis,
    HealthState,
    JobState,
    LockMode,
    RegistrationState,
    Source,
    Standing,
)


class Level(StrEnum):
    """How well a part works: from etcd (PASS), from another source or with limits (WARN), or not (FAIL)."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


_ORDER = [Level.FAIL, Level.WARN, Level.PASS]


@dataclass(frozen=True, slots=True)
class Check:
    """The state of one part of a component.

    Attributes:
        component: The component: `etcd`, `config`, `discovery`, `election`, `job`, `lock` or `registration`.
        since: Since when; None if that is not known.
        source: The rung that its answers come from; None where there is none.
        age: Seconds since the last proof of sync; None where there is none.
    """

    component: str
    name: str
    level: Level
    state: str
    since: datetime | None = None
    source: Source | None = None
    age: UnknownAge | float | None = None
    error: str | None = None
    holder: str | None = None
    token: int | None = None
    outage_id: str = ""

    @property
    def line(self) -> str:
        """The check in one line, for people."""
        parts = [f"{self.level} {self.component}", shown(self.name), shown(self.state)]
        if self.age is not None and self.source is not Source.LIVE:
            parts.append(age_in_words(self.age))
        if self.since is not None:
            parts.append(f"since {self.since:%Y-%m-%dT%H:%M:%SZ}")
        if self.holder is not None:
            parts.append(f"held by {shown(self.holder)}")
        if self.error is not None:
            parts.append(f"({shown(self.error)})")
        return " ".join(filter(None, parts))


def degraded(report: StatusReport) -> bool:
    """Return whether answers may come from another source than etcd."""
    return report.state is not HealthState.AVAILABLE


def checks(report: StatusReport) -> list[Check]:
    """Return the state of each part of each component, the worst of a component first."""
    now = report.since + timedelta(seconds=report.seconds)

    def since(seconds: float) -> datetime:
        return now - timedelta(seconds=seconds)

    etcd = Check(
        "etcd",
        "",
        Level.PASS if report.diagnosis is Diagnosis.HEALTHY else Level.WARN,
        report.state,
        report.since,
        error=None if report.diagnosis is Diagnosis.HEALTHY else report.diagnosis.value,
    )
    jobs = [
        Check(
            "job",
            job.name,
            Level.WARN if job.state is JobState.PAUSED else Level.PASS,
            job.state,
            since(job.seconds),
            error=job.error,
        )
        for job in report.jobs
    ]
    obtainable = "obtainable" if takes_writes(report) else "refused"
    found = [
        etcd,
        *_worst_first(map(_config, report.config)),
        *_worst_first(map(_discovery, report.services)),
        *_worst_first(map(_election, report.elections)),
        *_worst_first(jobs),
        Check("lock", "", etcd.level, obtainable, error=report.lock_error),
        *_worst_first(_lock(lock, since) for lock in report.locks),
        *_worst_first(_registration(each, since) for each in report.registrations),
    ]
    return [check if check.level is Level.PASS else replace(check, outage_id=report.outage_id) for check in found]


def _worst_first(found: Iterable[Check]) -> Sequence[Check]:
    # Then held before waited for, so that the cut leaves out fewer of the held.
    return sorted(found, key=lambda check: (_ORDER.index(check.level), check.token is None))


def _config(prefix: PrefixStatus) -> Check:
    if prefix.denied:
        return Check("config", prefix.prefix, Level.FAIL, "denied", error=prefix.error)
    live = prefix.source is Source.LIVE
    return Check(
        "config",
        prefix.prefix,
        Level.PASS if live else Level.WARN,
        prefix.source or "unknown",
        source=prefix.source,
        age=prefix.age,
        error=None if live else prefix.error,
    )


def _discovery(service: ServiceStatus) -> Check:
    if service.denied:
        return Check("discovery", service.name, Level.FAIL, "denied", error=service.error)
    live = service.source is Source.LIVE
    return Check(
        "discovery",
        service.name,
        Level.PASS if live and service.endpoints > service.drained else Level.WARN,
        f"{service.endpoints} listed",
        source=service.source,
        age=service.age,
        error=service.error,
    )


def _election(election: ElectionStatus) -> Check:
    if election.overdue is not None:
        level = Level.FAIL
    elif election.standing is Standing.HELD or (election.standing is None and election.error is None):
        level = Level.PASS
    else:
        level = Level.WARN
    return Check(
        "election",
        election.name,
        level,
        election.standing or "candidate",
        error=election.error,
        holder=election.held_by,
        token=election.token,
    )


def _lock(lock: LockStatus, since: Callable[[float], datetime]) -> Check:
    level = Level.PASS if lock.mode is LockMode.DISTRIBUTED else Level.WARN
    return Check("lock", lock.name, level, lock.mode, since(lock.seconds), token=lock.token)


def _registration(each: RegistrationStatus, since: Callable[[float], datetime]) -> Check:
    level = Level.PASS if each.state is RegistrationState.REGISTERED else Level.WARN
    return Check(
        "registration", f"{each.service}/{each.instance}", level, each.state, since(each.seconds), error=each.error
    )
