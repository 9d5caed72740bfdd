"""An OTLP/HTTP receiver: what exporters send to a Collector, decoded, and the bytes as they came."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.observability.serving import serving

Record = TypeVar("Record")
Decoded = TypeVar("Decoded", bound=Message)

_KINDS: Mapping[str, tuple[type[Message], type[Message]]] = {
    "traces": (ExportTraceServiceRequest, ExportTraceServiceResponse),
    "logs": (ExportLogsServiceRequest, ExportLogsServiceResponse),
    "metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse),
}


@dataclass(frozen=True)
class Sent(Generic[Record]):
    """A span or an event, and whose it is.

    Attributes:
        instance: The `service.instance.id` of the process; empty if it has none.
        scope: The name of the instrumentation.
        record: It, as protobuf has it.
        attributes: Its attributes.
    """

    instance: str
    scope: str
    record: Record
    attributes: Mapping[str, object]


@dataclass
class Receiver:
    """What has been received.

    Attributes:
        url: What `OTEL_EXPORTER_OTLP_ENDPOINT` is to be.
        bodies: The bodies of all requests, unpacked: which kind, and the bytes.
        refuse: A status to answer with instead of accepting; None accepts.
    """

    url: str = ""
    bodies: list[tuple[str, bytes]] = field(default_factory=list)
    refuse: int | None = None

    def spans(self) -> Iterator[Sent[Span]]:
        """Return all spans, in the order in which they came."""
        for request in self._decoded("traces", ExportTraceServiceRequest):
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        yield _sent(resource.resource, scope.scope.name, span, span.attributes)

    def events(self) -> Iterator[Sent[LogRecord]]:
        """Return all log records, in the order in which they came."""
        for request in self._decoded("logs", ExportLogsServiceRequest):
            for resource in request.resource_logs:
                for scope in resource.scope_logs:
                    for record in scope.log_records:
                        yield _sent(resource.resource, scope.scope.name, record, record.attributes)

    def metric_names(self) -> set[str]:
        """Return the names of all metrics."""
        return {
            metric.name
            for request in self._decoded("metrics", ExportMetricsServiceRequest)
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def _decoded(self, kind: str, of: type[Decoded]) -> Iterator[Decoded]:
        for each, body in self.bodies.copy():
            if each == kind:
                yield of.FromString(body)

    async def _accept(self, request: Request) -> Response:
        kind = request.path_params["kind"]
        body = await request.body()
        if self.refuse is not None:
            return Response(status_code=self.refuse)
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        decode, answer = _KINDS[kind]
        decode.FromString(body)
        self.bodies.append((kind, body))
        return Response(answer().SerializeToString(), media_type="application/x-protobuf")


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """Receive at a free port of loopback, in this event loop, until the block ends."""
    receiver = Receiver()
    app = Starlette(routes=[Route("/v1/{kind}", receiver._accept, methods=["POST"])])
    async with serving(app) as receiver.url:
        yield receiver


def values(attributes: Iterable[KeyValue]) -> Mapping[str, object]:
    """Return attributes as Python has them."""
    return {each.key: value_of(each.value) for each in attributes}


def value_of(value: AnyValue) -> object:
    """Return a value as Python has it."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(each) for each in value.array_value.values]
    return None if kind is None else getattr(value, kind)


def _sent(resource: Resource, scope: str, record: Record, attributes: Iterable[KeyValue]) -> Sent[Record]:
    instance = str(values(resource.attributes).get("service.instance.id", ""))
    return Sent(instance, scope, record, values(attributes))
