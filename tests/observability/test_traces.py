"""Exactly the requests that read degraded are findable, in every layout: by what arrives at a receiver of OTLP.

Each request brings a trace of its own, so that all that is recorded of it is found by its id, whoever has recorded
it. All layouts live through one outage, in one process; each has a provider of its own.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from tests.asgi.support import call_websocket, lose, recover, store_with, uvicorn_serving
from tests.observability.layouts import ENDPOINTS, LAYOUTS, READING, WEBSOCKETS, Layouts
from tests.observability.receiver import Receiver, Sent, receiving
from tests.telemetry.recording import install
from tideover import HealthState, Source, connect

pytestmark = pytest.mark.takes(8)

Spans = Sequence[Sent[Span]]

# Where the middleware does not see the SERVER span.
INSIDE = [name for name in LAYOUTS if name.endswith("_inside")]


@dataclass(frozen=True)
class Run:
    """What one run of all layouts has brought.

    Attributes:
        outage_id: Of the one outage.
        outages: The spans of outages.
        spans: By layout, phase and path: all spans of that request's trace.
        absent: The layouts that these versions of the frameworks do not have.
    """

    outage_id: str
    outages: Spans
    spans: Mapping[tuple[str, str, str], Spans]
    absent: Set[str]


class _Client:
    """Makes requests of all layouts, each with a trace of its own."""

    def __init__(self, app: Layouts, client: httpx.AsyncClient) -> None:
        self.traces: dict[tuple[str, str, str], str] = {}
        self._app = app
        self._client = client

    async def request_all(self, phase: str, paths: Iterable[str]) -> None:
        for layout, path in product(LAYOUTS.keys() - self._app.absent, paths):
            self.traces[layout, phase, path] = found = secrets.token_hex(16)
            traced = {"traceparent": f"00-{found}-{secrets.token_hex(8)}-01"}
            if path in WEBSOCKETS:
                await call_websocket(self._app, f"/{layout}/{path}", headers=traced)
            else:
                response = await self._client.get(f"/{layout}/{path}", headers=traced)
                assert (response.status_code, response.text.strip("-") or "5") == (200, "5")


def exporting(receiver: Receiver) -> BatchSpanProcessor:
    """Return a processor that sends to a receiver."""
    return BatchSpanProcessor(OTLPSpanExporter(f"{receiver.url}/v1/traces"))


@asynccontextmanager
async def recorded_globally(receiver: Receiver) -> AsyncIterator[None]:
    """Send what the application and tideover record, too: in this process the provider is there already."""
    install()
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    processor = exporting(receiver)
    provider.add_span_processor(processor)
    yield
    await anyio.to_thread.run_sync(processor.shutdown)


async def live() -> Run:
    """Let each layout serve all requests in an outage, and some before and after it."""
    store = await store_with(rate="5")
    providers: list[TracerProvider] = []

    def provide() -> TracerProvider:
        providers.append(TracerProvider())
        providers[-1].add_span_processor(exporting(receiver))
        return providers[-1]

    async with receiving() as receiver:
        async with recorded_globally(receiver), connect(store=store, cache_dir=False) as tide:
            app = Layouts(provide, tide)
            async with uvicorn_serving(app) as http:
                client = _Client(app, http)
                some = ("async", "background", "websocket")
                await client.request_all("before", some)
                lose(store)
                await tide.health.wait_for(HealthState.UNAVAILABLE)
                outage_id = tide.status().outage_id
                await client.request_all("outage", [*ENDPOINTS, *WEBSOCKETS])
                recover(store)
                while tide.config.read("rate").source is not Source.LIVE:
                    await anyio.sleep(0.02)
                await client.request_all("after", some)
        for provider in providers:
            await anyio.to_thread.run_sync(provider.shutdown)
        received = list(receiver.spans())
    return Run(
        outage_id,
        [each for each in received if each.record.name == "tideover.outage"],
        {
            request: [each for each in received if each.record.trace_id.hex() == found]
            for request, found in client.traces.items()
        },
        app.absent,
    )


@pytest.fixture(scope="module")
def run() -> Run:
    """Return what the one run has brought."""
    return anyio.run(live)


@pytest.fixture(params=list(LAYOUTS))
def layout(request: pytest.FixtureRequest, run: Run) -> str:
    """Return each layout in turn."""
    if request.param in run.absent:
        pytest.skip("these versions of the frameworks have no such layout")
    return str(request.param)


def marked(spans: Spans) -> Spans:
    """Return those with any attribute of a degraded request."""
    return [each for each in spans if {"tideover.degraded", "tideover.outage_id"} & each.attributes.keys()]


def has_websockets(layout: str) -> bool:
    """Whether the instrumentation makes spans for WebSockets: Starlette's own makes none."""
    return not layout.startswith("starlettes_own")


