"""Services that this process follows, and its registrations."""

from __future__ import annotations

from tideover.asgi.status_page.ages import Ages
from tideover.asgi.status_page.words import (
    Facts,
    Phrase,
    alert,
    cut,
    notes,
    old,
    source_tone,
    source_word,
)
from tideover.coordinator.rules.words import counted
from tideover.status import EndpointStatus, RegistrationStatus, ServiceStatus, StatusReport
from tideover.types import RegistrationState, Source

_TONES = {
    RegistrationState.REGISTERED: "ok",
    RegistrationState.UNCONFIRMED: "warn",
    RegistrationState.WAITING: "bad",
    RegistrationState.REFUSED: "bad",
    RegistrationState.ENDED: "none",
}


def services(report: StatusReport, ages: Ages) -> Facts:
    """Return a list of endpoints for each service, and the registrations."""
    followed, more = cut(report.services, 20)
    registrations, registrations_more = cut(report.registrations, 20)
    return {
        "note": f"{len(report.services)} followed, {len(report.registrations)} registered from here",
        "services": [_service(each, ages) for each in followed],
        "more": more,
        "registrations": [_registration(each, ages) for each in registrations],
        "registrations_more": registrations_more,
        "alerts": notes(report, ages, "discovery"),
    }


def _service(service: ServiceStatus, ages: Ages) -> Facts:
    rows, _ = cut(service.listed, 20)
    live = service.source is Source.LIVE
    refused = [alert(Phrase(text), "warn") for text in service.refused[:5]]
    return {
        "name": service.name,
        "endpoints": counted(service.endpoints, "endpoint"),
        "tone": source_tone(service.source, denied=service.denied),
        "source": source_word(service.source, denied=service.denied),
        "age": None if live or service.source is None else old(service.age, ages),
        "error": service.error or "",
        "alerts": refused,
        "rows": [_endpoint(each, ages) for each in rows],
        "more": max(0, service.endpoints - len(rows)),
    }


def _endpoint(endpoint: EndpointStatus, ages: Ages) -> Facts:
    tone = {"picked": "ok", "drained": "none"}.get(endpoint.use, "warn")
    return {
        "url": endpoint.url,
        "weight": f"{endpoint.weight:g}",
        "tone": tone,
        "use": endpoint.use,
        "note": "no longer in etcd" if endpoint.held else "",
        "left": None if endpoint.back_in is None else ages(endpoint.back_in, "left"),
    }


def _registration(registration: RegistrationStatus, ages: Ages) -> Facts:
    return {
        "service": registration.service,
        "tone": _TONES[registration.state],
        "state": str(registration.state),
        "lasting": ages(registration.seconds),
        "url": registration.url,
        "error": registration.error or "",
    }
