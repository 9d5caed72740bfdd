"""Where what a service records goes: spans and events by OTLP, metrics to the Prometheus that asks it."""

import os
import socket
from contextlib import suppress

from fastapi import FastAPI
from opentelemetry import metrics, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import start_http_server

# The first port for Prometheus; each worker has the first that is free.
PORT = int(os.environ.get("OTEL_EXPORTER_PROMETHEUS_PORT", "9464"))


def instrument(app: FastAPI) -> None:
    """Send spans and events to OTEL_EXPORTER_OTLP_ENDPOINT, and let a Prometheus scrape each worker."""
    instance = f"{socket.gethostname()}:{os.getpid()}"
    resource = Resource.create({"service.name": "shop", "service.instance.id": instance})
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(tracers)
    loggers = LoggerProvider(resource=resource)
    loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    set_logger_provider(loggers)
    metrics.set_meter_provider(MeterProvider([PrometheusMetricReader()], resource=resource))
    for port in range(PORT, PORT + 8):
        with suppress(OSError):
            start_http_server(port)
            break
    FastAPIInstrumentor.instrument_app(app)
