"""The report itself: what an operator asks first."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime

from tideover.records import record
from tideover.status.bounded import MOST, BoundedRecord
from tideover.status.cluster import IdentityStatus, MemberStatus, QuorumStatus
from tideover.status.config import LimitStatus, PrefixStatus, RejectedValue
from tideover.status.held import (
    ElectionStatus,
    JobStatus,
    LockConflictStatus,
    LockStatus,
    LockWaitStatus,
    SessionStatus,
    StallStatus,
)
from tideover.status.history import HistoryStatus, OutageStatus
from tideover.status.primitives import NoteStatus, PrimitiveStatus
from tideover.status.process import ProcessStatus, SnapshotStatus
from tideover.status.services import RegistrationStatus, ServiceStatus
from tideover.status.statements import Statement
from tideover.types import Diagnosis, HealthState, Phase


@record
class StatusReport(BoundedRecord):
    """What an operator asks first. It has many attributes, because the page and JSON are made of the report alone.

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
        rejected: Refused values: of the configuration, and those that others wrote under tideover's own keys.
        restarts: How often a background task failed unexpectedly and was started again.
        sessions: The sessions that are open.
        elections: The candidacies.
        jobs: What runs here while this process leads.
        stalls: How often the event loop was blocked beyond the deadline of an election led here.
        last_stall: The last time; None if there was none.
        locks: The locks that are held here.
        lock_conflicts: Locks that another process held at the same time as this one, or may have, because etcd was
            away.
        lock_error: What does not work about host locks or the ledger; None if all does. A ledger that cannot be
            published in an outage is no failure: it is kept for that.
        registrations: What this process has registered.
        services: The services whose endpoints are followed.
        untold: What etcd does not tell this user, and why not, in words; no key depends on it.
        unfound: The prefixes of settings objects of which etcd has never had a key: they are all defaults.
        at: When the report was made.
        headline: etcd's state, in one sentence for a tired person.
        why: The diagnosis in words, with what the members said: `"no quorum: 1 of 3 members answers"`.
        announcement: The headline and the state, without an age: it changes only when they do.
        consequences: What this means for this process, the most dangerous first.
        works: What works still, and how.
        fails: What does not, and with which error; empty if everything works.
        primitives: Configuration, discovery, elections and locks, in this order.
        limits: The limits of configuration, in the order of their prefixes.
        keys: How many keys of the configuration are known.
        keys_served: How many of them are served: neither denied, nor older than a limit that raises allows.
        lock_waits: The locks that are waited for, and not held, here.
        quorum: How many members answer.
        snapshots: What is kept on disk.
        process: Which process this is.
        history: What has happened in the last hour.
        outage: The present outage; None if there is none.
        last_outage: The last outage that is over; None if this process has seen none.
        notes: What else an operator has to know, part by part.
        host_locks: Whether this host has a place for host locks, as far as is known: without, none can be LOCAL.
        phase: How far the coordinator's life has come.
        more: How many entries are left out of `rejected` and of `lock_conflicts`, which have 100 at the most.
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
    at: datetime
    headline: Statement
    why: str
    announcement: str
    quorum: QuorumStatus
    process: ProcessStatus
    history: HistoryStatus
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
    consequences: tuple[Statement, ...] = ()
    works: tuple[Statement, ...] = ()
    fails: tuple[Statement, ...] = ()
    primitives: tuple[PrimitiveStatus, ...] = ()
    limits: tuple[LimitStatus, ...] = ()
    keys: int = 0
    keys_served: int = 0
    lock_waits: tuple[LockWaitStatus, ...] = ()
    snapshots: tuple[SnapshotStatus, ...] = ()
    outage: OutageStatus | None = None
    last_outage: OutageStatus | None = None
    notes: tuple[NoteStatus, ...] = ()
    host_locks: bool = True
    phase: Phase = Phase.RUNNING
    more: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __hash__(self) -> int:
        """Hash two fields: `more` has no hash."""
        return hash((self.sentence, self.at))

    def __post_init__(self) -> None:
        """Bound the lists that others can make longer, and count what is left out."""
        BoundedRecord.__post_init__(self)
        for name in ("rejected", "lock_conflicts"):
            found = getattr(self, name)
            if isinstance(found, tuple) and len(found) > MOST:
                object.__setattr__(self, name, found[:MOST])
                left_out = self.more.get(name, 0) + len(found) - MOST
                object.__setattr__(self, "more", {**self.more, name: left_out})
