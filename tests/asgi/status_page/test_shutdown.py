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
import pytest

from tideover.testing.etcd.ports import ReservedPort

_APPLICATION = """
from starlette.applications import Starlette
from tideover.asgi import TideoverMiddleware
from tideover.testing import MemoryStore

app = TideoverMiddleware(Starlette(), store=MemoryStore(), cache_dir=False, status="/status")
"""


def listen(url: str, begun: list[str]) -> None:
    """Take events until the stream ends; one that is cut off is an error of httpx's."""
    with httpx.stream("GET", url, timeout=30) as answer:
        for line in answer.iter_lines():
            begun.extend([url] * (line == "event: ages"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="gunicorn needs fork")
@pytest.mark.parametrize(
    "arguments", [("uvicorn", "--port"), ("gunicorn", "-k", "asgi", "-b")], ids=["uvicorn", "gunicorn"]
)
def test_a_server_ends_with_open_pages(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """At SIGTERM each stream ends, whole, and the server waits for none and logs no error.

    sse-starlette finds out by itself under uvicorn alone: gunicorn would wait for 30 s.
    """
    (tmp_path / "viewed.py").write_text(_APPLICATION)
    port, log = ReservedPort(), tmp_path / "log"
    url = f"http://127.0.0.1:{port.number}/status"
    address = str(port.number) if arguments[0] == "uvicorn" else f"127.0.0.1:{port.number}"
    command = [sys.executable, "-m", *arguments, address, "viewed:app"]
    with log.open("w") as out, ThreadPoolExecutor(6) as pool:
        server = subprocess.Popen(command, cwd=tmp_path, stdout=out, stderr=out, env={**os.environ})
        try:
            until = time.monotonic() + 60
            while time.monotonic() < until:
                with suppress(httpx.TransportError):
                    if httpx.get(url, timeout=10).status_code == 200:
                        break
                time.sleep(0.1)
            begun: list[str] = []
            streams = [pool.submit(listen, f"{url}/events", begun) for _ in range(6)]
            while len(begun) < 6:
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.05)
            server.send_signal(signal.SIGTERM)
            # Streams end by themselves after 60 s.
            assert server.wait(20) in (0, -signal.SIGTERM), log.read_text()
        finally:
            server.kill()
            server.wait()
        for stream in streams:
            stream.result()
    assert "ERROR" not in log.read_text()
    assert "Traceback" not in log.read_text()
