"""What follows from the situation for this process, the most dangerous first.

First what can do damage: two who lead, two who hold. Then what raises, what is refused, and who is not found by
others. Then what is old, and at last what is well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tideover.coordinator.rules.situation import (
    READ_ONLY,
    is_away,
    led_last_by,
    local,
    lock_sessions,
    may_be_local,
    oldest,
    readable,
    refused_config,
    survivor,
    takes_writes,
    usable,
    worst_source,
)
from tideover.coordinator.rules.words import aged, counted, listed, named, plain, span
from tideover.status import ElectionStatus, Statement, StatusReport
from tideover.types import RegistrationState, Source, Standing

_STANDINGS = {
    Standing.UNCONFIRMED: "UNCONFIRMED: another leader cannot be excluded.",
    Standing.CONFIRMED: "CONFIRMED: all other candidates have promised not to take over.",
    Standing.HELD: "HELD.",
}
_NOT_THERE = (RegistrationState.WAITING, RegistrationState.REFUSED)


def consequences(report: StatusReport) -> tuple[Statement, ...]:
    """Return what follows, the most dangerous first."""
    return tuple(statement for rule in _RULES for statement in rule(report))


def _led(*standings: Standing) -> Callable[[StatusReport], Iterator[Statement]]:
    def rule(report: StatusReport) -> Iterator[Statement]:
        for standing in standings:
            names = [named(election.name) for election in report.elections if election.standing is standing]
            if names:
                verb = "is" if len(names) == 1 else "are"
                yield Statement(f"{listed(names)} {verb} led here, {_STANDINGS[standing]}")

    return rule


def _locks_in_danger(report: StatusReport) -> Iterator[Statement]:
    held = local(report.locks)
    if is_away(report) and (held or may_be_local(report)):
        yield Statement("Locks are LOCAL: they hold on this host only.")
    elif held:
        names = listed(named(lock.name) for lock in held)
        yield Statement(f"{names} {'is' if len(held) == 1 else 'are'} LOCAL still: held on this host only.")
    if report.lock_conflicts:
        names = listed(dict.fromkeys(plain(conflict.name) for conflict in report.lock_conflicts))
        number = counted(len(report.lock_conflicts) + report.more.get("lock_conflicts", 0), "lock conflict")
        yield Statement(f"{number} of the last 7 days: {names}.")


def _reads_that_fail(report: StatusReport) -> Iterator[Statement]:
    for prefix in report.config:
        name = named(prefix.etcd_prefix)
        if prefix.denied:
            yield Statement(f"Config {name} may not be read: etcd denies it to this user.")
        elif prefix.source is None:
            yield Statement(f"Config {name} has never been read: reads give the default, or raise NotSynced.")
    for limit in report.limits:
        if limit.over and limit.on_stale != "serve":
            what = "reading it raises TooStale" if limit.on_stale == "raise" else "reads give the default"
            name = plain(limit.prefix) or "The configuration"
            yield Statement(f"{name} is over its limit of {span(limit.max_stale)}: {what}.")
    for service in report.services:
        if service.denied:
            text = f"The endpoints of {named(service.name)} may not be read: etcd denies them to this user."
            yield Statement(text)
        elif service.source is None:
            yield Statement(f"The endpoints of {named(service.name)} have never been read.")


def _writes(report: StatusReport) -> Iterator[Statement]:
    if report.diagnosis in READ_ONLY and not is_away(report):
        yield Statement(f"Writes are refused: they raise {READ_ONLY[report.diagnosis]}.")
    elif is_away(report):
        yield Statement("Writes are refused.")
    if is_away(report) and not local(report.locks) and not may_be_local(report):
        yield Statement("Locks are refused: no lock is granted until a quorum answers.")


def _not_led(report: StatusReport) -> Iterator[Statement]:
    for job in report.jobs:
        if job.again_in is not None:
            text = f"What runs while leading {named(job.name)} has failed, and is a candidate again soon."
            yield Statement(text)
    if not is_away(report):
        return
    others: dict[str, list[ElectionStatus]] = {}
    for election in report.elections:
        if election.standing is None:
            others.setdefault(led_last_by(report, election), []).append(election)
    for leader, elections in others.items():
        names = listed(named(election.name) for election in elections)
        one = len(elections) == 1
        who = (
            f"{leader} led {'it' if one else 'them'} when last seen"
            if leader
            else (f"who leads {'it' if one else 'them'} is not known")
        )
        yield Statement(f"{names} {'is' if one else 'are'} not led here, and {who}.")


def _registrations(report: StatusReport) -> Iterator[Statement]:
    names = [named(each.service) for each in report.registrations if each.state in _NOT_THERE]
    if names:
        yield Statement(f"This process is not registered as {listed(names)}: others do not find it.")


def _attention(report: StatusReport) -> Iterator[Statement]:
    config = refused_config(report)
    others = [value for value in report.rejected if value.key == value.etcd_key]
    if more := report.more.get("rejected", 0):
        number = counted(len(report.rejected) + more, "value is refused", "values are refused")
        yield Statement(f"{number}: {listed((plain(v.key) for v in report.rejected), beyond=more)}.")
    for what, values in (("config value", config), ("value of others", others)):
        if values and not more:
            number = counted(len(values), f"{what} is refused", f"{what.replace('value', 'values')} are refused")
            yield Statement(f"{number}: {listed(plain(value.key) for value in values)}.")
    for prefix in report.unfound:
        text = f"etcd has never had a key under {named(prefix)}: settings there are the defaults."
        yield Statement(text)
    for member in report.identity.foreign:
        yield Statement(f"{plain(member)} belongs to another cluster and is not used.")
    proxies = [plain(member.endpoint) for member in report.members if member.proxy]
    if proxies:
        yield Statement(f"{listed(proxies)} is an etcd grpc-proxy: leases are refused.")
    ejected = sum(service.ejected for service in report.services)
    if ejected:
        names = listed(plain(service.name) for service in report.services if service.ejected)
        yield Statement(f"{counted(ejected, 'endpoint is ejected', 'endpoints are ejected')}: {names}.")


def _contents(report: StatusReport) -> Iterator[Statement]:
    """Say where configuration and endpoints come from: together, if from the same rung."""
    config, services = readable(report.config), usable(report.services)
    rungs: dict[Source | None, list[str]] = {}
    if config:
        rungs.setdefault(worst_source(config), []).append("config")
    if services:
        rungs.setdefault(worst_source(services), []).append("endpoints")
    for source, what in sorted(rungs.items(), key=lambda item: item[0] is Source.LIVE):
        ages = (oldest(config if "config" in what else ()), oldest(services if "endpoints" in what else ()))
        yield _content(report, source, what, max(ages))


def _content(report: StatusReport, source: Source | None, what: list[str], age: float) -> Statement:
    names = " and ".join(what)
    name, come = names.capitalize(), "comes" if names == "config" else "come"
    if source is Source.LIVE:
        return Statement(f"{name} {'is' if names == 'config' else 'are'} live.")
    if source is Source.MEMBER:
        read = "is" if names == "config" else "are"
        return Statement(f"{name} {read} read from the surviving member {survivor(report)} and may lag.")
    if source is Source.DISK:
        started = f"Started without etcd: {names}" if is_away(report) else name
        return aged(f"{started} {come} from disk, ", age, " old.", unknown="of unknown age.")
    return aged(f"{name} {come} from memory, ", age, " old.", unknown="of unknown age.")


def _locks_at_ease(report: StatusReport) -> Iterator[Statement]:
    if takes_writes(report) and not local(report.locks) and (report.locks or lock_sessions(report)):
        yield Statement("Locks are DISTRIBUTED.")


_RULES = (
    _led(Standing.UNCONFIRMED),
    _locks_in_danger,
    _reads_that_fail,
    _not_led,
    _writes,
    _registrations,
    _attention,
    _contents,
    _led(Standing.CONFIRMED, Standing.HELD),
    _locks_at_ease,
)
