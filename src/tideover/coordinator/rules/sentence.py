"""The whole situation in one line: what `StatusReport.sentence` says, for logs and for who reads only that."""

from __future__ import annotations

import math

from tideover.coordinator.rules.situation import is_away
from tideover.coordinator.rules.words import counted
from tideover.status import PrefixStatus, ServiceStatus, StatusReport, duration
from tideover.types import RegistrationState, Source


def sentence(report: StatusReport, matter: str, *, base: str) -> str:
    """Return the situation in a sentence or two, for people; `matter` is what is the matter with etcd."""
    text = f"{matter}; {report.state} for {duration(report.seconds)}" if is_away(report) else matter
    wrong = [f"{member} belongs to another cluster and is not used." for member in report.identity.foreign]
    proxies = [member.endpoint for member in report.members if member.proxy]
    behind = [f"{', '.join(proxies)} is an etcd grpc-proxy: leases are refused."] if proxies else []
    services = filter(None, map(_describe_service, report.services))
    standings = dict.fromkeys((election.name, election.standing) for election in report.elections)
    led = (f"{name!r} is led here, {standing}." for name, standing in standings if standing is not None)
    absent = (
        f"{status.service!r} is not registered: {status.error or 'it is about to be'}."
        for status in report.registrations
        if status.state in (RegistrationState.WAITING, RegistrationState.REFUSED)
    )
    unfound = (
        f"etcd has never had a key under {base + prefix!r}: settings there are the defaults."
        for prefix in report.unfound
    )
    failed = (
        f"What runs while leading {job.name!r} has failed ({job.error}), and is a candidate again in "
        f"{duration(job.again_in)}."
        for job in report.jobs
        if job.again_in is not None
    )
    config = map(_describe, report.config)
    return f"{text}. " + " ".join([*wrong, *config, *unfound, *services, *led, *failed, *absent, *behind])


_SERVED = {
    Source.LIVE: "live",
    Source.MEMBER: "served from a surviving member",
    Source.MEMORY: "served from memory",
    Source.DISK: "served from disk",
}


def _describe(prefix: PrefixStatus) -> str:
    source = prefix.source
    if prefix.denied:
        return f"Config {prefix.etcd_prefix!r} may not be read: etcd denies it to this user."
    if source is None:
        return f"Config {prefix.etcd_prefix!r} has never been read."
    age = (
        ""
        if source is Source.LIVE
        else f", {duration(prefix.age)} old"
        if math.isfinite(prefix.age)
        else ", of unknown age"
    )
    return f"Config {prefix.etcd_prefix!r} is {_SERVED[source]}{age}."


def _describe_service(service: ServiceStatus) -> str:
    """Return what is wrong with a service; empty if all is well with it."""
    if service.denied:
        return f"The endpoints of {service.name!r} may not be read: etcd denies them to this user."
    if service.source is None:
        return f"The endpoints of {service.name!r} have never been read."
    held = f", {service.held} of them no longer in etcd" if service.held else ""
    if service.source is Source.LIVE:
        return f"{service.name!r} has {counted(service.endpoints, 'endpoint')}{held}." if held else ""
    age = f"{duration(service.age)} old" if math.isfinite(service.age) else "of unknown age"
    if service.endpoints == 0:
        listed = f"The empty list of {service.name!r} is"
    elif service.endpoints == 1:
        listed = f"The endpoint of {service.name!r} is"
    else:
        listed = f"The {service.endpoints} endpoints of {service.name!r} are"
    return f"{listed} {_SERVED[service.source]}, {age}{held}."
