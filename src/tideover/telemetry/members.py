"""etcd's members: those that cannot be used, and what etcd does not say."""

from __future__ import annotations

import logging

from tideover.telemetry.events import event
from tideover.telemetry.scope import Attributes


def member_foreign(member: str, theirs: str, ours: str) -> None:
    """Report an endpoint of another cluster."""
    text = f"{member} belongs to cluster {theirs}, not to {ours}: it is not used; correct the list of endpoints"
    event("tideover.member.foreign", text, "config", _of(member), level=logging.ERROR, about=text)


def member_proxied(member: str) -> None:
    """Report an endpoint that is an etcd grpc-proxy."""
    text = (
        f"{member} is an etcd grpc-proxy, not a member: configuration works through it, leases are refused; give "
        "the endpoints of the members themselves"
    )
    event("tideover.member.proxy", text, "config", _of(member), level=logging.WARNING)


def member_unused(member: str, why: str) -> None:
    """Report a member that is not used, because nothing answers at the address it publishes."""
    event("tideover.member.unused", f"member {member!r} is not used: {why}", "config")


def transport_proxied(member: str, way: str) -> None:
    """Report that gRPC was chosen, because the environment names a proxy for a member."""
    text = (
        f"calls to {member} go over gRPC, {way}: tideover's own transport knows no proxies; spare etcd from it, "
        "or name a transport (TIDEOVER_TRANSPORT)"
    )
    event("tideover.transport.proxied", text, "config", _of(member), about=member)


def members_unlisted(member: str, why: str) -> None:
    """Report that a member did not list the cluster's members; the known ones stay in use."""
    text = f"the member list of {member} {why}"
    event("tideover.member.unlisted", text, "config", _of(member), about=member)


def backend_untold(what: str, why: str) -> None:
    """Report what etcd does not tell this user."""
    event("tideover.backend.untold", f"etcd does not tell this user {what}: {why}", "config")


def backend_alarm(what: str) -> None:
    """Report that etcd's alarms changed."""
    event("tideover.backend.alarm", what, "config", level=logging.WARNING)


def tls_kept(why: str) -> None:
    """Report changed TLS files that cannot be used; those read before stay in use."""
    text = f"the TLS files read before stay in use: {why}"
    event("tideover.tls.rejected", text, "config", level=logging.WARNING)


def epoch_unshared(why: str, *, level: int) -> None:
    """Report that the epoch is not written in etcd, so that other processes may count differently."""
    event("tideover.epoch.unshared", f"{why}; the epoch is this process's own count", "config", level=level)


def _of(member: str) -> Attributes:
    return {"server.address": member}
