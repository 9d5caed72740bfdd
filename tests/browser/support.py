"""A real service on a real cluster, behind a real server, with the state that a status page is made for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import httpx

from tests.browser.service import PATH
from tideover.discovery.endpoint import Endpoint
from tideover.testing import EtcdCluster
from tideover.testing.etcd.ports import ReservedPort

ROOT = Path(__file__).parents[2]

# On a server's command line, `{port}` is its port.
UVICORN = ("uvicorn", "--factory", "tests.browser.service:make_app", "--port", "{port}", "--lifespan", "on")

_KEYS = {
    "payments/limits": '{"max_amount": "many"}',
    "payments/provider": "CANARY-provider",
    "payments/timeout": "2.5",
    "prices/cold-brew": "4.10",
    "prices/decaf": "3.20",
    "prices/espresso": "2.40",
    "prices/flat-white": "3.60",
    "shop/currency": "EUR",
    "shop/opening-hours": "7-19",
    "shop/rate-limit": "200",
    "features/gift-cards": "true",
    "features/new-checkout": "false",
}
_ENDPOINTS = [
    Endpoint("http://10.0.8.14:8000", service="billing", instance="billing-1", incarnation="1", weight=2),
    Endpoint("http://10.0.8.15:8000", service="billing", instance="billing-2", incarnation="1"),
    Endpoint("http://10.0.8.16:8000", service="billing", instance="billing-3", incarnation="1"),
    Endpoint("http://10.0.9.21:9000", service="search", instance="search-1", incarnation="1"),
    Endpoint("http://10.0.9.22:9000", service="search", instance="search-2", incarnation="1", weight=0),
]


def fill(cluster: EtcdCluster) -> None:
    """Write configuration and services."""
    for key, value in _KEYS.items():
        cluster.etcdctl("put", f"/shop/config/{key}", value)
    for endpoint in _ENDPOINTS:
        cluster.etcdctl("put", f"/shop/{endpoint.key}", endpoint.encode().decode())


class Service:
    """The service as a process, until `stop()`.

    Args:
        etcd: The members' endpoints.
        folder: Where it keeps its snapshots and its log.
        command: The server and its arguments.
        locks: The locks that it holds, or waits for.
    """

    def __init__(
        self,
        etcd: Sequence[str],
        folder: Path,
        *,
        command: Sequence[str] = UVICORN,
        locks: Sequence[str] = ("orders/42", "orders/57"),
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.port = ReservedPort()
        self.log = folder / f"{self.port.number}.log"
        self.url = f"http://127.0.0.1:{self.port.number}"
        environment = {
            **os.environ,
            "SHOP_PORT": str(self.port.number),
            "SHOP_ETCD": ",".join(etcd),
            "SHOP_CACHE": str(folder),
            "SHOP_LOCKS": ",".join(locks),
        }
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *(part.format(port=self.port.number) for part in command)],
                stdout=out,
                stderr=out,
                cwd=ROOT,
                env=environment,
            )

    @property
    def page(self) -> str:
        """The address of the page."""
        return self.url + PATH

    def wait(self, seconds: float = 30.0) -> None:
        """Wait until it answers."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/limits", timeout=5).status_code == 200:
                    return
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def stop(self, patience: float = 20.0) -> float:
        """End it by SIGTERM; return how many seconds that took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(patience)
        finally:
            self.process.kill()
            self.process.wait()
        return time.monotonic() - began
