"""etcd's members and what they say of themselves; what of it cannot be used, or is not told."""

from __future__ import annotations

import logging

from tideover.telemetry.events import event
from tideover.telemetry.scope import Attributes

_CONFIG: Attributes = {"tideover.component": "config"}


def member_foreign(member: str, theirs: str, ours: str) -> None:
    """Report an endpoint that belongs to another cluster than the others.

    Args:
        member: The endpoint.
        theirs: The cluster it belongs to.
        ours: The cluster in use.
    """
    text = f"{member} belongs to cluster {theirs}, not to {ours}: it is not used; correct the list of endpoints"
    event("tideover.member.foreign", text, _of(member), level=logging.ERROR, about=text)


def member_proxied(member: str) -> None:
    """Report an endpoint that is an etcd grpc-proxy."""
    text = (
        f"{member} is an etcd grpc-proxy, not a member: configuration works through it, leases are refused; give "
        "the endpoints of the members themselves"
    )
    event("tideover.member.proxy", text, _of(member), level=logging.WARNING)


def member_unused(member: str, why: str) -> None:
    """Report a member of the cluster that is not used, because it does not answer where it says it is.

    Args:
        member: Its name.
        why: The reason.
    """
    event("tideover.member.unused", f"member {member!r} is not used: {why}", _CONFIG)


def members_unlisted(member: str, why: str) -> None:
    """Report that the cluster's list of members was not to be had, so that those known stay in use.

    Args:
        member: Who was asked.
        why: The reason.
    """
    text = f"the member list of {member} {why}"
    event("tideover.member.unlisted", text, _of(member), about=member)


def backend_untold(what: str, why: str) -> None:
    """Report what etcd does not tell this user.

    Args:
        what: What.
        why: In etcd's words.
    """
    event("tideover.backend.untold", f"etcd does not tell this user {what}: {why}", _CONFIG)


def backend_alarm(what: str) -> None:
    """Report that etcd has raised an alarm, or another one, or has none any more.

    Args:
        what: In words.
    """
    event("tideover.backend.alarm", what, _CONFIG, level=logging.WARNING)


def tls_kept(why: str) -> None:
    """Report TLS files that have changed and cannot be used; those read before stay in use.

    Args:
        why: What is wrong with them.
    """
    text = f"the TLS files read before stay in use: {why}"
    event("tideover.tls.rejected", text, _CONFIG, level=logging.WARNING)


def epoch_unshared(why: str, *, level: int) -> None:
    """Report that the epoch is not written in etcd, and other processes may count otherwise.

    Args:
        why: The reason.
        level: The `logging` level.
    """
    event("tideover.epoch.unshared", f"{why}; the epoch is this process's own count", _CONFIG, level=level)


def _of(member: str) -> Attributes:
    return {"tideover.component": "config", "server.address": member}
