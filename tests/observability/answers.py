"""What `docs/how-to/see-degradation.md` shows in the shop's outage: `nox -s observability` prints it."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.assets.expressions import in_pages
from tests.observability.receiver import Receiver, Sent
from tests.observability.stage import Stage

# What of a span's attributes and an event's is shown.
_SHOWN = ("tideover.", "http.route", "http.response.status_code")


async def of_prometheus(stage: Stage) -> str:
    """Return each query of the way from a complaint to its cause, and what it shows now."""
    assert stage.prometheus is not None
    texts = [text for page, text in in_pages() if page == "docs/how-to/see-degradation.md"][:3]
    lines = []
    for text in texts:
        lines.append(text)
        for series in (await stage.prometheus.get("query", query=text))["result"]:
            labels = ", ".join(f'{name}="{value}"' for name, value in sorted(series["metric"].items()))
            lines.append(f"  {{{labels}}} {float(series['value'][1]):.4g}")
    return "\n".join(lines)


def of_traces(receiver: Receiver) -> str:
    """Return the outage with the most degraded requests of those that are over, and the last of these, as sent."""
    outages = [sent for sent in receiver.spans() if sent.record.name == "tideover.outage"]
    if not outages:
        return "no outage is over"
    outage = max(outages, key=_requests)
    known = outage.attributes["tideover.outage_id"]
    touched = [
        sent
        for sent in receiver.spans()
        if sent.attributes.get("tideover.outage_id") == known and sent.record.name != "tideover.outage"
    ]
    lines = [f"{sent.record.name}: {_shown(sent.attributes)}" for sent in (*touched[-1:], outage)]
    lines += [
        sent.record.body.string_value
        for sent in receiver.events()
        if sent.attributes.get("tideover.outage_id") == known
    ]
    return "\n".join(lines)


def _requests(outage: Sent[Span]) -> int:
    return int(str(outage.attributes["tideover.outage.requests"]))


def _shown(attributes: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(attributes.items()) if name.startswith(_SHOWN))
