"""The records of the primitives: one row each, with the same columns for all."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from tideover.records import UnknownAge, record
from tideover.status.bounded import BoundedRecord
from tideover.status.statements import Statement
from tideover.types import Component, HealthState


@record
class PrimitiveStatus(BoundedRecord):
    """The state of one of the four primitives in this process.

    Attributes:
        component: `"config"`, `"discovery"`, `"election"` or `"lock"`.
        what: How much of it this process uses: `"12 keys, 4 prefixes"`.
        state: How much of it works; None if this process makes no use of it.
        since: When that began.
        seconds: For how many seconds it has lasted.
        source: Where its answers come from: a rung of the ladder for configuration and discovery; `"record"`,
            `"peers"` or `"own record"` for elections; `"lease"` or `"host lock"` for locks. None if it has none.
        age: Seconds since the oldest of it was last proven; infinite if unknown, and null in JSON. None if nothing
            is there to be proven.
        limit: Seconds that it may be old: a `max_stale`, or a ttl; None if there is no limit.
        limit_of: The prefix whose limit that is; empty for a ttl, or where there is none.
        over: Whether the age is beyond the limit, or of what is renewed, whether its deadline has passed.
        limit_words: Age and limit in words, without the age: `"of 5 min, payments/"`, `"no limit"`.
        error: The last failure; None while all is well.
        next_probe: Seconds until etcd is next looked at.
    """

    component: Component
    what: str
    state: HealthState | None
    since: datetime
    seconds: float
    source: str | None
    age: UnknownAge | float | None
    limit: float | None
    limit_of: str
    over: bool
    limit_words: str
    error: str | None
    next_probe: float


@record
class NoteStatus(BoundedRecord):
    """What an operator has to know about one part of the report.

    Attributes:
        about: The part: `"config"`, `"discovery"`, `"election"`, `"lock"`, `"members"` or `"process"`.
        tone: `"bad"` for an outage and what it does, `"warn"` for what needs attention, `"plain"` for the rest.
        text: One or two sentences, with at most one age that goes on counting.
        name: The key, election, lock, member or service that it is about; empty if it is about all of them.
    """

    about: str
    tone: Literal["bad", "warn", "plain"]
    text: Statement
    name: str = ""
