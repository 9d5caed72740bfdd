"""What `tide.status()` hands out: frozen, and ready to be printed or sent as JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from tideover.records import Record, UnknownAge
from tideover.types import (
    Diagnosis,
    HealthState,
    JobState,
    LockMode,
    Phase,
    RegistrationState,
    SessionState,
    Source,
    Standing,
)


@dataclass(frozen=True, slots=True)
class PrefixStatus(Record):
    """One followed prefix.

    Attributes:
        prefix: The prefix, as given to `follow`.
        source: The rung it stands on; None if it was never read.
        revision: The revision its content corresponds to.
        age: Seconds since it was last proven in sync; infinite if unknown, and null in JSON.
        keys: How many keys it holds.
        resets: How often another history was taken over.
        epoch: The epoch its content is of: after a reset the one before, until it has been read anew.
        error: The last trouble in following it; None while all is well.
        snapshot_error: Why the last snapshot could not be written; None if it could.
        denied: Whether a quorum refuses to let this client read it: `get` raises, whatever is held.
    """

    prefix: str
    source: Source | None
    revision: int
    age: UnknownAge | float
    keys: int
    resets: int
    epoch: int
    error: str | None
    snapshot_error: str | None
    denied: bool = False


@dataclass(frozen=True, slots=True)
class RejectedValue(Record):
    """A value in etcd that is not being served.

    Attributes:
        key: The key, as `get` names it; outside of the configuration as etcd has it.
        revision: The revision refused.
        reason: Why.
    """

    key: str
    revision: int
    reason: str


@dataclass(frozen=True, slots=True)
class MemberStatus(Record):
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


@dataclass(frozen=True, slots=True)
class IdentityStatus(Record):
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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class LockStatus(Record):
    """One lock that is held here.

    Attributes:
        name: The lock.
        mode: On what ground it is held.
        token: Its fencing token; None if it is LOCAL.
        seconds: For how long it has been held.
        waiting: How many in this process wait for it.
    """

    name: str
    mode: LockMode
    token: int | None
    seconds: float
    waiting: int


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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
        address: Where the leader says it can be reached; None if it does not say, or nobody leads.
        overdue: Seconds for which a body that has lost its leadership still runs, beyond the deadline and its
            margin: it ignores its cancellation, or waits for what cannot be cancelled. None if none does.
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
    address: str | None = None
    overdue: float | None = None


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class RegistrationStatus(Record):
    """One registration of this process.

    Attributes:
        service: The service.
        instance: The instance.
        incarnation: This registration of it, as at the end of its key in etcd.
        url: Where others reach it.
        weight: Its share of the traffic.
        state: How far it is in etcd.
        seconds: For how long it has been in etcd, or out of it.
        comebacks: How often it was put there again after it had been lost.
        error: Why it is not there, or not as it is to be; None while all is well.
    """

    service: str
    instance: str
    incarnation: str
    url: str
    weight: float
    state: RegistrationState
    seconds: float
    comebacks: int
    error: str | None


@dataclass(frozen=True, slots=True)
class ServiceStatus(Record):
    """One service whose endpoints are followed here.

    Attributes:
        name: The service.
        source: The rung its list stands on; None if it was never read.
        revision: The revision its content corresponds to.
        age: Seconds since it was last proven in sync; infinite if unknown, and null in JSON.
        endpoints: How many endpoints are listed.
        drained: How many of them have weight 0.
        ejected: How many are not picked for a while, because calls to them have failed.
        held: How many etcd no longer has: their removal is held back for a while.
        refused: What is in etcd and cannot be used, in words.
        error: The last trouble in following it; None while all is well.
        snapshot_error: Why the last snapshot could not be written; None if it could.
        denied: Whether a quorum refuses to let this client read it: `pick` raises, whatever is held.
    """

    name: str
    source: Source | None
    revision: int
    age: UnknownAge | float
    endpoints: int
    drained: int
    ejected: int
    held: int
    refused: tuple[str, ...]
    error: str | None
    snapshot_error: str | None
    denied: bool = False


@dataclass(frozen=True, slots=True)
class StatusReport(Record):
    """Everything an operator asks first.

    Attributes:
        sentence: The situation in one sentence.
        state: The health state.
        diagnosis: Why.
        since: When the state began.
        seconds: For how many seconds it has lasted.
        next_probe: Seconds until the next probe.
        outage_id: The present outage's id; empty if there is none.
        namespace: The coordinator's namespace.
        profile: The coordinator's profile.
        pid: This process.
        members: The members.
        identity: Which etcd it is, and in which history.
        config: The followed prefixes.
        rejected: Values refused: of the configuration, and what others have written under tideover's own keys.
        restarts: How often a background task failed unexpectedly and was started again.
        sessions: The sessions that are open.
        elections: The candidacies.
        jobs: What runs here while this process leads.
        stalls: How often the event loop was found to be blocked beyond the deadline of something led here.
        last_stall: The last time; None if there was none.
        locks: The locks that are held here.
        lock_conflicts: Locks that somebody else has held at the same time as this process, or may have, because
            etcd was away.
        lock_error: What does not work about host locks or the ledger; None if all does.
        registrations: What this process has registered.
        services: The services whose endpoints are followed.
        untold: What etcd does not tell this user, and why not, in words; no key depends on it.
        unfound: The prefixes of settings objects of which etcd has never had a key: they are all defaults.
        phase: How far the coordinator's life has come.
        process: This process as others see it: `host:pid`.
        version: The version of tideover.
    """

    sentence: str
    state: HealthState
    diagnosis: Diagnosis
    since: datetime
    seconds: float
    next_probe: float
    outage_id: str
    namespace: str
    profile: str
    pid: int
    members: tuple[MemberStatus, ...]
    identity: IdentityStatus
    config: tuple[PrefixStatus, ...]
    rejected: tuple[RejectedValue, ...]
    restarts: int
    sessions: tuple[SessionStatus, ...] = ()
    elections: tuple[ElectionStatus, ...] = ()
    locks: tuple[LockStatus, ...] = ()
    lock_conflicts: tuple[LockConflictStatus, ...] = ()
    lock_error: str | None = None
    stalls: int = 0
    last_stall: StallStatus | None = None
    registrations: tuple[RegistrationStatus, ...] = ()
    services: tuple[ServiceStatus, ...] = ()
    untold: tuple[str, ...] = ()
    unfound: tuple[str, ...] = ()
    jobs: tuple[JobStatus, ...] = ()
    phase: Phase = Phase.RUNNING
    process: str = ""
    version: str = ""


def duration(seconds: float) -> str:
    """Return a duration for people: `"42 s"`, `"2 min 13 s"`, `"3 h 5 min"`, `"of unknown length"`."""
    if not math.isfinite(seconds):
        return "of unknown length"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
