"""An SDK that receives what is recorded, and what is asked of it."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from opentelemetry import _logs, metrics, trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    NumberDataPoint,
)
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

try:
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
except ImportError:  # its name until 1.38
    from opentelemetry.sdk._logs.export import (
        InMemoryLogExporter as InMemoryLogRecordExporter,
    )

from tests.canaries import search
from tideover.store.operations import Put
from tideover.testing import MemoryStore

Point = NumberDataPoint | HistogramDataPoint
Attributes = Mapping[str, object]


@dataclass(frozen=True)
class Recorded:
    """What an SDK has received since the test began."""

    span_exporter: InMemorySpanExporter
    log_exporter: InMemoryLogRecordExporter
    reader: InMemoryMetricReader

    def spans(self, name: str | None = None) -> list[ReadableSpan]:
        """Return tideover's ended spans, in the order of their ends; None means all names."""
        ended = [s for s in self.span_exporter.get_finished_spans() if _is_ours(s)]
        return [s for s in ended if name is None or s.name == name]

    def events(self) -> list[tuple[str, Attributes, str]]:
        """Return tideover's log events: name, attributes, body."""
        records = [data.log_record for data in self.log_exporter.get_finished_logs()]
        return [(r.event_name or "", dict(r.attributes or {}), str(r.body)) for r in records if r.event_name]

    def metrics(self) -> dict[str, Metric]:
        """Collect tideover's metrics; counters and histograms show what came since the last call."""
        data = self.reader.get_metrics_data()
        search("the metrics", "" if data is None else data.to_json())
        scopes = [s for r in (data.resource_metrics if data else ()) for s in r.scope_metrics]
        return {m.name: m for s in scopes if s.scope.name == "tideover" for m in s.metrics}

    def exposed(self) -> Iterator[tuple[str, Mapping[str, str]]]:
        """Return the name and the labels of each sample of tideover's that a Prometheus would scrape."""
        text = generate_latest().decode()
        search("the exposition", text)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name.startswith(("tideover_", "db_client_")):
                    yield sample.name, sample.labels

    def clear(self) -> None:
        """Forget everything."""
        self.span_exporter.clear()
        self.log_exporter.clear()
        self.reader.get_metrics_data()


def _is_ours(span: ReadableSpan) -> bool:
    return span.instrumentation_scope is not None and span.instrumentation_scope.name == "tideover"


class _Searched(SpanProcessor):
    """Looks for secrets in each span that ends."""

    def on_end(self, span: ReadableSpan) -> None:
        events = [event.attributes for event in span.events]
        search(f"the span {span.name}", span.name, span.attributes, events, span.status.description)


@functools.cache
def install() -> Recorded:
    """Set up an SDK for the whole process, which can be done only once."""
    recorded = Recorded(
        InMemorySpanExporter(),
        InMemoryLogRecordExporter(),  # type: ignore[no-untyped-call]
        InMemoryMetricReader(
            preferred_temporality=dict.fromkeys((Counter, Histogram), AggregationTemporality.DELTA)
        ),
    )
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(recorded.span_exporter))
    tracers.add_span_processor(_Searched())
    trace.set_tracer_provider(tracers)
    loggers = LoggerProvider()
    loggers.add_log_record_processor(SimpleLogRecordProcessor(recorded.log_exporter))
    _logs.set_logger_provider(loggers)
    metrics.set_meter_provider(MeterProvider([recorded.reader, PrometheusMetricReader()]))
    return recorded


async def put(store: MemoryStore, key: str, value: bytes) -> None:
    """Write behind tideover's back."""
    await store.call(Put(key.encode(), value), member=store.members[0], timeout=1)


def lose(store: MemoryStore, members: int = 3) -> None:
    """Take members down."""
    store.down = set(store.members[:members])
    store.touch()


def recover(store: MemoryStore) -> None:
    """Bring all members back."""
    store.down = set()
    store.touch()


def attributes(span: ReadableSpan) -> dict[str, object]:
    """Return a span's attributes."""
    return dict(span.attributes or {})


def points(metric: Metric) -> dict[tuple[object, ...], Point]:
    """Return a metric's points by the values of their attributes, sorted by name."""
    return {
        tuple(value for _, value in sorted((point.attributes or {}).items())): point
        for point in metric.data.data_points
        if isinstance(point, NumberDataPoint | HistogramDataPoint)
    }


def value(point: Point) -> float:
    """Return the number of a point that has one."""
    assert isinstance(point, NumberDataPoint)
    return point.value
