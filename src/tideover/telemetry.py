"""What is recorded, under which names: the only module that imports opentelemetry, and only its API.

Frameworks open the SERVER span of a request; it is annotated here, never opened. A degraded request that was
served is no error, so that no stock error panel shows it: the attribute `tideover.degraded` is what makes it
findable. There is no span and no metric call on the warm read path; reads are counted as plain integers and shown
through observable instruments.
"""

from __future__ import annotations

import logging
import time
import uuid
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

from opentelemetry import _logs, metrics, trace
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from tideover.errors import Unavailable
from tideover.marks import Mark, RequestRecord, current_record
from tideover.records import HealthState

_SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
_COMPONENT = "config"

_log = logging.getLogger("tideover")
_tracer = trace.get_tracer("tideover", schema_url=_SCHEMA)
_meter = metrics.get_meter("tideover", schema_url=_SCHEMA)
_events = _logs.get_logger("tideover", schema_url=_SCHEMA)

Attributes = Mapping[str, str | bool | int | float]


# Requests ------------------------------------------------------------------------------------------------------


# Identifies the current span, at half the cost of asking for it.
SpanContext = Context
current_context: Callable[[], SpanContext] = get_current


@contextmanager
def within(context: SpanContext) -> Iterator[None]:
    """Record what is done here as part of another task's span.

    Args:
        context: That task's, from `current_context`.
    """
    token = attach(context)
    try:
        yield
    finally:
        detach(token)


def current_span() -> Span:
    """Return the span of the current context."""
    return trace.get_current_span()


def mark_span(mark: Mark, components: Collection[str]) -> None:
    """Make the current span, and the request's own, findable as degraded.

    Done at the moment of degradation: frameworks end their SERVER span with the last byte of the response.

    Args:
        mark: The first degraded answer of the component to be shown.
        components: All components that gave degraded answers so far.
    """
    span = trace.get_current_span()
    _set_mark(span, mark, components)
    record = current_record.get()
    if record is None:
        return
    if isinstance(record.span, Span) and record.span is not span:
        span = record.span
        _set_mark(span, mark, components)
    outage = _outages.get(mark.outage_id)
    if outage is not None and len(components) == 1:
        span.add_link(outage)


def _set_mark(span: Span, mark: Mark, components: Collection[str]) -> None:
    if not span.is_recording():
        return
    span.set_attributes(
        {
            "tideover.degraded": True,
            "tideover.components": list(components),
            "tideover.reason": mark.reason,
            "tideover.source": mark.source,
            # An unknown age has no number; the attribute is left out rather than invented.
            **({"tideover.staleness": mark.age} if mark.age < float("inf") else {}),
            **({"tideover.outage_id": mark.outage_id} if mark.outage_id else {}),
        }
    )


def finish_request(record: RequestRecord) -> None:
    """Count the request.

    Args:
        record: The request's record, when its application has returned.
    """
    if not record.marks:
        _requests.add(1, {"tideover.degraded": False})
        return
    # All in one word, so that each request is counted once.
    _requests.add(1, {"tideover.degraded": True, "tideover.component": ",".join(sorted(record.marks))})


# Where nobody records anything: to make a span that is none the current one would be most of what it costs.
_UNRECORDED: AbstractContextManager[object] = nullcontext()


# Calls to etcd -------------------------------------------------------------------------------------------------


class AttemptSpan:
    """The CLIENT span of one attempt."""

    __slots__ = ("_span", "error")

    def __init__(self, span: Span) -> None:
        self._span = span
        self.error: str | None = None

    def failed(self, code: str, kind: str) -> None:
        """Mark the attempt as failed.

        Args:
            code: The gRPC status, as its name.
            kind: What it means.
        """
        self.error = kind
        self._span.set_attribute("db.response.status_code", code)
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR))


@contextmanager
def attempt(op: str, namespace: str, member: str, number: int) -> Iterator[AttemptSpan]:
    """Record one attempt of a call to etcd.

    Args:
        op: The operation's name.
        namespace: The coordinator's namespace.
        member: The member's `host:port`.
        number: Which attempt of the call it is, from 1.
    """
    host, _, port = member.rpartition(":")
    base = {"db.system.name": "etcd", "db.operation.name": op, "server.address": host.strip("[]")}
    attributes: dict[str, str | int] = {**base, "db.namespace": namespace, "server.port": int(port)}
    if number > 1:
        attributes["tideover.retry.attempt"] = number - 1
    began = time.perf_counter()
    name = f"{op} {namespace}".rstrip()
    span = _tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
    with _UNRECORDED if span is trace.INVALID_SPAN else trace.use_span(span, end_on_exit=True):
        recorder = AttemptSpan(span)
        try:
            yield recorder
        finally:
            if recorder.error is not None:
                base["error.type"] = recorder.error
            _durations.record(time.perf_counter() - began, base)


