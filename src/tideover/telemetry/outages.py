"""Outages, and resets of etcd's history."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping

from opentelemetry import trace
from opentelemetry.trace import Span

from tideover.shown import cut
from tideover.status import duration
from tideover.telemetry.events import event
from tideover.telemetry.scope import Attributes, meter, tracer
from tideover.types import Diagnosis, HealthState

_transitions = meter.create_counter(
    "tideover.state.transitions", unit="{transition}", description="Changes of the health state."
)
_resets = meter.create_counter(
    "tideover.backend.resets", unit="{reset}", description="Times that etcd was found to be in another history."
)

# Characters of why etcd is away, in the line that says so.
_LONGEST_REASON = 700

# The present outages that are recorded, by their ids.
present_outages: dict[str, Outages] = {}


class Outages:
    """The coordinator's present outage, if any: one span from declaration to end."""

    def __init__(self, monotonic: Callable[[], float], *, degraded_reads: Callable[[], int]) -> None:
        self.outage_id = ""
        self.requests = 0
        self._monotonic = monotonic
        self._degraded_reads = degraded_reads
        self._span: Span | None = None
        self._reason = ""
        self._states: list[str] = []
        self._reads_before = 0
        self._began_at = 0.0
        # The state, since when, and how long each has lasted before: replaced as one, since the exporter's thread
        # asks for it.
        self._lasted = HealthState.AVAILABLE, monotonic(), dict.fromkeys(HealthState, 0.0)

    @property
    def link(self) -> trace.SpanContext:
        """Where the span of the present outage is."""
        return trace.INVALID_SPAN_CONTEXT if self._span is None else self._span.get_span_context()

    def degraded_seconds(self) -> Mapping[HealthState, float]:
        """Return the seconds that etcd has been degraded, and unavailable, since the start."""
        seconds = self._seconds(self._monotonic())
        return {state: seconds[state] for state in HealthState if state is not HealthState.AVAILABLE}

    def _seconds(self, now: float) -> dict[HealthState, float]:
        state, since, before = self._lasted
        return {**before, state: before[state] + max(0.0, now - since)}

    def transition(
        self,
        previous: HealthState,
        state: HealthState,
        *,
        diagnosis: Diagnosis,
        reason: str,
        sentence: str,
        first: bool,
        age: float = float("inf"),
    ) -> str:
        """Record that the health state changed.

        Args:
            reason: The value of `tideover.reason`; a recovery keeps the reason of its outage.
            age: Seconds since the followed prefixes were last proven in sync; infinite if unknown.

        Returns:
            The id of the outage that the change belongs to, also of the one just ended; empty if there is none.
        """
        now = self._monotonic()
        self._lasted = state, now, self._seconds(now)
        well = state is HealthState.AVAILABLE
        if not well:
            self._reason = reason
        attributes = {
            "tideover.component": "config",
            "tideover.state": state.value,
            "tideover.previous_state": previous.value,
            "tideover.reason": self._reason,
        }
        if not well and self._span is None:
            self._begin({**attributes, "tideover.diagnosis": diagnosis.value})
        if not well and self._states[-1:] != [state.value]:
            self._states.append(state.value)
        outage_id = self.outage_id
        if outage_id:
            attributes["tideover.outage_id"] = outage_id
        if not (first and well):
            # As loud as the outage's beginning, so that every log that shows one shows the other.
            text = self._recovery(diagnosis, sentence) if well else _loss(state, sentence, age)
            event("tideover.state.transition", text, level=logging.WARNING, attributes=attributes)
            counted = {k: v for k, v in attributes.items() if k != "tideover.outage_id"}
            _transitions.add(1, counted)
        if well:
            self.close()
        return outage_id

    def _recovery(self, diagnosis: Diagnosis, sentence: str) -> str:
        lasted = self._monotonic() - self._began_at
        but = "" if diagnosis is Diagnosis.HEALTHY else f", but {sentence}"
        return f"etcd is available again after {duration(lasted)}{but}"

    def _begin(self, attributes: Attributes) -> None:
        self.outage_id = uuid.uuid4().hex[:16]
        self._began_at = self._monotonic()
        self.requests, self._states, self._reads_before = 0, [], self._degraded_reads()
        self._span = tracer.start_span(
            "tideover.outage", attributes={**attributes, "tideover.outage_id": self.outage_id}
        )
        if self._span.is_recording():
            present_outages[self.outage_id] = self

    def close(self) -> None:
        """End the span of the present outage, if there is one."""
        if self._span is not None:
            self._span.set_attributes(
                {
                    "tideover.states": self._states,
                    "tideover.outage.reads": self._degraded_reads() - self._reads_before,
                    "tideover.outage.requests": self.requests,
                }
            )
            self._span.end()
            present_outages.pop(self.outage_id, None)
            self._span, self.outage_id = None, ""


def _loss(state: HealthState, sentence: str, age: float) -> str:
    # What members have said may be long, and must not push out the rest.
    since = f"last in sync {duration(age)} ago; " if age < float("inf") else ""
    why = cut(sentence, _LONGEST_REASON)
    return f"etcd is {state}: {why}; {since}what is known is served meanwhile, and etcd is asked until it answers"


def backend_reset(reason: str, *, epoch: int, revision: int) -> None:
    """Count and report that etcd has another history than before; `reason` says what proves it."""
    _resets.add(1)
    text = f"etcd was restored, rebuilt or replaced: {reason}; now epoch {epoch}, revision {revision}"
    attributes: Attributes = {"tideover.epoch": epoch, "tideover.revision": revision}
    event("tideover.backend.reset", text, "config", attributes, level=logging.WARNING)
