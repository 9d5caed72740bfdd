"""One process that serves the shop and is scraped, on its own way to etcd."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import httpx

from tests.observability.link import Link
from tideover.testing.etcd.ports import ReservedPort

ROOT = Path(__file__).parents[2]
# Seconds for the first answer: importing everything takes some on a machine that is busy.
_START_TIMEOUT = 300.0
# A process of root's that may write everywhere would never notice a read-only folder.
_AS_ANYBODY = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")


class Worker:
    """A uvicorn process with the shop of `troubled_shop`.

    Args:
        name: What its folder and its log are called.
        folder: Where they are.
        links: Its ways to etcd's members.
        collector: Where OTLP goes.
        service: The application.
        env: More variables.

    Attributes:
        metrics_port: What a Prometheus scrapes.
        cache: Its folder for snapshots.
        url: Where it answers.
    """

    def __init__(
        self,
        name: str,
        *,
        folder: Path,
        links: Sequence[Link],
        collector: str,
        service: str = "tests.observability.troubled_shop:app",
        env: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.links = links
        self._ports = [ReservedPort(), ReservedPort()]
        self._port, self.metrics_port = (port.number for port in self._ports)
        self.url = f"http://127.0.0.1:{self._port}"
        self.cache = folder / name
        self.log = folder / f"{name}.log"
        self._service = service
        self._env = {
            "ETCD_ENDPOINTS": ",".join(link.endpoint for link in links),
            "PUBLIC_URL": self.url,
            "CACHE_DIR": str(self.cache),
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
            "OTEL_EXPORTER_PROMETHEUS_PORT": str(self.metrics_port),
            "OTEL_BSP_SCHEDULE_DELAY": "500",
            "OTEL_BLRP_SCHEDULE_DELAY": "500",
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", ROOT / "examples", ROOT))),
            "no_proxy": "127.0.0.1",
            **(env or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        """Show where it is."""
        return f"<Worker {self.name} {self.url}>"

    def start(self) -> None:
        """Start the process, without waiting."""
        self.cache.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "uvicorn", self._service, "--port", str(self._port)]
        before = _AS_ANYBODY if os.geteuid() == 0 else ()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*before, *command, "--no-access-log", "--log-level", "warning"],
                env={**os.environ, **self._env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def wait_ready(self, client: httpx.AsyncClient) -> None:
        """Wait for the first answer.

        Raises:
            RuntimeError: It has ended, or does not answer in time; the message has its log.
        """
        with anyio.move_on_after(_START_TIMEOUT):
            while self._process is not None and self._process.poll() is None:
                try:
                    await client.get(f"{self.url}/settlement")
                except httpx.HTTPError:
                    await anyio.sleep(0.1)
                else:
                    return
        raise RuntimeError(f"{self!r} does not answer: {self.log.read_text(errors='replace')[-3000:]}")

    async def exposition(self, client: httpx.AsyncClient) -> bytes:
        """Return what a Prometheus is given."""
        return (await client.get(f"http://127.0.0.1:{self.metrics_port}/metrics")).content

    def stop(self, timeout: float = 15.0) -> None:
        """End the process with SIGTERM, or with SIGKILL if it takes longer; again is a no-op.

        Args:
            timeout: Seconds.
        """
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for port in self._ports:
            port.release()
        self._process = None