def fetching(namespace: str, key: str | None) -> AbstractContextManager[object]:
    """Record a `config.fetch`; served by a fallback it is no error.

    Args:
        namespace: The coordinator's namespace.
        key: The key, if keys may be recorded.
    """
    attributes = {"db.namespace": namespace, "tideover.component": _COMPONENT}
    if key is not None:
        attributes["tideover.config.key"] = key
    span = _tracer.start_span("tideover.config.fetch", attributes=attributes)
    if span is trace.INVALID_SPAN:
        return _UNRECORDED
    # Messages of errors name keys, and a value that cannot be decoded.
    return _fetch_span(span, record_exception=key is not None)


@contextmanager
def _fetch_span(span: Span, *, record_exception: bool) -> Iterator[Span]:
    with trace.use_span(span, end_on_exit=True, record_exception=record_exception, set_status_on_exception=False):
        try:
            yield span
        except Exception as exc:
            span.set_attribute("error.type", type(exc).__name__)
            span.set_status(Status(StatusCode.ERROR))
            raise


def retried(op: str, kind: str) -> None:
    """Count a second or later attempt, and why."""
    _retries.add(1, {"db.operation.name": op, "error.type": kind})


def rejected_by_breaker() -> None:
    """Count a call that was refused without a packet."""
    _breaker_rejections.add(1, {"tideover.component": _COMPONENT})


def watch_restarted(reason: str) -> None:
    """Count a watch that ended, and why."""
    _watch_restarts.add(1, {"tideover.reason": reason})


def snapshot_written(error: str | None) -> None:
    """Count an attempt to write a snapshot.

    Args:
        error: The error's type; None if it was written.
    """
    _snapshot_writes.add(1, {} if error is None else {"error.type": error})


# Outages -------------------------------------------------------------------------------------------------------


# Where the span of each present outage is, for links.
_outages: dict[str, trace.SpanContext] = {}


class Outages:
    """The outage a coordinator is in, if any: one span from its declaration to its end."""

    def __init__(self) -> None:
        self._span: Span | None = None
        self._reason = ""
        self.outage_id = ""

    def __repr__(self) -> str:
        """Show the present outage's id."""
        return f"<Outages {self.outage_id or 'none'}>"

    def transition(
        self, previous: HealthState, state: HealthState, *, reason: str, sentence: str, first: bool
    ) -> None:
        """Record that the health state changed.

        Args:
            previous: The state before.
            state: The state now.
            reason: Why, as `tideover.reason` says it; a recovery is recorded with the reason of its outage.
            sentence: Why, for people.
            first: Whether this is the first verdict after the start.
        """
        well = state is HealthState.AVAILABLE
        if not well:
            self._reason = reason
        attributes = {
            "tideover.component": _COMPONENT,
            "tideover.state": state.value,
            "tideover.previous_state": previous.value,
            "tideover.reason": self._reason,
        }
        if not well and self._span is None:
            self.outage_id = uuid.uuid4().hex[:16]
            self._span = _tracer.start_span("tideover.outage", attributes=attributes)
            self._span.set_attribute("tideover.outage_id", self.outage_id)
            if self._span.is_recording():
                _outages[self.outage_id] = self._span.get_span_context()
        if self.outage_id:
            attributes["tideover.outage_id"] = self.outage_id
        if not (first and well):
            # The end of an outage as loudly as its beginning: whoever saw the one must see the other.
            text = f"etcd is {state}: {sentence}"
            event("tideover.state.transition", text, attributes, level=logging.WARNING)
            counted = {k: v for k, v in attributes.items() if k != "tideover.outage_id"}
            _transitions.add(1, counted)
        if well:
            self.close()

    def close(self) -> None:
        """End the span of the outage, if there is one: it is over, or the coordinator is."""
        if self._span is not None:
            self._span.end()
            _outages.pop(self.outage_id, None)
            self._span, self.outage_id = None, ""


