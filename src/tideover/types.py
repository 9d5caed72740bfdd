"""The nouns that travel between layers: frozen records without behaviour of their own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Generic, Literal, TypeVar

from tideover.records import Record, UnknownAge

T_co = TypeVar("T_co", covariant=True)

# On whose behalf something is done: the four primitives, and sessions that users open themselves.
# The field by which a request says that it is for the leader of an election, whose name follows percent-encoded.
LEADER_FIELD = "Tideover-Leader"

Component = Literal["config", "discovery", "election", "lock", "session"]


class HealthState(StrEnum):
    """How much of etcd can be used.

    Attributes:
        AVAILABLE: A quorum answers.
        DEGRADED: No usable quorum, but at least one member answers serializable reads.
        UNAVAILABLE: No member answers.
    """

    AVAILABLE = "available"
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"


class Diagnosis(StrEnum):
    """Why etcd is in the state it is in.

    Attributes:
        STARTING: No member has been asked yet.
        HEALTHY: A quorum answers in time.
        LEADER_CHANGE: Enough members for a quorum answer, but there is no leader yet; usually under 2 s.
        QUORUM_LOST: Members answer, but not enough of them, or no leader was found for too long.
        CUT_OFF: No member answers.
        UNAUTHORIZED: A quorum refuses this client.
        NO_SPACE: Reads work, writes are refused: the database quota is used up.
        CORRUPT: Reads work, writes are refused: etcd has found that its members' data differ.
        SLOW: The quorum answers, but too slowly to use.
    """

    STARTING = "starting"
    HEALTHY = "healthy"
    LEADER_CHANGE = "leader_change"
    QUORUM_LOST = "quorum_lost"
    CUT_OFF = "cut_off"
    UNAUTHORIZED = "unauthorized"
    NO_SPACE = "no_space"
    CORRUPT = "corrupt"
    SLOW = "slow"


class Phase(StrEnum):
    """How far a coordinator's life has come.

    Attributes:
        NEW: It has not been entered.
        STARTING: It is being entered: nothing is served before etcd or the disk has been read, or given up.
        RUNNING: What it serves is usable: live, from disk, or the defaults.
        ENDING: The application has heard that it is to end, such as by SIGTERM.
        CLOSED: It is closed, or belongs to the process that this one was forked from.
    """

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    ENDING = "ending"
    CLOSED = "closed"


class SessionState(StrEnum):
    """How far a session may be believed in.

    Attributes:
        ALIVE: Its last renewal was proven, and its deadline is ahead.
        SUSPENDED: Its last renewal could not be proven, or its deadline has passed, and etcd has not said no.
            Until the deadline it may be believed; from then on not, unless a renewal is proven again.
        LOST: It has ended, for good.
    """

    ALIVE = "alive"
    SUSPENDED = "suspended"
    LOST = "lost"


class JobState(StrEnum):
    """What a job that runs while leading does.

    Attributes:
        WAITING: It is a candidate.
        LEADING: It runs.
        PAUSED: It has failed, and is a candidate again after a while.
        ENDED: It has returned, and does not run again.
    """

    WAITING = "waiting"
    LEADING = "leading"
    PAUSED = "paused"
    ENDED = "ended"


class LockMode(StrEnum):
    """The mode in which a lock is held.

    Attributes:
        DISTRIBUTED: A key in etcd, under a lease that is proven: no other process has it.
        LOCAL: This machine only, because etcd is away: a process on another machine may have it too.
    """

    DISTRIBUTED = "distributed"
    LOCAL = "local"


class RegistrationState(StrEnum):
    """How far a registration is in etcd.

    Attributes:
        REGISTERED: Its key is there, under a lease that is proven.
        UNCONFIRMED: Its key was there, and etcd has not said that it is gone, but its lease cannot be proven: etcd
            is away, and keeps what it has.
        WAITING: Its key is not there, or not yet; it will be as soon as that is possible.
        REFUSED: etcd has refused it, for example for want of rights; it is tried again every 5 s.
        ENDED: It was given up: by its owner, or with the coordinator.
    """

    REGISTERED = "registered"
    UNCONFIRMED = "unconfirmed"
    WAITING = "waiting"
    REFUSED = "refused"
    ENDED = "ended"


class Source(StrEnum):
    """The rung of the ladder from which a value came, best first.

    Attributes:
        LIVE: Memory, proven in sync with the quorum.
        QUORUM: A linearizable read made for this call.
        MEMBER: A serializable read from a surviving member, without a quorum.
        MEMORY: The last value known to this process.
        DISK: The snapshot of an earlier process, or the bootstrap file.
        DEFAULT: The caller's default; etcd's value is absent or unknown.
        OVERRIDE: No rung at all: a test's own value, from `tideover.testing.overriding`.
    """

    LIVE = "live"
    QUORUM = "quorum"
    MEMBER = "member"
    MEMORY = "memory"
    DISK = "disk"
    DEFAULT = "default"
    OVERRIDE = "override"


@dataclass(frozen=True, slots=True)
class Header:
    """What every etcd answer says about the cluster that gave it."""

    cluster_id: int
    member_id: int
    raft_term: int
    revision: int


@dataclass(frozen=True, slots=True)
class ClusterMember:
    """One member, as the cluster's own list has it."""

    id: int
    name: str
    client_urls: tuple[str, ...]
    learner: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One key's value as etcd holds it."""

    value: bytes
    create_revision: int
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Reading(Record, Generic[T_co]):
    """A configuration value together with the truth about it, at the moment it was read.

    Attributes:
        key: The key as the caller named it.
        value: The decoded value, or the default, or None if the key is absent and there is no default.
        present: Whether the key exists, as far as is known.
        source: The rung of the ladder that gave the value.
        revision: The revision that last changed the key; 0 if it is absent.
        age: Seconds since the value was last proven in sync with a quorum; infinite if it never was, or if
            that moment is unknown, and null in JSON.
        stale: Whether the value may differ from what a quorum would say now: it was not proven in sync
            lately, or it is older than its `max_stale`.
        rejected: The revision of a newer value that could not be decoded, else None.
    """

    key: str
    value: T_co
    present: bool
    source: Source
    revision: int
    age: UnknownAge | float
    stale: bool
    rejected: int | None = None

    def __post_init__(self) -> None:
        """Leave the value as it is, infinite or not."""
        if self.age == math.inf:
            self._mark_unknown("age")


