"""Reports of facts, as rules are handed them: an etcd that is well, or away, and what is changed of that."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tideover.status import (
    ElectionStatus,
    EndpointStatus,
    HistoryStatus,
    IdentityStatus,
    LimitStatus,
    LockStatus,
    MemberStatus,
    OutageStatus,
    PrefixStatus,
    ProcessStatus,
    QuorumStatus,
    RegistrationStatus,
    ServiceStatus,
    SessionStatus,
    Statement,
    StatusReport,
    TransitionStatus,
)
from tideover.types import Diagnosis, HealthState, LockMode, RegistrationState, SessionState, Source, Standing

AT = datetime(2026, 3, 14, 3, 12, 7, tzinfo=UTC)
AWAY = 133.0
OUTAGE = OutageStatus(
    outage_id="8c1e5a90d2f74b36",
    began=AT - timedelta(seconds=AWAY),
    seconds=AWAY,
    ended=None,
    diagnosis=Diagnosis.QUORUM_LOST,
    why="1 of 3 members answered",
    trace_query='{span.tideover.outage_id="8c1e5a90d2f74b36"}',
)


def stretch(state: HealthState, ago: float, seconds: float, **changes: Any) -> TransitionStatus:
    """Return a time in one state, which ends now if it has lasted since it began."""
    usual = TransitionStatus(
        at=AT - timedelta(seconds=ago),
        ago=ago,
        state=state,
        diagnosis=Diagnosis.HEALTHY if state is HealthState.AVAILABLE else Diagnosis.QUORUM_LOST,
        why="",
        seconds=seconds,
        present=ago == seconds,
        outage_id="" if state is HealthState.AVAILABLE else f"outage of {ago:g}",
    )
    return replace(usual, **changes)


def history(*transitions: TransitionStatus, recorded: float = 28_800.0, **changes: Any) -> HistoryStatus:
    """Return what has happened, the newest first, without words."""
    unsaid = Statement("")
    start = AT - timedelta(seconds=recorded)
    usual = HistoryStatus(3600.0, start, recorded, transitions, (), 0, 0.0, 0, unsaid, unsaid)
    return replace(usual, **changes)


def facts(**changes: Any) -> StatusReport:
    """Return the facts of a process that uses nothing, at an etcd that is well."""
    usual = StatusReport(
        sentence="",
        state=HealthState.AVAILABLE,
        diagnosis=Diagnosis.HEALTHY,
        since=AT - timedelta(seconds=1009),
        seconds=1009.0,
        next_probe=3.1,
        outage_id="",
        namespace="/shop",
        profile="availability",
        pid=48213,
        members=(
            MemberStatus("10.0.4.11:2379", active=True, answers=True, error=None, name="etcd-a"),
            MemberStatus("10.0.4.12:2379", active=False, answers=None, error=None, name="etcd-b"),
            MemberStatus("10.0.4.13:2379", active=False, answers=None, error=None, name="etcd-c"),
        ),
        identity=IdentityStatus("cdf818194e3a8c32", 12, 48_196, 3, True, 0, None, None, (), None),
        config=(),
        rejected=(),
        restarts=0,
        at=AT,
        headline=Statement(""),
        why="",
        announcement="",
        quorum=QuorumStatus(3, 3, 2),
        process=ProcessStatus(48213, "shop-2", "shop-2:48213", AT, 28_800.0, "1.0", "3.13.1"),
        history=history(stretch(HealthState.AVAILABLE, 1009, 1009)),
    )
    return replace(usual, **changes)


def away(diagnosis: Diagnosis = Diagnosis.QUORUM_LOST, **changes: Any) -> StatusReport:
    """Return the facts of a process whose etcd has been away for a while."""
    cut_off = diagnosis is Diagnosis.CUT_OFF
    usual = facts(
        state=HealthState.UNAVAILABLE if cut_off else HealthState.DEGRADED,
        diagnosis=diagnosis,
        since=AT - timedelta(seconds=AWAY),
        seconds=AWAY,
        next_probe=0.4,
        outage_id=OUTAGE.outage_id,
        outage=OUTAGE,
        quorum=QuorumStatus(3, 0 if cut_off else 1, 2),
        members=(
            MemberStatus("10.0.4.11:2379", True, not cut_off, "no leader", name="etcd-a"),
            MemberStatus("10.0.4.12:2379", False, False, "connection refused", name="etcd-b"),
            MemberStatus("10.0.4.13:2379", False, False, "connection refused", name="etcd-c"),
        ),
    )
    return replace(usual, **changes)


def prefix(name: str, source: Source | None, age: float = 0.5, keys: int = 3, **changes: Any) -> PrefixStatus:
    """Return a followed prefix."""
    usual = PrefixStatus(name, source, 48_000, age, keys, 0, 3, None, None, etcd_prefix=f"/shop/config/{name}")
    return replace(usual, **changes)


def limit(name: str, max_stale: float, age: float, on_stale: str = "raise", keys: int = 3) -> LimitStatus:
    """Return a limit and how old what it limits is."""
    return LimitStatus(name, max_stale, on_stale, age, age > max_stale, keys, "")


def election(name: str, standing: Standing | None, **changes: Any) -> ElectionStatus:
    """Return a candidacy; one that leads has renewed its record 3 s ago."""
    leads = standing is not None
    usual = ElectionStatus(
        name=name,
        standing=standing,
        on_outage="stay",
        token=47_911 if leads else None,
        remaining=12.0 if leads else None,
        holder=None,
        error=None,
        renewed_ago=3.0 if leads else None,
        seen_ago=3.0,
    )
    return replace(usual, **changes)


def lock(name: str, mode: LockMode, seconds: float = 4.0, waiting: int = 0) -> LockStatus:
    """Return a lock that is held here."""
    token = 3_158_507_520 if mode is LockMode.DISTRIBUTED else None
    return LockStatus(name, mode, token, seconds, waiting, mode_seconds=seconds)


def lock_session(proven_ago: float, **changes: Any) -> SessionStatus:
    """Return the session of the locks."""
    usual = SessionStatus("694d", 15, SessionState.ALIVE, 13.1, (), "10.0.4.11:2379", proven_ago, None)
    return replace(usual, component="lock", **changes)


def service(
    name: str, source: Source | None, endpoints: int = 3, age: float = 0.5, **changes: Any
) -> ServiceStatus:
    """Return a service that is followed."""
    listed = tuple(
        EndpointStatus(f"i{n}", f"http://10.0.8.{n}:8000", 1.0, "picked", False, None) for n in range(2)
    )
    usual = ServiceStatus(name, source, 48_000, age, endpoints, 0, 0, 0, (), None, None, listed=listed)
    return replace(usual, **changes)


def registration(name: str, state: RegistrationState, error: str | None = None) -> RegistrationStatus:
    """Return something that is registered here, or is to be."""
    return RegistrationStatus(name, "10.0.7.21:8000", "a1", "http://10.0.7.21:8000", 1.0, state, 60.0, 0, error)


def said(statements: tuple[Statement, ...]) -> list[str]:
    """Return statements as text."""
    return [str(statement) for statement in statements]


NEVER = math.inf
