"""Registrations of this process, and discovered endpoints."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager

from tideover.telemetry.events import event
from tideover.telemetry.scope import Attributes, meter, waiting

_ejections = meter.create_counter(
    "tideover.discovery.ejections",
    unit="{ejection}",
    description="Endpoints not picked for a while after failures.",
)


def registration_changed(service: str, instance: str, what: str, *, level: int = logging.INFO) -> None:
    """Report that an endpoint of this process was registered, or why etcd does not have it."""
    text = f"{service!r}, {instance}: {what}"
    attributes: Attributes = {"tideover.service": service, "tideover.instance": instance}
    event("tideover.registration.change", text, "discovery", attributes, level=level)


def resolving(service: str) -> AbstractContextManager[object]:
    """Record the wait for endpoints of a service; the span is an error only if the wait raises."""
    attributes = {"tideover.component": "discovery", "tideover.service": service}
    return waiting("tideover.discovery.resolve", attributes)


def removals_held(service: str, missing: int, endpoints: int) -> None:
    """Report endpoints that stay listed although etcd no longer has them."""
    text = f"etcd no longer has {missing} of {endpoints} endpoints of {service!r}: their removal is held back"
    attributes: Attributes = {"tideover.service": service}
    event("tideover.discovery.held", text, "discovery", attributes, level=logging.WARNING, about=service)


def endpoint_ejected(service: str, failures: int, seconds: float) -> None:
    """Count and report an endpoint that is not picked for `seconds`."""
    _ejections.add(1, {"tideover.service": service})
    text = f"an endpoint of {service!r} failed {failures} times in a row: not picked for {seconds:.0f} s"
    attributes: Attributes = {"tideover.service": service}
    event("tideover.discovery.ejected", text, "discovery", attributes, level=logging.WARNING, about=service)


def endpoint_rejected(service: str, why: str) -> None:
    """Report a registration in etcd that cannot be used."""
    text = f"an endpoint of {service!r}: {why}"
    attributes: Attributes = {"tideover.service": service}
    event("tideover.discovery.rejected", text, "discovery", attributes, level=logging.ERROR, about=text)