class Standing(StrEnum):
    """The standing with which a leader still leads.

    Attributes:
        HELD: Its last renewal in etcd holds: no other process leads.
        CONFIRMED: Its renewals fail, and all other candidates have promised not to take over: none leads.
        UNCONFIRMED: It was asked to stay in an outage and cannot know whether another process leads by now.
    """

    HELD = "held"
    CONFIRMED = "confirmed"
    UNCONFIRMED = "unconfirmed"


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads, as the election's record says.

    Attributes:
        holder: The candidate: a random name, new for each candidacy.
        term: How often the leader has changed.
        address: Where it can be reached; empty if it does not say.
        value: What it has published.
        on_outage: What it does in an outage.
        in_office: Whether it has begun to lead. Under `"peers"` it may have to wait for the end of a promise that
            it gave to the leader before it.
        name: Its process, for people: `host:pid`, with the URL that it has registered or advertises in brackets;
            empty if an older version leads. Nothing can be reached by it: see `address`.
        since: Since when it leads, as `"2026-11-30T03:12:52Z"` on its own clock; empty if an older version leads.
    """

    holder: str
    term: int
    address: str
    value: str
    on_outage: str
    in_office: bool = True
    name: str = ""
    since: str = ""


@dataclass(frozen=True, slots=True)
class HealthChange(Record):
    """The health state became another one.

    Attributes:
        state: The state from then on.
        previous: The state before; None if there was none, at the very start.
        diagnosis: Why, as found then.
        since: When, in UTC.
        outage_id: The outage that it belongs to, which a recovery has ended; empty if there is none.
    """

    state: HealthState
    previous: HealthState | None
    diagnosis: Diagnosis
    since: datetime
    outage_id: str


@dataclass(frozen=True, slots=True)
class Change:
    """One configuration key changed.

    Attributes:
        key: The key as `get` would name it.
        value: The new raw value as text (undecodable bytes as surrogate escapes); None if it was deleted.
        revision: The revision at which this was seen. For a change found by a full read, the key's own last
            revision, or for a deletion the revision of that read.
    """

    key: str
    value: str | None
    revision: int


@dataclass(frozen=True, slots=True)
class Written:
    """A write that etcd has applied.

    Attributes:
        revision: The revision it was applied at.
        visible: Whether this process's followed view has already reached that revision. False for a key that
            is not followed, and where the view needed longer than a second.
        absent: Whether it was the deletion of a key that was not there.
    """

    revision: int
    visible: bool
    absent: bool = False
