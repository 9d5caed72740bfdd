"""What works and what does not, with the calls and the errors by their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tideover.coordinator.rules.situation import (
    READ_ONLY,
    is_away,
    local,
    may_be_local,
    oldest,
    readable,
    refusing,
    survivor,
    takes_writes,
    usable,
    worst_source,
)
from tideover.coordinator.rules.words import aged, counted, listed, named, plain
from tideover.status import PrefixStatus, ServiceStatus, Statement, StatusReport
from tideover.types import Diagnosis, RegistrationState, Source, Standing

_GOES_ON = {
    Standing.UNCONFIRMED: "goes on here under on_outage={}",
    Standing.CONFIRMED: "goes on here under on_outage={}, confirmed by the other candidates",
    Standing.HELD: "is led here until its deadline, under on_outage={}",
}


def works(report: StatusReport) -> tuple[Statement, ...]:
    """Return what works; everything in one statement, if all does."""
    if not fails(report):
        return (_everything(report),)
    return tuple(statement for rule in (_reads, _discovery, _elections, _locks) for statement in rule(report))


def fails(report: StatusReport) -> tuple[Statement, ...]:
    """Return what does not work; nothing, if all does."""
    rules = (_failing_reads, _failing_writes, _failing_locks, _failing_elections, _failing_registrations)
    return tuple(statement for rule in rules for statement in rule(report))


def _everything(report: StatusReport) -> Statement:
    led = listed(named(election.name) for election in report.elections)
    parts = ["config"] if report.config else []
    parts += ["discovery"] if report.services else []
    parts += [led] if led else []
    return Statement(f"Everything: {', '.join([*parts, 'locks', 'writes'])}.")


def _reads(report: StatusReport) -> Iterator[Statement]:
    served = readable(report.config)
    if not served or (report.keys and not report.keys_served):
        return
    source, what = worst_source(served), f"Config reads: {_served(report, served)}"
    if source is Source.LIVE:
        yield Statement(f"{what}, live")
        return
    where = {Source.MEMBER: survivor(report), Source.DISK: "disk"}.get(source or Source.MEMORY, "memory")

    yield aged(f"{what}, from {where}, last proven ", oldest(served), " ago", unknown="at an unknown time")


def _served(report: StatusReport, readable: Sequence[PrefixStatus]) -> str:
    """Return how many keys are served, and of which prefixes if not of all."""
    keys = counted(report.keys_served, "key")
    if report.keys_served == report.keys:
        return keys
    refused = refusing(report.limits)
    prefixes = [plain(prefix.prefix) for prefix in readable if prefix.limit not in refused]
    return (
        f"{keys} of {listed(prefixes)}"
        if all(prefixes) and prefixes
        else f"{report.keys_served:,} of {report.keys:,} keys"
    )


def _discovery(report: StatusReport) -> Iterator[Statement]:
    services = usable(report.services)
    if not services:
        return
    how = {Source.LIVE: "live", Source.DISK: "from disk"}.get(
        worst_source(services) or Source.MEMORY, "list frozen"
    )
    each = [f"{plain(service.name)} {_endpoints(service)}" for service in services]
    yield Statement(f"Discovery: {listed(each)}, {how}")


def _endpoints(service: ServiceStatus) -> str:
    return counted(service.endpoints, "endpoint")


def _elections(report: StatusReport) -> Iterator[Statement]:
    for election in report.elections:
        if election.standing is not None:
            how = _GOES_ON[election.standing] if is_away(report) else "is led here, under on_outage={}"
            yield Statement(f"{named(election.name)} {how.format(election.on_outage)}")


def _locks(report: StatusReport) -> Iterator[Statement]:
    if takes_writes(report):
        yield Statement("Locks, DISTRIBUTED")
    elif is_away(report) and (may_be_local(report) or local(report.locks)):
        yield Statement("Locks of this host; each hold is recorded and compared later")
    if takes_writes(report):
        yield Statement("Writes")


def _failing_reads(report: StatusReport) -> Iterator[Statement]:
    for prefix in report.config:
        name = plain(prefix.etcd_prefix)
        if prefix.denied:
            yield Statement(f"Config reads of {name}: PermissionDenied")
        elif prefix.source is None:
            error = "AuthenticationFailed" if report.diagnosis is Diagnosis.UNAUTHORIZED else "NotSynced"
            yield Statement(f"Config reads of {name}: {error}, or the default")
    for limit in refusing(report.limits):
        name = plain(limit.prefix) or "all prefixes"
        yield Statement(f"Config reads of {name}: {counted(limit.keys, 'key')}, TooStale")
    for service in report.services:
        if service.denied:
            yield Statement(f"Discovery of {plain(service.name)}: PermissionDenied")
        elif service.source is None:
            yield Statement(f"Discovery of {plain(service.name)}: EndpointsUnknown")


def _failing_writes(report: StatusReport) -> Iterator[Statement]:
    if report.diagnosis in READ_ONLY and not is_away(report):
        yield Statement(f"Writes: config.put raises {READ_ONLY[report.diagnosis]}")
    elif report.diagnosis is Diagnosis.UNAUTHORIZED and is_away(report):
        yield Statement("Writes: config.put raises AuthenticationFailed at once, without a packet")
    elif is_away(report):
        yield Statement("Writes: config.put raises CircuitOpen at once, without a packet")


def _failing_locks(report: StatusReport) -> Iterator[Statement]:
    if takes_writes(report):
        return
    if not is_away(report):
        yield Statement(f"DISTRIBUTED locks: a new one raises {READ_ONLY[report.diagnosis]}")
        return
    held, turned = len(report.locks), len(local(report.locks))
    if turned:
        have = "the one held here has" if held == turned == 1 else "those held here have"
        here = f"; {have} turned LOCAL" if held == turned else f"; {turned} of {held} held here have turned LOCAL"
    elif held:
        here = "; those held here are kept until their deadline"
    else:
        here = ""
    yield Statement(f"DISTRIBUTED locks: none is granted{here}")
    if not report.host_locks:
        yield Statement("LOCAL locks: LockUnavailable: this host has no place for them")
    elif not may_be_local(report):
        text = "LOCAL locks: LockUnavailable under profile=safety, unless on_outage='local' is asked for"
        yield Statement(text)


def _failing_elections(report: StatusReport) -> Iterator[Statement]:
    if is_away(report):
        yield Statement("New elections: nobody is newly elected without a quorum")
    elif not takes_writes(report) and report.elections:
        yield Statement("Elections: no record can be renewed, and nobody is newly elected")


def _failing_registrations(report: StatusReport) -> Iterator[Statement]:
    absent = [each for each in report.registrations if each.state is RegistrationState.WAITING]
    refused = [each for each in report.registrations if each.state is RegistrationState.REFUSED]
    kept = [named(each.service) for each in report.registrations if each.state is RegistrationState.UNCONFIRMED]
    if absent:
        yield Statement(
            f"Registration: other services do not find {listed(named(e.service) for e in absent)} here"
        )
    if refused:
        yield Statement(f"Registration: etcd refuses {listed(named(e.service) for e in refused)}")
    if is_away(report) and not absent:
        stay = "stays" if len(kept) == 1 else "stay"
        yield Statement(f"New registrations wait{f'; {listed(kept)} {stay} listed, unconfirmed' if kept else ''}")
