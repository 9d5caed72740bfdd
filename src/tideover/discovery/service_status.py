"""A followed service as the status shows it."""

from __future__ import annotations

from tideover.discovery.service import Service
from tideover.status import EndpointStatus, ServiceStatus

# How many endpoints of a service the status shows.
_MOST_LISTED = 100


def describe_service(service: Service) -> ServiceStatus:
    """Return the status of a service."""
    view, keeper = service.view, service.followed.keeper
    return ServiceStatus(
        name=service.name,
        source=view.source,
        revision=view.freshness.reached,
        age=view.age,
        endpoints=len(service.endpoints),
        drained=sum(e.weight == 0 for e in service.endpoints),
        ejected=len(service.picker.ejected),
        held=len(service.held),
        refused=tuple(refused.reason for refused in service.refused),
        denied=view.denied is not None,
        error=view.error,
        snapshot_error=keeper.error if keeper else None,
        listed=_listed(service),
    )


def _listed(service: Service) -> tuple[EndpointStatus, ...]:
    """Return the endpoints as the status shows them, the drained and ejected ones first."""
    gone, picker = {e.instance for e in service.held}, service.picker
    out = picker.ejected
    found = []
    for e in sorted(service.endpoints, key=lambda e: e.weight != 0 and e not in out)[:_MOST_LISTED]:
        back_in = picker.back_in(e)
        use = "drained" if e.weight == 0 else "picked" if back_in is None else "ejected"
        found.append(EndpointStatus(e.instance, e.url, e.weight, use, e.instance in gone, back_in))
    return tuple(found)
