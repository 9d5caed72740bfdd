"""A server that is told to end does not wait for the viewers of the page."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx

from tideover.testing.etcd.ports import ReservedPort

_APPLICATION = """
from starlette.applications import Starlette
from tideover.asgi import TideoverMiddleware
from tideover.testing import MemoryStore

app = TideoverMiddleware(Starlette(), store=MemoryStore(), cache_dir=False, status="/status")
"""


def listen(url: str) -> bytes:
    """Take events until the stream ends; one that is cut off is an error of httpx's."""
    with httpx.stream("GET", url, timeout=30) as answer:
        return b"".join(answer.iter_raw())


def test_uvicorn_ends_with_open_pages(tmp_path: Path) -> None:
    """At SIGTERM each stream ends, whole, and the server waits for none and logs no error."""
    (tmp_path / "viewed.py").write_text(_APPLICATION)
    port, log = ReservedPort(), tmp_path / "log"
    url = f"http://127.0.0.1:{port.number}/status"
    command = [sys.executable, "-m", "uvicorn", "viewed:app", "--port", str(port.number)]
    with log.open("w") as out, ThreadPoolExecutor(6) as pool:
        server = subprocess.Popen(command, cwd=tmp_path, stdout=out, stderr=out, env={**os.environ})
        try:
            until = time.monotonic() + 60
            while time.monotonic() < until:
                with suppress(httpx.TransportError):
                    if httpx.get(url, timeout=10).status_code == 200:
                        break
                time.sleep(0.1)
            streams = [pool.submit(listen, f"{url}/events") for _ in range(6)]
            while "GET /status/events" not in log.read_text():
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.05)
            time.sleep(0.5)
            server.send_signal(signal.SIGTERM)
            # Streams end by themselves after 60 s.
            assert server.wait(20) in (0, -signal.SIGTERM), log.read_text()
        finally:
            server.kill()
            server.wait()
        assert all(b"event: ages" in stream.result() for stream in streams)
    assert "ERROR" not in log.read_text()
    assert "Traceback" not in log.read_text()
