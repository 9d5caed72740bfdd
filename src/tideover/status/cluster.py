"""The records of etcd itself: its members, and which history it is in."""

from __future__ import annotations

from tideover.records import record
from tideover.status.bounded import BoundedRecord


@record
class MemberStatus(BoundedRecord):
    """One member of the cluster.

    Attributes:
        endpoint: Its `host:port`; empty for one that has not been started.
        active: Whether it is the member in use.
        answers: Whether it answered when it was last asked; None if it has not been, or was not waited for.
        error: The error it, or the way to it, last answered with, in words; None if there was none. With
            `answers=None`, why this member of the cluster is not used.
        name: Its name in the cluster's own list; empty as long as it is not known which member answers there.
        id: Its id, as etcdctl shows it; empty likewise.
        origin: `"given"` to `connect`, or behind a name that was; or `"learned"` from the cluster's own list.
        proxy: Whether it is really an etcd grpc-proxy, which is refused leases; None if not known.
    """

    endpoint: str
    active: bool
    answers: bool | None
    error: str | None
    proxy: bool | None = None
    name: str = ""
    id: str = ""
    origin: str = "given"


@record
class IdentityStatus(BoundedRecord):
    """Which etcd it is, and in which history.

    Attributes:
        cluster_id: The cluster's id in hexadecimal, as etcdctl shows it; None if etcd was never reached.
        raft_term: The highest term in a linearizable answer.
        revision: The highest revision seen.
        epoch: How many histories there have been; 0 if unknown.
        recorded: Whether that is the epoch in etcd, rather than this process's own count.
        resets: How often this process found etcd in another history.
        last_reset: What proved it the last time; None if it never happened.
        last_reset_ago: How many seconds ago that was; None if it never happened.
        foreign: Endpoints that belong to another cluster, and are not used.
        error: Why the epoch is only this process's own count; None if it is not.
        reached: Whether a quorum has answered this process; if not, all of this is from a snapshot.
    """

    cluster_id: str | None
    raft_term: int
    revision: int
    epoch: int
    recorded: bool
    resets: int
    last_reset: str | None
    last_reset_ago: float | None
    foreign: tuple[str, ...]
    error: str | None
    reached: bool = True


@record
class QuorumStatus(BoundedRecord):
    """How many members answer, and how many must.

    Attributes:
        members: How many members with a vote the cluster has, as far as is known.
        answering: How many of them answered when they were last asked; those that were not asked, because one good
            answer is enough, count as answering while etcd is available.
        needed: How many make a quorum.
    """

    members: int
    answering: int
    needed: int
