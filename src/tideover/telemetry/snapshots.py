"""Snapshots on disk: those written, and those that cannot be used."""

from __future__ import annotations

import logging

from tideover.telemetry.events import event
from tideover.telemetry.scope import meter
from tideover.types import Component

_writes = meter.create_counter(
    "tideover.snapshot.writes", unit="{write}", description="Snapshots written, or not."
)


def snapshot_rejected(component: Component, path: str, why: str) -> None:
    """Report a snapshot file that cannot be used."""
    event("tideover.snapshot.rejected", f"{path}: {why}", component, level=logging.ERROR, about=path)


def snapshot_put_aside(component: Component, path: str, place: str, why: str) -> None:
    """Report that an unusable snapshot file was renamed from `path` to `place`."""
    text = f"{path} is kept as {place}, and another one is written: {why}"
    event("tideover.snapshot.put_aside", text, component, level=logging.WARNING, about=place)


def snapshot_failed(component: Component | None, what: str) -> None:
    """Report that a component's snapshot could not be written, or for None that none can be."""
    event("tideover.snapshot.failed", what, component or "", level=logging.WARNING)


def snapshot_written(component: Component, error: str | None) -> None:
    """Count an attempt to write a snapshot, and the type of its error if it failed."""
    attributes = {"tideover.component": component}
    _writes.add(1, attributes if error is None else {**attributes, "error.type": error})
