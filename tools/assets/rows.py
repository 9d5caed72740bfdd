"""What the dashboard shows, row by row, and what is normal in each panel."""

from __future__ import annotations

import json
from urllib.parse import quote

from tools.assets.panels import TEMPO, Row, lines, logs, strip, table, traces

FILTER = 'job=~"$service", instance=~"$instance"'
_NAMED = ', db_namespace=~"$namespace"'


def _now(metric: str, *by: str, where: str = "", how: str = "sum") -> str:
    """Return what a metric shows now, put together by some labels."""
    return f"{how} by ({', '.join(by)}) ({metric}{{{FILTER}{where}}})"


def _rate(metric: str, *by: str, where: str = "", how: str = "sum") -> str:
    """Return by how much a counter grows in a second."""
    return f"{how} by ({', '.join(by)}) (rate({metric}{{{FILTER}{where}}}[$__rate_interval]))"


def _grown(metric: str, *by: str) -> str:
    """Return by how much a counter of rare things has grown; its first time makes the series, and no increase."""
    series, window = f"{metric}{{{FILTER}}}", "$__rate_interval"
    first = f"({series} unless {series} offset {window})"
    return f"sum by ({', '.join(by)}) (increase({series}[{window}]) > 0 or {first})"


def _quantiles(histogram: str, by: str) -> dict[str, str]:
    buckets = _rate(f"{histogram}_bucket", "le", by)
    quantiles = (("median", 0.5), ("99 %", 0.99))
    return {f"{name}, {{{{{by}}}}}": f"histogram_quantile({q}, {buckets})" for name, q in quantiles}


def _explore(query: str) -> str:
    """Return a link to a TraceQL query, in which Grafana fills in its own variables."""
    target = {"refId": "A", "datasource": TEMPO, "queryType": "traceql", "query": query}
    panes = {"t": {"datasource": "${tempo}", "queries": [target], "range": {"from": "${__from}", "to": "${__to}"}}}
    return f"/explore?schemaVersion=1&orgId=1&panes={quote(json.dumps(panes), safe='${}')}"


_NOW = Row(
    "Now",
    [
        [
            strip(
                "States of the fleet",
                "Alerts: Degraded, FleetIsolated. "
                "Processes by how they see etcd. Normal: all green. Orange: members answer, and there is no "
                "usable quorum. Red: no member answers. Some red beside green is the network, not etcd.",
                _now("tideover_component_status", "tideover_state", where=', tideover_component="config"'),
                {"available": "green", "degraded": "orange", "unavailable": "red"},
            )
        ],
        [
            lines(
                "Share of degraded requests",
                "Requests with an answer that etcd could not vouch for. Normal: 0. In an outage near 1 is as "
                "good: they were served.",
                {
                    "{{job}}": _rate("tideover_server_requests_total", "job", where=', tideover_degraded="true"')
                    + " / "
                    + _rate("tideover_server_requests_total", "job")
                },
                unit="percentunit",
            ),
            lines(
                "Oldest age against its limit",
                "Alert: StaleBudget. "
                "Seconds since the configuration was last proven in sync. Normal: below 2. In an outage it grows "
                "by a second a second; beyond the limit reads raise or give their defaults.",
                {
                    "{{job}} {{db_namespace}}": _now(
                        "tideover_config_age_seconds", "job", "db_namespace", where=_NAMED, how="max"
                    ),
                    "limit": "vector($max_stale)",
                },
                unit="s",
            ),
            lines(
                "Time without a usable etcd",
                "Alert: Flapping. Share of the time in which processes were degraded or unavailable. Normal: 0.",
                {
                    "{{job}}: {{tideover_state}}": _rate(
                        "tideover_degraded_time_seconds_total", "job", "tideover_state", how="avg"
                    )
                },
                unit="percentunit",
            ),
        ],
    ],
)