def test_there_is_one_outage(run: Run) -> None:
    """The outage arrives as one span, a root of its own, with the id that the status has."""
    (outage,) = run.outages
    assert outage.attributes["tideover.outage_id"] == run.outage_id
    assert not outage.record.parent_span_id


def test_degraded_requests_are_found(layout: str, run: Run) -> None:
    """Whatever read degraded has the attributes in its trace, one link to the outage's span, and the same id."""
    (outage,) = run.outages
    context = outage.record.trace_id, outage.record.span_id
    for path in [*READING, *(["websocket"] if has_websockets(layout) else [])]:
        spans = run.spans[layout, "outage", path]
        found = marked(spans)
        assert found, path
        assert {each.attributes["tideover.outage_id"] for each in found} == {run.outage_id}, path
        assert {each.attributes["tideover.degraded"] for each in found} == {True}, path
        links = [(link.trace_id, link.span_id) for each in spans for link in each.record.links]
        assert links == [context], path
        # The link is where the attributes are.
        assert all(marked([each]) for each in spans if each.record.links), path


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name not in INSIDE], indirect=True)
def test_the_server_span_is_marked(layout: str, run: Run) -> None:
    """Where the middleware sees the SERVER span, it is the one that is found, unless it has ended by then."""
    for path in ("async", "sync", "fetch", "span", "stream", "both"):
        (server,) = [
            each for each in run.spans[layout, "outage", path] if each.record.kind == Span.SPAN_KIND_SERVER
        ]
        assert server.attributes["tideover.degraded"] is True, path
        assert len(server.record.links) == 1, path


def test_all_others_are_not_found(layout: str, run: Run) -> None:
    """What reads nothing, or before or after the outage, has no attribute and no link anywhere in its trace."""
    others = [request for request in run.spans if request[0] == layout and request[1:] not in degraded()]
    assert len(others) >= 8
    for request in others:
        assert not marked(run.spans[request]), request
        assert not [each for each in run.spans[request] if each.record.links], request


def degraded() -> set[tuple[str, str]]:
    """Return phase and path of each request that reads degraded."""
    return {("outage", path) for path in [*READING, "websocket"]}


def test_nothing_is_an_error_for_being_degraded(layout: str, run: Run) -> None:
    """No span of any request is ERROR, degraded or not: all were served."""
    for request, spans in run.spans.items():
        if request[0] == layout:
            assert [
                each.record.name for each in spans if each.record.status.code == Status.STATUS_CODE_ERROR
            ] == []


def test_the_page_asks_for_what_arrives(run: Run) -> None:
    """Each attribute that the page's queries for traces name is received, and so is what the reference lists."""
    root = Path(__file__).parents[2] / "docs"
    page = (root / "how-to/see-degradation.md").read_text().partition("\n## The alerts\n")[0]
    asked = set(re.findall(r"\bspan\.(tideover\.[a-z_.]+)", page)) | set(
        re.findall(r"`(tideover\.[a-z_.]+)=", page)
    )
    assert {"tideover.degraded", "tideover.outage_id", "tideover.source"} <= asked
    requests = marked([each for spans in run.spans.values() for each in spans])
    received = {name for each in [*run.outages, *requests] for name in each.attributes}
    assert asked - received == set()
    reference = (root / "reference/telemetry.md").read_text().partition("\n## Spans\n")[0]
    listed = set(re.findall(r"^\| `(tideover\.[a-z_]+)` \| (?:bool|string|double)", reference, re.M))
    ours = {name for each in requests for name in each.attributes if name.startswith("tideover.")}
    assert ours - {"tideover.component"} == listed