_SEVERITIES = {
    logging.INFO: _logs.SeverityNumber.INFO,
    logging.WARNING: _logs.SeverityNumber.WARN,
    logging.ERROR: _logs.SeverityNumber.ERROR,
}


def event(name: str, text: str, attributes: Attributes, *, level: int = logging.INFO) -> None:
    """Emit a log event, and the same line to `logging`.

    Args:
        name: The event's name.
        text: The line for people.
        attributes: What it is about.
        level: The `logging` level.
    """
    _log.log(level, "%s: %s", name, text)
    _events.emit(
        _logs.LogRecord(
            timestamp=time.time_ns(),
            severity_number=_SEVERITIES[level],
            severity_text=logging.getLevelName(level),
            body=text,
            attributes=dict(attributes),
            event_name=name,
        )
    )


def config_rejected(key: str, revision: int, why: str) -> None:
    """Report a value that could not be decoded or was not valid; the last good one stays.

    Args:
        key: The key.
        revision: The revision refused.
        why: What is wrong with it.
    """
    _rejections.add(1)
    attributes: Attributes = {"tideover.component": _COMPONENT, "tideover.revision": revision}
    event("tideover.config.rejected", f"{key!r} at revision {revision}: {why}", attributes, level=logging.ERROR)


def snapshot_rejected(path: str, why: str) -> None:
    """Report a snapshot file that cannot be used."""
    attributes = {"tideover.component": _COMPONENT}
    event("tideover.snapshot.rejected", f"{path}: {why}", attributes, level=logging.ERROR)


def backend_reset(reason: str, *, epoch: int, revision: int) -> None:
    """Report that etcd is in another history than before.

    Args:
        reason: What proves it.
        epoch: The epoch from now on.
        revision: The new history's revision.
    """
    _resets.add(1)
    attributes: Attributes = {
        "tideover.component": _COMPONENT,
        "tideover.epoch": epoch,
        "tideover.revision": revision,
    }
    text = f"etcd was restored, rebuilt or replaced: {reason}; now epoch {epoch}, revision {revision}"
    event("tideover.backend.reset", text, attributes, level=logging.WARNING)


def member_foreign(member: str, theirs: str, ours: str) -> None:
    """Report an endpoint that belongs to another cluster than the others.

    Args:
        member: The endpoint.
        theirs: The cluster it belongs to.
        ours: The cluster in use.
    """
    attributes: Attributes = {"tideover.component": _COMPONENT, "server.address": member}
    text = f"{member} belongs to cluster {theirs}, not to {ours}: it is not used; correct the list of endpoints"
    event("tideover.member.foreign", text, attributes, level=logging.ERROR)


# Elections -----------------------------------------------------------------------------------------------------


