"""A start that is refused for want of etcd ends the server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tideover.testing.etcd.ports import ReservedPort

pytestmark = [pytest.mark.takes(10), pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]

SERVICE = """
from starlette.applications import Starlette
from starlette.middleware import Middleware

from tideover.asgi import TideoverMiddleware

etcd = Middleware(
    TideoverMiddleware, endpoints=["127.0.0.1:1"], require="etcd", start_timeout=0.2, cache_dir=False
)
app = Starlette(middleware=[etcd])
"""


@pytest.mark.parametrize("worker", ["uvicorn_worker.UvicornWorker", "asgi"])
def test_gunicorn_ends_with_a_code(worker: str, tmp_path: Path) -> None:
    """No thread of ours outlives the loop: gunicorn's own worker would wait for one of anyio's pool for ever."""
    (tmp_path / "service.py").write_text(SERVICE)
    reserved = ReservedPort()
    command = [sys.executable, "-m", "gunicorn", "-k", worker, "-b", f"127.0.0.1:{reserved.number}", "service:app"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 3, ended.stderr
    assert "require='etcd'" in ended.stderr
