"""Tells an `etcd grpc-proxy`, which answers like a member, from a member.

Measured on the proxies of 3.4.23 and 3.5.1. A proxy counts the watches of a stream itself, from 0, where a member
uses the id that was asked for; and what it says on its own account (a denial, its list of members) has an empty
header, where a member always names its cluster. Either is in every answer to the creation of a watch, whatever the
user may read, so that one such answer decides. `Status` and reads are passed on and tell nothing; `/proxy/health`
exists from 3.5 on only, and is HTTP.

Why it matters. Through a proxy keep-alives of one lease from several streams become one, so that an
acknowledgement may belong to another session; serializable reads are answered from its cache, even that a key is
absent; progress requests are never answered, and proxies of early 3.4 end themselves upon one (in their source),
so that none is ever sent; `hasleader` is not passed on, and its watches stay open and silent through an outage.
"""

from __future__ import annotations

from typing import Any

from tideover.store.faults import StoreFault, classify


def by_proxy(answer: Any, *, asked_for: int) -> bool:
    """Whether the answer to the creation of a watch came from a grpc-proxy.

    The id in the request, `asked_for`, is above 0 and above all earlier ids of the stream.
    """
    refused = answer.canceled or answer.compact_revision
    return answer.header.cluster_id == 0 or (not refused and answer.watch_id != asked_for)


def refusal(endpoint: str) -> StoreFault:
    """Return the fault for what a proxy cannot be trusted with, such as leases."""
    return StoreFault(
        classify(
            "FAILED_PRECONDITION",
            f"{endpoint} is an etcd grpc-proxy, through which a lease cannot be trusted: "
            "give the endpoints of the members themselves",
        )
    )