_CONFIG = Row(
    "Configuration",
    [
        [
            lines(
                "Reads by source",
                "Where values came from. Normal: live. In an outage memory; after a restart in one, disk. default "
                "means that nothing was known of a key.",
                {"{{tideover_source}}": _rate("tideover_config_reads_total", "tideover_source")},
                unit="reqps",
            ),
            lines(
                "Refused now",
                "Alert: RejectedValue. "
                "Values in etcd that are refused: an older one or a default is served in their place. Normal: 0.",
                {
                    "{{instance}} {{db_namespace}}": _now(
                        "tideover_config_rejected_active", "instance", "db_namespace", where=_NAMED
                    ),
                    "new, {{job}}": _grown("tideover_config_rejections_total", "job"),
                },
            ),
        ],
        [
            lines(
                "Age of snapshots",
                "Alert: SnapshotAging. "
                "The age that a restart without etcd would begin with. Normal: below 20 s, more for snapshots of "
                "many MiB. Growing while etcd is there: the disk.",
                {
                    "{{job}} {{tideover_component}}": _now(
                        "tideover_snapshot_age_seconds", "job", "tideover_component", where=_NAMED, how="max"
                    )
                },
                unit="s",
            ),
            lines(
                "Size of snapshots",
                "On disk. Normal: as large as what is followed, without jumps.",
                {
                    "{{job}} {{tideover_component}}": _now(
                        "tideover_snapshot_size_bytes", "job", "tideover_component", where=_NAMED, how="max"
                    )
                },
                unit="bytes",
            ),
            lines(
                "Writes of snapshots that failed",
                "Alert: SnapshotFailing. By error. Normal: none.",
                {
                    "{{instance}} {{error_type}}": _rate(
                        "tideover_snapshot_writes_total", "instance", "error_type", where=', error_type!=""'
                    )
                },
                unit="wps",
            ),
        ],
    ],
)

_ELECTIONS = Row(
    "Elections",
    [
        [
            lines(
                "Who leads",
                "Alert: TwoLeaders. "
                'Normal: one line of 1 for each election. Two at once: only on_outage="stay" allows that.',
                {
                    "{{tideover_election}}: {{instance}}": _now(
                        "tideover_election_leader", "tideover_election", "instance"
                    )
                },
            ),
            lines(
                "Standing",
                "What leaders stand on. Normal: held. In an outage confirmed or unconfirmed, as the policy says.",
                {
                    "{{tideover_election}}: {{tideover_standing}}": _now(
                        "tideover_election_leader", "tideover_election", "tideover_standing"
                    )
                },
            ),
            lines(
                "Nobody leads",
                "Alert: NobodyLeads. "
                "Candidates of elections without a leader. Normal: none, but for seconds in a change of leaders.",
                {
                    "{{job}}: {{tideover_election}}": (
                        _now("tideover_election_candidate_active", "job", "db_namespace", "tideover_election")
                        + " > 0 unless on (job, db_namespace, tideover_election) "
                        + _now("tideover_election_leader", "job", "db_namespace", "tideover_election")
                        + " > 0"
                    )
                },
            ),
            lines(
                "Stalls and failed jobs",
                "Event loops that stood still beyond a deadline, and what runs while leading and has raised. "
                "Alert: LoopStalled. "
                "Normal: none.",
                {
                    "stall, {{tideover_election}} at {{instance}}": _grown(
                        "tideover_election_stalls_total", "tideover_election", "instance"
                    ),
                    "{{error_type}}, {{tideover_election}} at {{instance}}": _grown(
                        "tideover_job_failures_total", "tideover_election", "instance", "error_type"
                    ),
                },
            ),
        ]
    ],
)

_LOCKS = Row(
    "Locks",
    [
        [
            lines(
                "Wait for locks",
                "Normal: what your own holds make it. Those with timeout and refused got none.",
                _quantiles("tideover_lock_acquire_duration_seconds", "tideover_outcome"),
                unit="s",
            ),
            lines(
                "Holds of locks",
                "Normal: as long as the work under them. Those with lost and conflict did not have it to the end.",
                _quantiles("tideover_lock_hold_duration_seconds", "tideover_outcome"),
                unit="s",
            ),
            lines(
                "Held now",
                "By mode. Normal: distributed alone. local: for this host alone, in an outage.",
                {"{{tideover_lock_mode}}": _now("tideover_lock_active", "tideover_lock_mode")},
            ),
            lines(
                "Conflicts",
                "Alert: LockConflict. "
                "Two that have held one lock at once; with certain = false, may have. Normal: none.",
                {
                    "certain = {{tideover_lock_certain}}, {{job}}": _grown(
                        "tideover_lock_conflicts_total", "job", "tideover_lock_certain"
                    )
                },
            ),
        ]
    ],
)

