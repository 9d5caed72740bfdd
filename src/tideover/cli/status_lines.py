"""The output of `tideover status`: the coordinator's report, and further answers of etcd."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from tideover.cli.printer import Styled
from tideover.cli.words import counted
from tideover.cluster.rules.health import answering, sentence
from tideover.coordinator.coordinator import Coordinator, life_of
from tideover.coordinator.survey import Survey, survey
from tideover.errors import TideoverError
from tideover.shown import cut, shown
from tideover.status import (
    LONGEST,
    MOST,
    IdentityStatus,
    LockConflictStatus,
    MemberStatus,
    PrefixStatus,
    RegistrationStatus,
    StatusReport,
    duration,
)
from tideover.status.statements import age_in_words
from tideover.types import HealthState

COLOURS = {HealthState.AVAILABLE: "green", HealthState.DEGRADED: "yellow", HealthState.UNAVAILABLE: "red"}
# How many services are shown.
_MOST_SERVICES = 20
# The lists that are bounded, as lines are headed.
_LEFT_OUT = {"rejected": "refused   ", "lock_conflicts": "conflict  "}


@dataclass(frozen=True, slots=True)
class Asked:
    """Further answers of etcd; None where there is none."""

    conflicts: tuple[LockConflictStatus, ...] | None = None
    foreign: Survey | None = None
    services: Mapping[str, int] | None = None

    def report(self, seen: StatusReport) -> StatusReport:
        """Return the coordinator's report with these answers."""
        if self.conflicts is not None:
            seen = replace(seen, lock_conflicts=self.conflicts)
        if self.foreign is not None:
            more = {**seen.more, "rejected": self.foreign.more}
            seen = replace(seen, rejected=self.foreign.named, more=more)
        return seen

    def to_dict(self, seen: StatusReport) -> dict[str, object]:
        """Return the report as JSON."""
        report, counts = self.report(seen), self.services or {}
        more = {**report.more, **({"registered": len(counts) - MOST} if len(counts) > MOST else {})}
        named = {cut(name, LONGEST): count for name, count in list(counts.items())[:MOST]}
        return {**replace(report, more=more).to_dict(), "registered": named}

    def lines(self, seen: StatusReport) -> Iterator[Sequence[str | Styled]]:
        """Return the report as lines."""
        first, *rest = _lines(self.report(seen))
        yield (Styled(first, COLOURS[seen.state], bold=True),)
        yield from ((line,) for line in rest)
        yield from ((line,) for line in _service_lines(self.services or {}))


async def ask(tide: Coordinator, before: Asked) -> Asked:
    """Ask etcd; an answer that does not come stays as before."""
    if tide.health.state is not HealthState.AVAILABLE:
        return before
    with suppress(TideoverError):  # such as a user who may not read the ledger
        before = replace(before, conflicts=await tide.lock_conflicts())
    with suppress(TideoverError):
        before = replace(before, foreign=await survey(life_of(tide).parts.client))
    with suppress(TideoverError):
        before = replace(before, services=await tide.services())
    return before


def _lines(report: StatusReport) -> Iterator[str]:
    # Not the report's own sentence: that says for how long, and this process has only just begun to look.
    yield f"{sentence(report.diagnosis)}."
    yield ""
    yield f"state      {report.state}"
    if report.namespace:
        yield f"namespace  {report.namespace}"
    if report.identity.cluster_id:
        yield f"cluster    {_describe_cluster(report.identity)}"
    if report.state is not HealthState.AVAILABLE:
        # While all is well, the first good answer ends the asking, and the rest is not counted.
        yield f"quorum     {answering(report.quorum)}, {report.quorum.needed} make a quorum"
    for member in report.members:
        name = f"{shown(member.name)}  " if member.name else ""
        yield f"member     {shown(member.endpoint) or '-'}  {name}{member.origin}  {_describe_member(member)}"
    for prefix in report.config:
        yield f"config     {_describe_prefix(prefix)}"
    for untold in report.untold:
        yield f"untold     {untold}"
    for rejected in report.rejected:
        yield f"refused    {shown(rejected.key)} at revision {rejected.revision}: {shown(rejected.reason)}"
    for registration in report.registrations:
        yield f"registered {registration.service} {registration.url}: {_describe_registration(registration)}"
    for conflict in report.lock_conflicts:
        yield f"conflict   {_describe_conflict(conflict)}"
    for name, count in report.more.items():
        if count:
            yield f"{_LEFT_OUT[name]} and {count} more"


def _service_lines(counts: Mapping[str, int]) -> Iterator[str]:
    for name, count in list(counts.items())[:_MOST_SERVICES]:
        yield f"service    {shown(name)}  {count} registered"
    if len(counts) > _MOST_SERVICES:
        yield f"services   {len(counts)} in all: see `tideover services`"


def _describe_member(member: MemberStatus) -> str:
    if member.answers:
        return ("in use" if member.active else "answers") + (", a grpc-proxy" if member.proxy else "")
    # While all is well, the first good answer ends the asking.
    if member.answers is None:
        return f"not used: {member.error}" if member.error else "not asked"
    return f"no answer: {member.error}" if member.error else "no answer"


def _describe_cluster(identity: IdentityStatus) -> str:
    epoch = f", epoch {identity.epoch}" if identity.epoch else ""
    since = "" if identity.last_reset is None else f", restored, rebuilt or replaced: {shown(identity.last_reset)}"
    return f"{identity.cluster_id}{epoch}, revision {identity.revision}{since}"


def _describe_registration(registration: RegistrationStatus) -> str:
    trouble = f"; {registration.error}" if registration.error else ""
    return f"{registration.state} for {duration(registration.seconds)}{trouble}"


def _describe_conflict(conflict: LockConflictStatus) -> str:
    one, other = conflict.holders
    how = f"for {duration(conflict.seconds)}" if conflict.certain else "possibly"
    ago = f", {duration(conflict.ended_ago)} ago" if math.isfinite(conflict.ended_ago) else ""
    return f"lock {shown(conflict.name)}: held by {one} and {other} at the same time, {how}{ago}"


def _describe_prefix(prefix: PrefixStatus) -> str:
    if prefix.denied:
        return f"denied: {prefix.error}"
    if prefix.source is None:
        return f"never read: {prefix.error}" if prefix.error else "never read"
    trouble = f"; {prefix.error}" if prefix.error else ""
    known = f"{counted(prefix.keys)}, {prefix.source}, revision {prefix.revision}, {age_in_words(prefix.age)}"
    return known + trouble
