"""gunicorn --preload: the application is imported, and reads its settings, before the workers are forked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tideover.testing import EtcdServer
from tideover.testing.etcd.ports import ReservedPort

pytestmark = [
    pytest.mark.etcd,
    pytest.mark.any_etcd,
    pytest.mark.takes(25),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]

_WORKERS = 3


def see_workers(port: int, patience: float = 30.0) -> dict[int, dict[str, Any]]:
    """Ask until every worker has answered; return the last answer of each."""
    seen: dict[int, dict[str, Any]] = {}
    until = time.monotonic() + patience
    while len(seen) < _WORKERS and time.monotonic() < until:
        try:
            # Each over a connection of its own, or one worker would have them all.
            answer = httpx.get(f"http://127.0.0.1:{port}/", timeout=10)
        except httpx.TransportError:
            time.sleep(0.1)
            continue
        assert answer.status_code == 200, answer.text
        seen[answer.json()["pid"]] = answer.json()
    return seen


@pytest.mark.parametrize("worker", ["uvicorn_worker.UvicornWorker", "asgi"])
def test_preload(etcd_server: EtcdServer, worker: str, tmp_path: Path) -> None:
    """All workers of an application that reads a setting at import find etcd AVAILABLE, and end in seconds."""
    etcd_server.etcdctl("put", "/config/rate", "5")
    reserved, log = ReservedPort(), tmp_path / "log"
    with log.open("w") as out:
        command = [sys.executable, "-m", "gunicorn", "--preload", "-k", worker, "-w", str(_WORKERS)]
        gunicorn = subprocess.Popen(
            [*command, "-b", f"127.0.0.1:{reserved.number}", "tests.asgi.preloaded:app"],
            stdout=out,
            stderr=out,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "ENDPOINT": etcd_server.endpoint},
        )
        try:
            workers = see_workers(reserved.number)
            began = time.monotonic()
            gunicorn.send_signal(signal.SIGTERM)
            assert gunicorn.wait(20) == 0, log.read_text()
            ended = time.monotonic() - began
        finally:
            gunicorn.kill()
            gunicorn.wait()
    assert len(workers) == _WORKERS, log.read_text()
    for answer in workers.values():
        assert (answer["rate"], answer["state"], answer["mode"]) == (5, "available", "distributed")
    assert ended < 5, log.read_text()