_DISCOVERY = Row(
    "Discovery",
    [
        [
            lines(
                "Endpoints by source",
                "Alert: NoEndpoints. "
                "That can be picked, on average over the processes. Normal: live. In an outage memory, or disk "
                "after a restart in one. 0: calls to that service fail.",
                {
                    "{{tideover_service}}: {{tideover_source}}": _now(
                        "tideover_discovery_endpoint_active", "tideover_service", "tideover_source", how="avg"
                    )
                },
            ),
            lines(
                "Ejections",
                "Endpoints left out for a while, because calls to them have failed. Normal: none.",
                {"{{tideover_service}}": _grown("tideover_discovery_ejections_total", "tideover_service")},
            ),
            lines(
                "Registrations not in etcd",
                "Alert: NotRegistered. "
                "Normal: none. unconfirmed: in etcd as far as is known, in an outage. waiting or refused: nobody "
                "finds that process.",
                {
                    "{{tideover_service}}: {{tideover_state}}": _now(
                        "tideover_discovery_registration_active",
                        "tideover_service",
                        "tideover_state",
                        where=', tideover_state!="registered"',
                    )
                },
            ),
        ]
    ],
)

_ETCD = Row(
    "etcd as seen from here",
    [
        [
            lines(
                "Attempts by member and outcome",
                "Calls to etcd. Normal: without an error, spread over the members.",
                {
                    "{{server_address}} {{error_type}}": _rate(
                        "db_client_operation_duration_seconds_count", "server_address", "error_type"
                    )
                },
                unit="reqps",
            ),
            lines(
                "How long attempts take",
                "Normal: milliseconds, as far away as etcd is.",
                _quantiles("db_client_operation_duration_seconds", "db_operation_name"),
                unit="s",
            ),
            table(
                "Members",
                "Members of etcd that processes know of, and how many processes. Normal: one version. unknown: "
                "not told since the member was last away.",
                _now("tideover_backend_member_info", "server_address", "tideover_backend_version"),
            ),
        ],
        [
            lines(
                "Retries",
                "Attempts after a first one that failed. Normal: none, but for seconds in which etcd elects.",
                {
                    "{{db_operation_name}} {{error_type}}": _rate(
                        "tideover_retry_attempts_total", "db_operation_name", "error_type"
                    )
                },
                unit="ops",
            ),
            lines(
                "Refused by breakers",
                "Calls that were not sent, because etcd is known to be away. Normal: none.",
                {"{{tideover_component}}": _rate("tideover_breaker_rejections_total", "tideover_component")},
                unit="ops",
            ),
            lines(
                "Restarts of watches, tasks and histories",
                "Watches begin again when a member goes. A task that does is a fault in tideover. A reset: etcd "
                "was restored or replaced. Normal: none.",
                {
                    "watch of {{tideover_component}}: {{tideover_reason}}": _grown(
                        "tideover_watch_restarts_total", "tideover_component", "tideover_reason"
                    ),
                    "task {{tideover_task}}": _grown("tideover_task_restarts_total", "tideover_task"),
                    "reset, {{job}}": _grown("tideover_backend_resets_total", "job"),
                },
            ),
        ],
    ],
)

_REQUESTS = Row(
    "Requests and lines",
    [
        [
            traces(
                "Degraded requests",
                "Traces of requests that read degraded. Normal: none. The outage's id leads to its span, which "
                "says why and how long.",
                "{ span.tideover.degraded = true } | select(span.tideover.reason, span.tideover.source, "
                "span.tideover.staleness, span.tideover.outage_id)",
                link=_explore('{ name = "tideover.outage" && span.tideover.outage_id = "${__value.raw}" }'),
            )
        ],
        [
            logs(
                "Lines of tideover",
                "What was said. Normal: some INFO at the start, then nothing. service_name is what the shipper of "
                "your logs makes of a service.",
                '{service_name=~"$service"} |= "tideover."',
            )
        ],
    ],
)

ROWS = [_NOW, _CONFIG, _ELECTIONS, _LOCKS, _DISCOVERY, _ETCD, _REQUESTS]
