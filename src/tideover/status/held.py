"""The records of what this process holds: sessions, locks, elections."""

from __future__ import annotations

from tideover.records import UnknownAge, record
from tideover.status.bounded import BoundedRecord
from tideover.types import Component, JobState, LockMode, SessionState, Standing


@record
class SessionStatus(BoundedRecord):
    """One session.

    Attributes:
        lease_id: The lease in etcd, as `etcdctl` writes it.
        ttl: Seconds that etcd waits for a renewal.
        state: Whether it is proven, in doubt or lost.
        seconds_left: Seconds until its deadline; 0 after it.
        keys: The keys under it.
        member: The member at which it is renewed.
        last_proof: Seconds since a renewal was last proven.
        error: Why it is in doubt or lost; None while all is well.
        debris: Keys given back that etcd still has.
        component: `"lock"`, `"discovery"` for registrations, or `"session"` for one of the application's own.
    """

    lease_id: str
    ttl: int
    state: SessionState
    seconds_left: float
    keys: tuple[str, ...]
    member: str
    last_proof: float
    error: str | None
    debris: int = 0
    component: Component = "session"


@record
class LockStatus(BoundedRecord):
    """One lock that is held here.

    Attributes:
        name: The lock.
        mode: DISTRIBUTED, by a lease in etcd, or LOCAL, by a lock of this host.
        token: Its fencing token; None if it is LOCAL.
        seconds: For how long it has been held.
        waiting: How many in this process wait for it.
        mode_seconds: For how long it has been held in this mode.
    """

    name: str
    mode: LockMode
    token: int | None
    seconds: float
    waiting: int
    mode_seconds: float = 0.0


@record
class LockWaitStatus(BoundedRecord):
    """One lock that is waited for here, and not held here.

    Attributes:
        name: The lock.
        waiting: How many in this process wait for it.
        seconds: For how long the first of them has waited.
        held_by: The holder, for people, and since when; None if neither was seen.
    """

    name: str
    waiting: int
    seconds: float
    held_by: str | None


@record
class LockConflictStatus(BoundedRecord):
    """Two holds of one lock at the same time, one of them LOCAL and one of them here.

    Attributes:
        name: The lock.
        certain: Whether the clocks leave no doubt.
        seconds: For how long; 0 if only the clocks' uncertainty makes it possible.
        holders: The two processes, as host and process id.
        ended_ago: Seconds since the end of the earlier one of them; infinite if that is not known, and null in
            JSON.
    """

    name: str
    certain: bool
    seconds: float
    holders: tuple[str, str]
    ended_ago: UnknownAge | float


@record
class ElectionStatus(BoundedRecord):
    """One candidacy of this process. It has many attributes, because JSON and the page show a candidacy whole.

    Attributes:
        name: The election.
        standing: What proves that it leads; None if it does not.
        on_outage: Its policy for an outage.
        token: The fencing token; None if it does not lead.
        remaining: Seconds until its deadline, negative beyond it; None if it does not lead.
        holder: The record's holder when it was last seen; None if it had none, or was not seen.
        error: The last failure; None while all is well.
        listed: Under `"peers"`, whether the leader's record lists this candidate, or is its own: an unlisted
            candidate can succeed only a leader that resigned, or after `confirm_limit`. None under other policies.
        peers: Under `"peers"`, how many other candidates a leader asks in an outage; None if it does not lead.
        silent: The addresses of candidates that have not answered for a ttl: in an outage they cost it the
            leadership.
        held_by: The holder for people: `host:pid`, with its address if it has one, and since when; for a holder of
            an older version the same as `holder`.
        ttl: Seconds that a renewal lasts.
        renewed_ago: Seconds since the last acknowledged renewal was sent; None if it does not lead.
        seen_ago: Seconds since the record was last seen; None if this candidate has never seen it.
        address: The leader's advertised address; None without a leader, or if it advertises none.
        overdue: Seconds that the body still runs after losing the leadership, beyond the deadline and its margin:
            it ignores its cancellation, or waits for a thread. None if no such body runs.
    """

    name: str
    standing: Standing | None
    on_outage: str
    token: int | None
    remaining: float | None
    holder: str | None
    error: str | None
    listed: bool | None = None
    peers: int | None = None
    silent: tuple[str, ...] = ()
    held_by: str | None = None
    ttl: float = 15.0
    renewed_ago: float | None = None
    seen_ago: float | None = None
    address: str | None = None
    overdue: float | None = None


@record
class JobStatus(BoundedRecord):
    """One job of this process that runs while it leads.

    Attributes:
        name: The election.
        state: What it does.
        seconds: For how long it has done that.
        failures: How often it has raised.
        error: Class and place of its last exception, of a group the first; None if it has not raised. The text is
            in the log alone, unless the function did not start: then why it cannot be a candidate.
        again_in: Seconds until it is a candidate again; None unless it is paused.
    """

    name: str
    state: JobState
    seconds: float
    failures: int
    error: str | None
    again_in: float | None


@record
class StallStatus(BoundedRecord):
    """An event loop that was blocked beyond the deadline of an election led here.

    Attributes:
        election: The election.
        late: Seconds beyond the deadline at which it was found.
        ago: Seconds since then.
        stack: Where the loop was.
    """

    election: str
    late: float
    ago: float
    stack: str
