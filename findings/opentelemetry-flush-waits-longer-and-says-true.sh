#!/usr/bin/env bash
# Python 3.11; opentelemetry-sdk 1.45.2, opentelemetry-exporter-otlp-proto-http 1.45.2.
# Guess: `force_flush(2000)` waits two seconds at most and says False if the spans are not out by then, as its
#   documentation has it. A collector that is not there costs a service's end next to nothing, for the spans cannot go.
# Behaviour: the time is not looked at, and the answer is True whatever happened: after ten seconds with a collector that does
#   not answer, after six or more with one that refuses connections, not one span delivered. shutdown() waits as long again,
#   for traces and for metrics each: a service that flushes and closes both while its collector is away
#   needs some thirty seconds, which is when Kubernetes kills it.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-proto-http==1.45.2
cat >"$folder/probe.py" <<'PY'
import logging
import socket
import time

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

logging.disable()


def timed(call, *arguments):
    begun = time.monotonic()
    answer = call(*arguments)
    return answer, time.monotonic() - begun


with socket.create_server(("127.0.0.1", 0)) as silent:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        ports = {"silent": silent.getsockname()[1], "refusing": closed.getsockname()[1]}
    for name, port in ports.items():
        traces = TracerProvider()
        exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}/v1/traces")
        traces.add_span_processor(BatchSpanProcessor(exporter))
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=f"http://127.0.0.1:{port}/v1/metrics"))
        metrics = MeterProvider([reader])
        metrics.get_meter("service").create_counter("calls").add(1)
        traces.get_tracer("service").start_span("call").end()
        answer, seconds = timed(traces.force_flush, 2000)
        print(f"{name}: force_flush(2000) says {answer}, after more than 4 s: {seconds > 4}")
        traces.get_tracer("service").start_span("call").end()
        for what, provider in (("traces", traces), ("metrics", metrics)):
            print(f"{name}: shutdown of {what} takes more than 4 s: {timed(provider.shutdown)[1] > 4}")
PY
timeout 100 "$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
silent: force_flush(2000) says True, after more than 4 s: True
silent: shutdown of traces takes more than 4 s: True
silent: shutdown of metrics takes more than 4 s: True
refusing: force_flush(2000) says True, after more than 4 s: True
refusing: shutdown of traces takes more than 4 s: True
refusing: shutdown of metrics takes more than 4 s: True
SEEN
