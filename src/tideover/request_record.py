"""The record of one request: which of its answers were degraded.

One mutable record per request travels in a context variable; asyncio tasks and worker threads started within the
request share it, until the request is over. A component is marked once; reads after the first find the mark and
go on.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from tideover.types import LockMode, Source


@dataclass(frozen=True, slots=True)
class Mark:
    """The first degraded answer of one component within a request.

    Attributes:
        source: The rung it came from; of a lock, its mode.
        age: Its age in seconds; infinite if unknown.
        reason: Why it was degraded: one of `tideover.reason`'s values.
        outage_id: The outage it belongs to; empty if none was declared.
    """

    source: Source | LockMode
    age: float
    reason: str
    outage_id: str


@dataclass(slots=True)
class RequestRecord:
    """What is remembered about one request.

    Attributes:
        scope: The request's scope, for answers that are made where there is no request at hand.
        context: Where the span is that was current when the request came; `telemetry` knows its type. Remembered
            because the degraded answer may be got within a span of its own, and because frameworks end theirs with
            the last byte, before the middleware is asked again.
    """

    coordinator: object = None
    context: object = None
    marks: dict[str, Mark] = field(default_factory=dict)
    finished: bool = False
    scope: MutableMapping[str, Any] | None = None


current_record: ContextVar[RequestRecord | None] = ContextVar("tideover.request", default=None)


def present_record() -> RequestRecord | None:
    """Return the record of the request that is being served here; None outside of requests and after their end."""
    record = current_record.get()
    return None if record is None or record.finished else record


# The coordinator of an application's lifespan. That is no request: what it starts lives for days, and a mark made
# in one outage must not hide the next.
current_coordinator: ContextVar[object] = ContextVar("tideover.coordinator.coordinator", default=None)
