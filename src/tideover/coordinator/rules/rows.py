"""How each primitive stands: one row each, with the same columns for all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from tideover.coordinator.rules.situation import (
    Followed,
    is_away,
    local,
    lock_sessions,
    may_be_local,
    oldest,
    takes_writes,
    tightest,
    trouble_of,
    worst_source,
)
from tideover.coordinator.rules.words import counted, span
from tideover.shown import shown
from tideover.status import ElectionStatus, PrimitiveStatus, StatusReport
from tideover.types import Component, HealthState, Source, Standing

_ORIGINS = {Standing.HELD: "record", Standing.CONFIRMED: "peers", Standing.UNCONFIRMED: "own record"}
_GROUNDS = (Standing.UNCONFIRMED, Standing.CONFIRMED, Standing.HELD)


@dataclass(frozen=True, slots=True)
class Stand:
    """Since when a primitive has been in a state, as far as reports have seen."""

    state: HealthState | None
    since: float
    seen_at: float


Stands = Mapping[Component, Stand]


class _Row(NamedTuple):
    """What is told of a primitive but for since when, in the words of `PrimitiveStatus`."""

    component: Component
    what: str
    state: HealthState | None
    source: str | None
    error: str | None
    age: float | None = None
    limit: float | None = None
    limit_of: str = ""
    over: bool = False
    limit_words: str = ""


def rows(
    report: StatusReport, before: Stands, *, now: float, live_limit: float
) -> tuple[tuple[PrimitiveStatus, ...], Stands]:
    """Return the rows, and since when each is in its state; `before` is what the last report returned of that.

    No record says when a primitive changes its state. Most change with the health of etcd, whose times are
    known; content that ceases to be live for another reason says by its age when that was; and whatever was seen
    in another state has changed since. Content is live for `live_limit` seconds after its last proof.
    """
    # No state of a primitive has lasted from before the outage, or from before its end.
    floor = now - (report.seconds if report.outage is None else report.outage.seconds)
    found, stands = [], dict[Component, Stand]()
    for row in (_config(report), _discovery(report), _elections(report), _locks(report)):
        known = before.get(row.component)
        if known is not None and known.state is row.state:
            since = known.since
        else:
            since = max(_began(report, row, floor, now, live_limit), -math.inf if known is None else known.seen_at)
        stands[row.component] = stand = Stand(row.state, min(max(since, floor), now), now)
        seconds = now - stand.since
        at = report.at - timedelta(seconds=seconds)
        found.append(PrimitiveStatus(**row._asdict(), since=at, seconds=seconds, next_probe=report.next_probe))
    return tuple(found), stands


def _began(report: StatusReport, row: _Row, floor: float, now: float, live_limit: float) -> float:
    """Return when a state that was not seen before has begun, going by what causes it."""
    if is_away(report) or row.state is not HealthState.DEGRADED or row.component not in ("config", "discovery"):
        return floor
    age = row.age if row.age is not None and math.isfinite(row.age) else 0.0
    return now - max(0.0, age - live_limit)


def _config(report: StatusReport) -> _Row:
    state, source = _state_of(report, report.config), worst_source(report.config)
    keys = counted(report.keys, "key")
    if report.keys_served < report.keys:
        what = f"{report.keys_served:,} of {keys} served"
    elif state is HealthState.AVAILABLE:
        what = f"{keys}, pushed by a watch"
    else:
        what = f"{keys}, reads only" if report.config else "nothing is followed"
    if report.keys and not report.keys_served:
        state = HealthState.UNAVAILABLE
    limit = tightest(report.limits)
    error = next((prefix.error for prefix in report.config if prefix.error), None)
    row = _row(report, "config", what, state, source and source.value, error)
    if source is None:
        return row
    row = row._replace(age=oldest(prefix for prefix in report.config if prefix.source is not None))
    if limit is None:
        return row._replace(limit_words="no limit")
    how = "over" if limit.over else "limit" if source is Source.LIVE else "of"
    words = f"{how} {span(limit.max_stale)}{f', {limit.prefix}' if limit.prefix else ''}"
    return row._replace(
        age=limit.age if limit.over else row.age,
        limit=limit.max_stale,
        limit_of=limit.prefix,
        over=limit.over,
        limit_words=words,
    )


def _discovery(report: StatusReport) -> _Row:
    services, source = report.services, worst_source(report.services)
    state = _state_of(report, services)
    endpoints = counted(sum(service.endpoints for service in services), "endpoint")
    what = f"{counted(len(services), 'service')}, {'list frozen' if is_away(report) else endpoints}"
    error = next((service.error for service in services if service.error), None)
    row = _row(
        report, "discovery", what if services else "no service is followed", state, source and source.value, error
    )
    if source is None:
        return row
    age = oldest(service for service in services if service.source is not None)
    return row._replace(age=age, limit_words="no limit")


def _elections(report: StatusReport) -> _Row:
    elections = report.elections
    led = [election for election in elections if election.standing is not None]
    ground = next((ground for ground in _GROUNDS if any(e.standing is ground for e in led)), None)
    if not elections:
        return _row(report, "election", "no candidacies", None, None, None)
    if is_away(report):
        state = HealthState.DEGRADED if led else HealthState.UNAVAILABLE
    else:
        well = takes_writes(report) and ground in (None, Standing.HELD)
        state = HealthState.AVAILABLE if well else HealthState.DEGRADED
    if ground is Standing.HELD or ground is None:
        what = f"{counted(len(elections), 'candidacy', 'candidacies')}, {len(led)} led here"
    else:
        what = f"{len(led)} led here, {ground.name}"
    seen = [election.seen_ago for election in elections if election.seen_ago is not None]
    source = _ORIGINS[ground] if ground is not None else "record" if seen and not is_away(report) else None
    error = next((election.error for election in elections if election.error), None)
    row = _row(report, "election", what, state, source, error)
    if led:
        nearest = min(led, key=_left)
        return _renewed(row, nearest.renewed_ago, nearest.ttl, over=_left(nearest) <= 0)
    if not seen:
        return row._replace(limit_words="never read by this process")
    return row._replace(age=max(seen), limit_words="not led here")


def _locks(report: StatusReport) -> _Row:
    turned, held, waits = local(report.locks), report.locks, len(report.lock_waits)
    possible = bool(held) or may_be_local(report)
    if is_away(report):
        state = HealthState.DEGRADED if possible else HealthState.UNAVAILABLE
        source = "host lock" if turned or may_be_local(report) else "lease" if held else None
    else:
        state = HealthState.AVAILABLE if takes_writes(report) and not turned else HealthState.DEGRADED
        source = "host lock" if turned else "lease"
    what = f"{len(turned)} LOCAL" if turned else f"{len(held)} held here"
    sessions = lock_sessions(report)
    error = report.lock_error or next((session.error for session in sessions if session.error), None)
    row = _row(report, "lock", f"{what}, {waits} waited for", state, source, error)
    if not sessions:
        later = "opened when etcd is back" if is_away(report) else "opened when it is needed"
        return row._replace(limit_words=f"no session: it is {later}")
    nearest = min(sessions, key=lambda session: session.seconds_left)
    return _renewed(row, nearest.last_proof, nearest.ttl, over=nearest.seconds_left <= 0)


def _row(
    report: StatusReport,
    component: Component,
    what: str,
    state: HealthState | None,
    source: str | None,
    error: str | None,
) -> _Row:
    trouble = trouble_of(report.members) if is_away(report) else None
    # What is read is as far as the members are; what is renewed has its own errors.
    error = (trouble or error) if component in ("config", "discovery") else (error or trouble)
    return _Row(component, what, state, source, None if error is None else shown(error))


def _state_of(report: StatusReport, followed: Sequence[Followed]) -> HealthState | None:
    if not followed:
        return None
    if all(each.source is None or each.denied for each in followed):
        return HealthState.UNAVAILABLE
    live = all(each.source is Source.LIVE and not each.denied for each in followed)
    return HealthState.AVAILABLE if live and takes_writes(report) else HealthState.DEGRADED


def _left(election: ElectionStatus) -> float:
    return math.inf if election.remaining is None else election.remaining


def _renewed(row: _Row, age: float | None, ttl: float, *, over: bool) -> _Row:
    words = f"past its deadline, ttl {ttl:g} s" if over else f"renewed every {ttl / 3:g} s, ttl {ttl:g} s"
    return row._replace(age=age, limit=float(ttl), over=over, limit_words=words)
