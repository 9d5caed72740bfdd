"""All rows, in the order of the table."""

from __future__ import annotations

from benchmarks import (
    fastapi_setting,
    fetch_refused,
    flags,
    fleet,
    followed_keys,
    locks,
    middleware,
    outage_read,
    pick,
    point_reads,
    propagation,
    recovery,
    requirements,
    start,
    status_report,
    telemetry,
    warm_get,
    warm_models,
    with_config,
    worst_cases,
)
from benchmarks.harness import Row

ROWS: tuple[Row, ...] = (
    warm_get.ROW,
    warm_models.ROW,
    with_config.ROW,
    flags.ROW,
    middleware.ROW,
    requirements.ROW,
    fastapi_setting.ROW,
    outage_read.ROW,
    telemetry.ROW,
    pick.ROW,
    status_report.ROW,
    fetch_refused.ROW,
    point_reads.ROW,
    start.ROW,
    followed_keys.ROW,
    propagation.ROW,
    recovery.ROW,
    fleet.ROW,
    locks.ROW,
    locks.CONTENDED,
    worst_cases.ROW,
)
