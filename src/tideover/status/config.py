"""The records of the configuration: prefixes, limits, keys, and refused values."""

from __future__ import annotations

from typing import Literal

from tideover.records import UnknownAge, record
from tideover.status.bounded import BoundedRecord
from tideover.types import Source

StandIn = Literal["", "default", "accepted"]


@record
class LimitStatus(BoundedRecord):
    """How old the values of one prefix may be, and how old they are.

    Attributes:
        prefix: The prefix, as given to `limits`.
        max_stale: Seconds that a value may be old.
        on_stale: What happens beyond that: `"serve"`, `"default"` or `"raise"`.
        age: Seconds since the oldest of what it limits was last proven in sync; infinite if unknown, and null in
            JSON.
        over: Whether that is beyond the limit.
        keys: How many keys it limits; those with a limit of their own, of a longer prefix, are not among them.
        then: What happens beyond it, in words: `"raises TooStale"`.
    """

    prefix: str
    max_stale: float
    on_stale: str
    age: UnknownAge | float
    over: bool
    keys: int
    then: str


@record
class PrefixStatus(BoundedRecord):
    """One followed prefix.

    Attributes:
        prefix: The prefix, as given to `follow`.
        source: The rung of its values; None if it was never read.
        revision: The revision its content corresponds to.
        age: Seconds since it was last proven in sync; infinite if unknown, and null in JSON.
        keys: How many keys it holds.
        resets: How often another history replaced the content.
        epoch: The epoch of its content: after a reset the one before, until the prefix has been read again.
        error: The last failure to follow it; None while all is well.
        snapshot_error: Why the last snapshot could not be written; None if it could.
        denied: Whether a quorum refuses to let this client read it: `get` raises, whatever is held.
        etcd_prefix: The prefix as etcd has it.
        limit: The limit of all its keys; None if there is none, or only of some.
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
    etcd_prefix: str = ""
    limit: LimitStatus | None = None


@record
class RejectedValue(BoundedRecord):
    """A value in etcd that is not being served.

    Attributes:
        key: The key, as `get` names it; outside of the configuration as etcd has it.
        revision: The revision refused.
        reason: Why.
        served: The revision that is served instead; 0 if none is.
        etcd_key: The key as etcd has it.
        instead: What a settings object serves that has had no valid values since it was bound: `"default"`, its
            class's defaults for the refused values, or `"accepted"`, values that the class accepted before; else
            empty.
    """

    key: str
    revision: int
    reason: str
    served: int = 0
    etcd_key: str = ""
    instead: StandIn = ""


@record
class KeyStatus(BoundedRecord):
    """One followed key; never its value.

    Attributes:
        key: The key, as `get` names it.
        etcd_key: The key as etcd has it.
        prefix: The followed prefix that it belongs to, as given to `follow`.
        revision: The revision that is served; 0 if it is refused, and no earlier one is served.
        source: The rung of its value.
        age: Seconds since it was last proven in sync; infinite if unknown, and null in JSON.
        refused: The revision of a newer value that is refused; None if there is none.
        reason: Why that is refused; None if nothing is.
        over: Whether it is older than its limit allows.
    """

    key: str
    etcd_key: str
    prefix: str
    revision: int
    source: Source
    age: UnknownAge | float
    refused: int | None
    reason: str | None
    over: bool


@record
class KeyPage(BoundedRecord):
    """Some of the followed keys, in their order.

    Attributes:
        keys: The keys of this page.
        skipped: How many that match come before them.
        matching: How many match in all.
        total: How many are followed in all.
    """

    keys: tuple[KeyStatus, ...]
    skipped: int
    matching: int
    total: int
