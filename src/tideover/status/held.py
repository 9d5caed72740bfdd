"""The records of what this process holds: sessions, locks, elections."""

from __future__ import annotations

from tideover.records import Record, UnknownAge, record
from tideover.types import Component, JobState, LockMode, SessionState, Standing


@record
class SessionStatus(Record):
    """One session.

    Attributes:
        lease_id: The lease in etcd, as `etcdctl` writes it.
        ttl: Seconds that etcd waits for a renewal.
        state: How far it may be believed in.
        seconds_left: Seconds until its deadline; 0 after it.
        keys: The keys under it.
        member: The member at which it is renewed.
        last_proof: Seconds since a renewal was last proven.
        error: Why it is not proven, or lost; None while all is well.
        debris: Keys given back that are still to be deleted.
        component: On whose behalf it was opened: of locks, of registrations (`"discovery"`), or of a user.
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
class LockStatus(Record):
    """One lock that is held here.

    Attributes:
        name: The lock.
        mode: On what ground it is held.
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
class LockWaitStatus(Record):
    """One lock that is waited for here, and not held here.

    Attributes:
        name: The lock.
        waiting: How many in this process wait for it.
        seconds: For how long the first of them has waited.
        held_by: Who has it, for people, and since when, as far as that was seen; None if it was not.
    """

    name: str
    waiting: int
    seconds: float
    held_by: str | None


@record
class LockConflictStatus(Record):
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
class ElectionStatus(Record):
    """One candidacy of this process.

    Attributes:
        name: The election.
        standing: On what ground it leads; None if it does not.
        on_outage: What it does in an outage.
        token: The fencing token; None if it does not lead.
        remaining: Seconds until its deadline, negative beyond it; None if it does not lead.
        holder: Who held the record when it was last seen; None if nobody did, or it was not seen.
        error: The last trouble; None while all is well.
        listed: Under `"peers"`, whether the leader's record lists this candidate, or is its own: one that is not
            listed can take over only what was given up, or after `confirm_limit`. None under other policies.
        peers: Under `"peers"`, how many other candidates a leader asks in an outage; None if it does not lead.
        silent: The addresses of those who have not answered for a ttl: in an outage they cost it the leadership.
        held_by: The holder for people: `host:pid`, with its address if it has one, and since when; for one of an
            older version as `holder`.
        ttl: Seconds for which a renewal holds.
        renewed_ago: Seconds since the last renewal that holds was sent; None if it does not lead.
        seen_ago: Seconds since the record was last seen; None if this candidate has never seen it.
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


@record
class JobStatus(Record):
    """One job of this process that runs while it leads.

    Attributes:
        name: The election.
        state: What it does.
        seconds: For how long it has done that.
        failures: How often it has raised.
        error: Class and place of what it has raised last, of a group the first; None if it never has. The text is
            in the log alone, unless the function did not begin: then why it cannot be a candidate.
        again_in: Seconds until it is a candidate again; None unless it is paused.
    """

    name: str
    state: JobState
    seconds: float
    failures: int
    error: str | None
    again_in: float | None


@record
class StallStatus(Record):
    """What was found when the event loop was blocked beyond the deadline of something that was led here.

    Attributes:
        election: What was led.
        late: Seconds beyond the deadline at which it was found.
        ago: Seconds since then.
        stack: Where the loop was.
    """

    election: str
    late: float
    ago: float
    stack: str
