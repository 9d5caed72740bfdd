"""Spans, metrics and log events: the only package that imports opentelemetry, and only its API.

Frameworks open the SERVER span of a request; tideover annotates that span and opens none. A degraded request that
was served is no error, so that no stock error panel shows it: the attribute `tideover.degraded` makes the request
findable. There is no span and no metric call on the warm read path; reads are counted as plain integers and shown
through observable instruments. Each module has the spans, events and instruments of one subject; nothing here
decides anything.
"""

from tideover.telemetry.calls import AttemptSpan, attempt, rejected_by_breaker, retried, watch_restarted
from tideover.telemetry.configs import (
    config_applied,
    config_recovered,
    config_rejected,
    config_restored,
    config_stood_in,
    config_unfound,
    fetching,
    prefix_refused,
)
from tideover.telemetry.discovery import (
    endpoint_ejected,
    endpoint_rejected,
    registration_changed,
    removals_held,
    resolving,
)
from tideover.telemetry.elections import (
    campaigning,
    election_reset,
    job_ended,
    job_failed,
    leadership_changed,
    loop_stalled,
    peers_noted,
)
from tideover.telemetry.locks import (
    acquiring,
    hold_rejected,
    ledger_failed,
    lock_conflict,
    lock_lost,
    lock_released,
    lock_turned,
    lock_waited,
    locks_active,
    locks_unhosted,
    place_rejected,
)
from tideover.telemetry.members import (
    backend_alarm,
    backend_untold,
    epoch_unshared,
    member_foreign,
    member_proxied,
    member_unused,
    members_unlisted,
    tls_kept,
    transport_proxied,
)
from tideover.telemetry.observing import Observed, observe, unobserve
from tideover.telemetry.outages import Outages, backend_reset
from tideover.telemetry.pages import page_open
from tideover.telemetry.requests import (
    SpanContext,
    current_context,
    finish_request,
    leave_span,
    mark_span,
    request_failed,
    within,
)
from tideover.telemetry.sessions import session_changed, session_left
from tideover.telemetry.snapshots import snapshot_failed, snapshot_put_aside, snapshot_rejected, snapshot_written
from tideover.telemetry.targets import environment_read, namespace_misspelled, secret_exposed
from tideover.telemetry.tasks import task_failed

__all__ = [
    "AttemptSpan",
    "Observed",
    "Outages",
    "SpanContext",
    "acquiring",
    "attempt",
    "backend_alarm",
    "backend_reset",
    "backend_untold",
    "campaigning",
    "config_applied",
    "config_recovered",
    "config_rejected",
    "config_restored",
    "config_stood_in",
    "config_unfound",
    "current_context",
    "election_reset",
    "endpoint_ejected",
    "endpoint_rejected",
    "environment_read",
    "epoch_unshared",
    "fetching",
    "finish_request",
    "hold_rejected",
    "job_ended",
    "job_failed",
    "leadership_changed",
    "leave_span",
    "ledger_failed",
    "lock_conflict",
    "lock_lost",
    "lock_released",
    "lock_turned",
    "lock_waited",
    "locks_active",
    "locks_unhosted",
    "loop_stalled",
    "mark_span",
    "member_foreign",
    "member_proxied",
    "member_unused",
    "members_unlisted",
    "namespace_misspelled",
    "observe",
    "page_open",
    "peers_noted",
    "place_rejected",
    "prefix_refused",
    "registration_changed",
    "rejected_by_breaker",
    "removals_held",
    "request_failed",
    "resolving",
    "retried",
    "secret_exposed",
    "session_changed",
    "session_left",
    "snapshot_failed",
    "snapshot_put_aside",
    "snapshot_rejected",
    "snapshot_written",
    "task_failed",
    "tls_kept",
    "transport_proxied",
    "unobserve",
    "watch_restarted",
    "within",
]
