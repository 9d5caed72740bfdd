"""What other rules ask of a report: whether there is an outage, who answers, and what is in the way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from tideover.coordinator.rules.words import plain
from tideover.status import (
    ElectionStatus,
    LimitStatus,
    LockStatus,
    MemberStatus,
    PrefixStatus,
    RejectedValue,
    ServiceStatus,
    SessionStatus,
    StatusReport,
)
from tideover.types import Diagnosis, HealthState, LockMode, Source

# Why etcd takes no writes although it answers, and what writing raises.
READ_ONLY = {Diagnosis.NO_SPACE: "SpaceExhausted", Diagnosis.CORRUPT: "DataCorrupt"}

_LADDER = (None, Source.LIVE, Source.MEMBER, Source.MEMORY, Source.DISK)


class Followed(Protocol):
    """A prefix or a service."""

    @property
    def source(self) -> Source | None:
        """The rung it stands on."""
        ...

    @property
    def age(self) -> float:
        """Seconds since it was last proven."""
        ...

    @property
    def denied(self) -> bool:
        """Whether it may not be read."""
        ...


def is_away(report: StatusReport) -> bool:
    """Whether an outage is declared, or no member has been asked yet."""
    return report.state is not HealthState.AVAILABLE


def takes_writes(report: StatusReport) -> bool:
    """Whether etcd takes writes, as far as is known."""
    return not is_away(report) and report.diagnosis not in READ_ONLY


def readable(followed: Iterable[PrefixStatus]) -> tuple[PrefixStatus, ...]:
    """Return the prefixes of which something is known, and may be read."""
    return tuple(each for each in followed if each.source is not None and not each.denied)


def usable(services: Iterable[ServiceStatus]) -> tuple[ServiceStatus, ...]:
    """Return the services of which something is known, and may be read."""
    return tuple(each for each in services if each.source is not None and not each.denied)


def worst_source(followed: Iterable[Followed]) -> Source | None:
    """Return the lowest rung that any stands on, of those that stand on one; None if none does."""
    return max((each.source for each in followed), key=_LADDER.index, default=None)


def oldest(followed: Iterable[Followed]) -> float:
    """Return the largest age in seconds; 0 if there is none."""
    return max((float(each.age) for each in followed), default=0.0)


def tightest(limits: Sequence[LimitStatus]) -> LimitStatus | None:
    """Return the limit that is nearest, or farthest behind; None if there is none."""
    return max(limits, key=lambda limit: (limit.age / limit.max_stale, -limit.max_stale), default=None)


def refusing(limits: Iterable[LimitStatus]) -> tuple[LimitStatus, ...]:
    """Return the limits beyond which reading raises, and which are passed."""
    return tuple(limit for limit in limits if limit.over and limit.on_stale == "raise")


def refused_config(report: StatusReport) -> tuple[RejectedValue, ...]:
    """Return the refused values of the configuration; the others are under keys that users do not name."""
    return tuple(value for value in report.rejected if value.key != value.etcd_key)


def local(locks: Iterable[LockStatus]) -> tuple[LockStatus, ...]:
    """Return the locks that are held LOCAL."""
    return tuple(lock for lock in locks if lock.mode is LockMode.LOCAL)


def lock_sessions(report: StatusReport) -> tuple[SessionStatus, ...]:
    """Return the sessions of locks."""
    return tuple(session for session in report.sessions if session.component == "lock")


def may_be_local(report: StatusReport) -> bool:
    """Whether a lock without a word of its own becomes LOCAL in an outage, and can."""
    return report.profile == "availability" and report.host_locks


def led_last_by(report: StatusReport, election: ElectionStatus) -> str:
    """Return who led an election that is not led here, when that was last seen; empty if none was seen."""
    holder = plain((election.held_by or "").partition(" since ")[0])
    return "this process" if report.process.is_named(holder) else holder


def survivor(report: StatusReport) -> str:
    """Return the name of the member that is asked without a quorum."""
    active = next((member for member in report.members if member.active), None)
    return "a member" if active is None else plain(active.name or active.endpoint)


def trouble_of(members: Sequence[MemberStatus]) -> str | None:
    """Return what most of the members that are asked answer with, and which; None if none has an error."""
    said: dict[str, list[str]] = {}
    for member in members:
        if member.error and member.answers is not None:
            said.setdefault(plain(member.error), []).append(plain(member.name or member.endpoint))
    if not said:
        return None
    error, who = max(said.items(), key=lambda item: len(item[1]))
    return f"{error} ({who[0] if len(who) == 1 else f'{len(who)} members'})"