@contextmanager
def campaigning(namespace: str, election: str) -> Iterator[None]:
    """Record the wait for an election; it is an error only if it can never be won.

    Args:
        namespace: The coordinator's namespace.
        election: The election.
    """
    attributes = {"db.namespace": namespace, "tideover.component": "election", "tideover.election": election}
    with _tracer.start_as_current_span(
        "tideover.election.campaign",
        attributes=attributes,
        record_exception=False,  # their messages name keys
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except Exception as exc:
            span.set_attribute("error.type", type(exc).__name__)
            span.set_status(Status(StatusCode.ERROR))
            raise


def leadership_changed(election: str, what: str, *, token: int, standing: str = "") -> None:
    """Report that this process leads, leads on other grounds, or leads no more.

    Args:
        election: The election.
        what: `"elected"`, `"resigned"`, or why it was lost.
        token: The fencing token of the term.
        standing: On what ground it leads; empty if it does not.
    """
    planned = what in ("elected", "resigned", "confirmed", "confirmed by the other candidates")
    attributes: dict[str, str | bool | int | float] = {
        "tideover.component": "election",
        "tideover.election": election,
        "tideover.election.token": token,
        **({"tideover.standing": standing} if standing else {}),
    }
    text = f"{election!r}, token {token}: {what}"
    level = logging.INFO if planned else logging.WARNING
    event("tideover.leadership.change", text, attributes, level=level)


def loop_stalled(election: str, *, token: int, late: float, stack: str) -> None:
    """Report that the event loop is blocked beyond the deadline of what is led by it. Called by another thread.

    Args:
        election: The election.
        token: The fencing token of the term.
        late: Seconds beyond the deadline.
        stack: Where the loop is.
    """
    _stalls.add(1, {"tideover.election": election})
    attributes: Attributes = {
        "tideover.component": "election",
        "tideover.election": election,
        "tideover.election.token": token,
    }
    text = (
        f"{election!r}, token {token}: the event loop is blocked, {late:.1f} s beyond the deadline; another "
        f"process may be elected while it is. It is here:\n{stack}"
    )
    event("tideover.election.stall", text, attributes, level=logging.ERROR)


# Registrations -------------------------------------------------------------------------------------------------


def registration_changed(service: str, instance: str, what: str, *, level: int = logging.INFO) -> None:
    """Report that an endpoint of this process came to be in etcd, or why it is not there.

    Args:
        service: The service.
        instance: The instance.
        what: `"registered"`, `"registered again"`, or what has happened to it.
        level: The `logging` level.
    """
    attributes: dict[str, str | bool | int | float] = {
        "tideover.component": "discovery",
        "tideover.service": service,
        "tideover.instance": instance,
    }
    event("tideover.registration.change", f"{service!r}, {instance}: {what}", attributes, level=level)


# Discovery -----------------------------------------------------------------------------------------------------


@contextmanager
def resolving(service: str) -> Iterator[None]:
    """Record the wait for endpoints of a service; it is an error only if it raises.

    Args:
        service: The service.
    """
    attributes = {"tideover.component": "discovery", "tideover.service": service}
    with _tracer.start_as_current_span(
        "tideover.discovery.resolve", attributes=attributes, set_status_on_exception=False
    ) as span:
        try:
            yield
        except Exception as exc:
            span.set_attribute("error.type", type(exc).__name__)
            span.set_status(Status(StatusCode.ERROR))
            raise


def removals_held(service: str, missing: int, endpoints: int) -> None:
    """Report that endpoints are still listed which etcd no longer has.

    Args:
        service: The service.
        missing: How many.
        endpoints: Of how many.
    """
    attributes: Attributes = {"tideover.component": "discovery", "tideover.service": service}
    text = f"etcd no longer has {missing} of {endpoints} endpoints of {service!r}: their removal is held back"
    event("tideover.discovery.held", text, attributes, level=logging.WARNING)


def endpoint_ejected(service: str, failures: int, seconds: float) -> None:
    """Count and report an endpoint that is not picked for a while.

    Args:
        service: The service.
        failures: After how many failures in a row.
        seconds: For how long.
    """
    attributes: Attributes = {"tideover.component": "discovery", "tideover.service": service}
    _ejections.add(1, {"tideover.service": service})
    text = f"an endpoint of {service!r} failed {failures} times in a row: not picked for {seconds:.0f} s"
    event("tideover.discovery.ejected", text, attributes, level=logging.WARNING)


def endpoint_rejected(service: str, why: str) -> None:
    """Report a registration in etcd that cannot be used.

    Args:
        service: The service.
        why: What is wrong with it.
    """
    attributes: Attributes = {"tideover.component": "discovery", "tideover.service": service}
    event("tideover.discovery.rejected", f"an endpoint of {service!r}: {why}", attributes, level=logging.ERROR)


# Locks ---------------------------------------------------------------------------------------------------------


def acquiring(namespace: str, name: str | None) -> AbstractContextManager[object]:
    """Record the wait for a lock; it is an error only if it raises.

    Args:
        namespace: The coordinator's namespace.
        name: The lock, if names may be recorded.
    """
    attributes = {"db.namespace": namespace, "tideover.component": "lock"}
    if name is not None:
        attributes["tideover.lock.name"] = name
    span = _tracer.start_span("tideover.lock.acquire", attributes=attributes)
    # Messages of errors name the lock.
    return _UNRECORDED if span is trace.INVALID_SPAN else _acquire_span(span, record_exception=name is not None)


@contextmanager
def _acquire_span(span: Span, *, record_exception: bool) -> Iterator[Span]:
    with trace.use_span(span, end_on_exit=True, record_exception=record_exception, set_status_on_exception=False):
        try:
            yield span
        except Unavailable:
            # Whether that is an error is decided by what the caller wants in an outage.
            raise
        except Exception as exc:
            span.set_attribute("error.type", type(exc).__name__)
            span.set_status(Status(StatusCode.ERROR))
            raise


def lock_waited(outcome: str, seconds: float, *, degraded: bool) -> None:
    """Record how long somebody waited for a lock.

    Args:
        outcome: `"ok"`, `"local"`, `"timeout"` or `"refused"`.
        seconds: How long.
        degraded: Whether an outage was declared at the end.
    """
    _lock_waits.record(seconds, {"tideover.outcome": outcome, "tideover.degraded": degraded})


def lock_released(outcome: str, seconds: float, *, degraded: bool) -> None:
    """Record how long a lock was held.

    Args:
        outcome: `"ok"`, `"local"`, `"lost"` or `"conflict"`.
        seconds: How long.
        degraded: Whether it touched an outage.
    """
    _lock_holds.record(seconds, {"tideover.outcome": outcome, "tideover.degraded": degraded})


def locks_active(mode: str, change: int) -> None:
    """Count locks that are held.

    Args:
        mode: On what ground.
        change: 1 for one more, -1 for one less.
    """
    _locks_active.add(change, {"tideover.lock.mode": mode})


def lock_turned(name: str, mode: str, why: str) -> None:
    """Report that a lock is held on other ground than before."""
    attributes: Attributes = {"tideover.component": "lock", "tideover.lock.mode": mode}
    event("tideover.lock.turned", f"{name!r} is {mode} now: {why}", attributes, level=logging.WARNING)


def lock_lost(name: str, why: str) -> None:
    """Report that a lock was lost while its body ran."""
    attributes: Attributes = {"tideover.component": "lock"}
    event("tideover.lock.lost", f"{name!r}: {why}", attributes, level=logging.WARNING)


def lock_conflict(name: str, what: str, *, certain: bool) -> None:
    """Report that two have held one lock at once, or may have.

    Args:
        name: The lock.
        what: Who and when.
        certain: Whether the clocks leave no doubt.
    """
    attributes: Attributes = {"tideover.component": "lock", "tideover.lock.certain": certain}
    _lock_conflicts.add(1, {"tideover.lock.certain": certain})
    text = f"{name!r}: {what} ({'certain' if certain else 'possible'})"
    event("tideover.lock.conflict", text, attributes, level=logging.ERROR if certain else logging.WARNING)


# Instruments ---------------------------------------------------------------------------------------------------


class Observed(Protocol):
    """What an open coordinator shows to observable instruments."""

    @property
    def namespace(self) -> str:
        """The coordinator's namespace."""
        ...

    def observe_state(self) -> HealthState:
        """Return the health state now."""
        ...

    def observe_reads(self) -> Mapping[tuple[str, bool], int]:
        """Return how many reads there were, by source and whether they were degraded."""
        ...

    def observe_age(self) -> float:
        """Return the age in seconds of the oldest followed prefix."""
        ...

    def observe_endpoints(self) -> Mapping[tuple[str, str], int]:
        """Return how many endpoints can be picked, by service and source."""
        ...

    def observe_registrations(self) -> Mapping[tuple[str, str], int]:
        """Return how many endpoints are registered here, by service and state."""
        ...

    def observe_leaders(self) -> Mapping[tuple[str, str], int]:
        """Return how many elections are led here, by election and standing."""
        ...


_open: weakref.WeakSet[Observed] = weakref.WeakSet()


def observe(coordinator: Observed) -> None:
    """Show a coordinator through the observable instruments."""
    _open.add(coordinator)


def unobserve(coordinator: Observed) -> None:
    """Show a coordinator no longer."""
    _open.discard(coordinator)


def _observing(
    per_coordinator: Callable[[Observed], Iterable[Observation]],
) -> list[Callable[[CallbackOptions], Iterable[Observation]]]:
    def callback(_: CallbackOptions) -> Iterable[Observation]:
        for coordinator in list(_open):
            yield from per_coordinator(coordinator)

    return [callback]


def _observe_state(coordinator: Observed) -> Iterable[Observation]:
    now = coordinator.observe_state()
    for state in HealthState:
        yield Observation(int(state is now), {"tideover.component": _COMPONENT, "tideover.state": state.value})


def _observe_reads(coordinator: Observed) -> Iterable[Observation]:
    for (source, degraded), count in coordinator.observe_reads().items():
        yield Observation(count, {"tideover.source": source, "tideover.degraded": degraded})


def _observe_age(coordinator: Observed) -> Iterable[Observation]:
    age = coordinator.observe_age()
    if age < float("inf"):
        yield Observation(age, {"db.namespace": coordinator.namespace})


def _observe_leaders(coordinator: Observed) -> Iterable[Observation]:
    for (election, standing), count in coordinator.observe_leaders().items():
        yield Observation(count, {"tideover.election": election, "tideover.standing": standing})


def _observe_endpoints(coordinator: Observed) -> Iterable[Observation]:
    for (service, source), count in coordinator.observe_endpoints().items():
        yield Observation(count, {"tideover.service": service, "tideover.source": source})


def _observe_registrations(coordinator: Observed) -> Iterable[Observation]:
    for (service, state), count in coordinator.observe_registrations().items():
        yield Observation(count, {"tideover.service": service, "tideover.state": state})


_durations = _meter.create_histogram(
    "db.client.operation.duration",
    unit="s",
    description="Duration of one attempt of a call to etcd.",
    explicit_bucket_boundaries_advisory=[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10],
)
_requests = _meter.create_counter(
    "tideover.server.requests", unit="{request}", description="Requests served, and whether degraded."
)
_transitions = _meter.create_counter(
    "tideover.state.transitions", unit="{transition}", description="Changes of the health state."
)
_rejections = _meter.create_counter(
    "tideover.config.rejections", unit="{rejection}", description="Configuration values refused."
)
_resets = _meter.create_counter(
    "tideover.backend.resets", unit="{reset}", description="Times that etcd was found to be in another history."
)
_retries = _meter.create_counter(
    "tideover.retry.attempts", unit="{attempt}", description="Second and later attempts of calls to etcd."
)
_breaker_rejections = _meter.create_counter(
    "tideover.breaker.rejections", unit="{rejection}", description="Calls refused without a packet."
)
_watch_restarts = _meter.create_counter(
    "tideover.watch.restarts", unit="{restart}", description="Watches that ended and were opened again."
)
_snapshot_writes = _meter.create_counter(
    "tideover.snapshot.writes", unit="{write}", description="Snapshots written, or not."
)
_lock_waits = _meter.create_histogram(
    "tideover.lock.acquire.duration",
    unit="s",
    description="How long a lock was waited for.",
    explicit_bucket_boundaries_advisory=[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60],
)
_lock_holds = _meter.create_histogram(
    "tideover.lock.hold.duration",
    unit="s",
    description="How long a lock was held.",
    explicit_bucket_boundaries_advisory=[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60],
)
_locks_active = _meter.create_up_down_counter(
    "tideover.lock.active", unit="{lock}", description="Locks held, by what ground they are held on."
)
_lock_conflicts = _meter.create_counter(
    "tideover.lock.conflicts", unit="{conflict}", description="Locks that two held at once, or may have."
)
_stalls = _meter.create_counter(
    "tideover.election.stalls",
    unit="{stall}",
    description="Times that the event loop was blocked beyond the deadline of what was led by it.",
)
_meter.create_observable_up_down_counter(
    "tideover.component.status",
    callbacks=_observing(_observe_state),
    unit="{component}",
    description="1 for the health state that holds now, 0 for the others.",
)
_meter.create_observable_counter(
    "tideover.config.reads",
    callbacks=_observing(_observe_reads),
    unit="{read}",
    description="Configuration reads by source.",
)
_meter.create_observable_gauge(
    "tideover.config.age",
    callbacks=_observing(_observe_age),
    unit="s",
    description="Age of the oldest followed prefix.",
)
_meter.create_observable_up_down_counter(
    "tideover.election.leader",
    callbacks=_observing(_observe_leaders),
    unit="{leader}",
    description="Elections led here; over all processes the sum per election should be at most 1.",
)
_ejections = _meter.create_counter(
    "tideover.discovery.ejections",
    unit="{ejection}",
    description="Endpoints not picked for a while after failures.",
)
_meter.create_observable_up_down_counter(
    "tideover.discovery.endpoint.active",
    callbacks=_observing(_observe_endpoints),
    unit="{endpoint}",
    description="Endpoints that can be picked, by service and where the list comes from.",
)
_meter.create_observable_up_down_counter(
    "tideover.discovery.registration.active",
    callbacks=_observing(_observe_registrations),
    unit="{registration}",
    description="Endpoints that this process has registered, by how far they are in etcd.",
)
