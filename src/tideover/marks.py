"""The record of one request: which of its answers were degraded.

One mutable record per request travels in a context variable; asyncio tasks and worker threads started within the
request share it. A component is marked once; reads after the first find the mark and go on.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field

from tideover.records import Source


@dataclass(frozen=True, slots=True)
class Mark:
    """The first degraded answer of one component within a request.

    Attributes:
        source: The rung it came from.
        age: Its age in seconds; infinite if unknown.
        reason: Why it was degraded: one of `tideover.reason`'s values.
        outage_id: The outage it belongs to; empty if none was declared.
    """

    source: Source
    age: float
    reason: str
    outage_id: str


@dataclass(slots=True)
class RequestRecord:
    """What is remembered about one request.

    Attributes:
        coordinator: The coordinator the middleware runs; `ambient` knows its type.
        marks: Component name to its mark.
    """

    coordinator: object = None
    marks: dict[str, Mark] = field(default_factory=dict)


current_record: ContextVar[RequestRecord | None] = ContextVar("tideover.request", default=None)
