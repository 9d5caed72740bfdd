"""A service with a bad value in etcd is restarted again and again, half of the times by kill -9.

python -m tests.integration.restarting 20
"""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anyio
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from tideover import connect
from tideover.testing import EtcdServer


@dataclass(frozen=True)
class Pool:
    """The settings of the service."""

    size: int = 10
    timeout: float = 2.0


async def serve(endpoint: str, folder: str) -> None:
    """Be the service: say at the start and after each change what it runs on, in a line of JSON."""
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    logging.basicConfig(filename=f"{folder}/service.log")
    async with connect(endpoint, cache_dir=folder, start_timeout=5) as tide:
        live = tide.config.bind(Pool, prefix="pool/", on_invalid="last_good")
        changes = tide.config.changes("pool/")
        while True:
            rejected = [(each.key, each.served, each.instead) for each in tide.status().rejected]
            said = {"value": asdict(live.value), "rejected": rejected, "rejections": _rejections(reader)}
            print(json.dumps(said), flush=True)
            await anext(aiter(changes))


def _rejections(reader: InMemoryMetricReader) -> float:
    data = reader.get_metrics_data()
    scopes = [scope for each in data.resource_metrics for scope in each.scope_metrics] if data else []
    found = [metric for scope in scopes for metric in scope.metrics if metric.name == "tideover.config.rejections"]
    points = [point for metric in found for point in metric.data.data_points]
    return sum(point.value for point in points if isinstance(point, NumberDataPoint))


@contextmanager
def service(endpoint: str, folder: Path, *, ends_by: signal.Signals) -> Iterator[Iterator[dict[str, Any]]]:
    """Run the service; give what it says."""
    command = [sys.executable, "-m", __spec__.name, endpoint, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield map(json.loads, process.stdout)
        finally:
            process.send_signal(ends_by)


def put(endpoint: str, key: str, value: object) -> None:
    """Write a key as an operator does."""

    async def write() -> None:
        async with connect(endpoint, cache_dir=False, start_timeout=5) as tide:
            await tide.config.put(key, value)

    anyio.run(write)


def until_on_disk(folder: Path) -> None:
    """Wait until what was accepted has been written: killed before, a process leaves what was accepted before."""
    for _ in range(100):
        if list(folder.glob("accepted-*.json")):
            return
        time.sleep(0.1)
    raise TimeoutError("nothing was written in 10 s")


def restart(count: int, folder: Path) -> None:
    """Restart the service so many times on a bad value; raise unless it runs, and says on what."""
    with EtcdServer() as etcd:
        put(etcd.endpoint, "pool/size", 4)
        with service(etcd.endpoint, folder, ends_by=signal.SIGKILL) as says:
            assert next(says) == {"value": {"size": 4, "timeout": 2.0}, "rejected": [], "rejections": 0}
            until_on_disk(folder)
        put(etcd.endpoint, "pool/size", "four")
        for number in range(count):
            ends_by = signal.SIGKILL if number % 2 else signal.SIGTERM
            with service(etcd.endpoint, folder, ends_by=ends_by) as says:
                said = next(says)
                assert said["value"] == {"size": 4, "timeout": 2.0}, said
                assert [(key, instead) for key, _, instead in said["rejected"]] == [
                    ("pool/size", ""),
                    ("pool/", "accepted"),
                ]
                assert said["rejected"][1][1] > 0
                assert said["rejections"] == 2
                if number == count - 1:
                    put(etcd.endpoint, "pool/size", 5)
                    assert next(says) == {"value": {"size": 5, "timeout": 2.0}, "rejected": [], "rejections": 2}
    log = (folder / "service.log").read_text()
    assert log.count("tideover.config.stood_in: Pool at '/config/pool/' begins with the values") == count


if __name__ == "__main__":
    if len(sys.argv) == 3:
        anyio.run(serve, sys.argv[1], sys.argv[2])
    else:
        with tempfile.TemporaryDirectory() as name:
            restart(int(sys.argv[1]), Path(name))
            print(f"{sys.argv[1]} restarts on the last accepted values")
