"""A rolling restart of the service that the documentation builds: nobody who calls it notices.

Two instances of `shop.py` of docs/how-to/build-on-fastapi.md run, one under uvicorn with two workers and one
under gunicorn, on a healthy etcd. They are restarted in turn, and each time the service that they call has
moved, so that the list on disk leads astray. Somebody calls the shop by its name all the while.

    python -m tests.integration.rolling 20
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from tests.docs.test_code_blocks import ENDPOINT, ROOT, blocks_of
from tideover import Coordinator, connect
from tideover.contrib.httpx import DiscoveryTransport
from tideover.testing import EtcdServer
from tideover.testing.etcd.ports import ReservedPort

PAGE = ROOT / "docs" / "how-to" / "build-on-fastapi.md"
NAMESPACE = "/shop"
# Seconds for a server to start and be found, and to end.
_START, _END = 40.0, 15.0
_ORDER = {"quantity": 2, "price": 50.0}


@dataclass
class Heard:
    """What the callers were told.

    Attributes:
        calls: How many calls there were.
        wrong: Those that failed, or were marked as degraded.
    """

    calls: int = 0
    wrong: list[str] = field(default_factory=list)


class Billing(BaseHTTPRequestHandler):
    """Answers for the service that the shop calls."""

    def do_GET(self) -> None:
        body = b"an invoice"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def http_server() -> Iterator[str]:
    """Serve `Billing`; give its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Billing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@asynccontextmanager
async def billing(tide: Coordinator) -> AsyncIterator[None]:
    """Serve and register one instance of billing."""
    with http_server() as url:
        async with tide.register("billing", url):
            yield
        # Who has picked it a moment ago is still answered.
        await asyncio.sleep(0.3)


class Instance:
    """One instance of the shop, started and ended like a deployment does.

    Args:
        server: The server and its options, without the port.
        folder: Where `shop.py` is.
    """

    def __init__(self, server: tuple[str, ...], folder: Path) -> None:
        self._server = server
        self._folder = folder
        self._port = ReservedPort()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port.number}"

    async def start(self, tide: Coordinator) -> None:
        """Start it, and wait until it is registered."""
        where = ("-b", f"127.0.0.1:{self._port.number}")
        if self._server[0] == "uvicorn":
            where = ("--port", str(self._port.number))
        env = {**os.environ, "PUBLIC_URL": self.url, "XDG_CACHE_HOME": str(self._folder / "cache")}
        env["XDG_STATE_HOME"] = str(self._folder / "state")
        command = [sys.executable, "-m", *self._server, *where, "shop:app"]
        self._process = subprocess.Popen(command, cwd=self._folder, env=env, start_new_session=True)
        async with asyncio.timeout(_START):
            while not any(each.url == self.url for each in tide.discover("shop").endpoints):
                assert self._process.poll() is None, "the server has ended"
                await asyncio.sleep(0.05)

    async def end(self) -> None:
        """End it by SIGTERM."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_END):
                while process.poll() is None:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise

    def release(self) -> None:
        """Give the port back."""
        self._port.release()


async def call(client: httpx.AsyncClient, heard: Heard, every: float) -> None:
    """Call the shop until cancelled."""
    while True:
        for method, path, body in (("POST", "/orders/7", _ORDER), ("GET", "/invoices/7", None)):
            heard.calls += 1
            try:
                response = await client.request(method, f"http://shop.service{path}", json=body)
            except httpx.HTTPError as exc:
                heard.wrong.append(f"{method} {path}: {exc!r}")
                continue
            degraded = response.headers.get("tideover-status", "")
            if response.status_code != 200 or degraded:
                heard.wrong.append(f"{method} {path}: {response.status_code} {degraded} {response.text[:100]}")
        await asyncio.sleep(every)


async def roll(restarts: int, *, folder: Path, endpoint: str, every: float) -> Heard:
    """Restart the instances in turn, and return what the callers were told meanwhile.

    Args:
        restarts: How many restarts.
        folder: A folder of its own.
        endpoint: A healthy etcd.
        every: Seconds between two rounds of calls.
    """
    (script,) = (block for block in blocks_of(PAGE) if block.title == "shop.py")
    (folder / "shop.py").write_text(script.code.replace(ENDPOINT, endpoint))
    heard = Heard()
    servers = (
        ("uvicorn", "--workers", "2", "--log-level", "warning"),
        ("gunicorn", "-k", "uvicorn_worker.UvicornWorker", "--log-level", "warning"),
    )
    instances = [Instance(server, folder) for server in servers]
    async with connect(endpoint, namespace=NAMESPACE, cache_dir=False, discover=["shop"]) as tide:
        here = billing(tide)
        await here.__aenter__()
        try:
            async with asyncio.TaskGroup() as starting:
                for instance in instances:
                    starting.create_task(instance.start(tide))
            async with httpx.AsyncClient(transport=DiscoveryTransport(tide), timeout=10) as client:
                calling = asyncio.create_task(call(client, heard, every))
                for n in range(restarts):
                    instance = instances[n % len(instances)]
                    await instance.end()
                    before, here = here, billing(tide)
                    await here.__aenter__()
                    await before.__aexit__(None, None, None)
                    await instance.start(tide)
                await asyncio.sleep(2 * every)
                calling.cancel()
                await asyncio.wait([calling])
        finally:
            for instance in instances:
                await instance.end()
                instance.release()
            await here.__aexit__(None, None, None)
    return heard


def main() -> None:
    """Roll as often as the command line says, with a call of each kind once a second."""
    with EtcdServer() as etcd, tempfile.TemporaryDirectory() as folder:
        restarts = int(sys.argv[1])
        heard = asyncio.run(roll(restarts, folder=Path(folder), endpoint=etcd.endpoint, every=1.0))
    print(f"{restarts} restarts, {heard.calls} calls, {len(heard.wrong)} of them failed or degraded")
    print("\n".join(heard.wrong))
    sys.exit(bool(heard.wrong))


if __name__ == "__main__":
    main()
