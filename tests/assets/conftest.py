"""What a process exposes in which everything happens once, and the promtools that are here."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import pytest

from tests.support import mock_trio
from tests.telemetry.everything import Exposed, at_once, live_through_everything
from tests.telemetry.recording import install

Promtool = Callable[..., None]


@pytest.fixture(scope="session")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> Exposed:
    """What a Prometheus scrapes from a process in which everything happens once: the names are the exporter's."""
    backend, options = mock_trio()
    with pytest.MonkeyPatch.context() as patch:
        at_once(patch)
        folder = tmp_path_factory.mktemp("snapshots")
        life = partial(live_through_everything, install(), folder)
        return anyio.run(life, backend=backend, backend_options=options).exposed


@pytest.fixture(scope="session")
def promtool() -> Promtool:
    """Run `promtool` with some arguments, every version that is here; it must succeed, and complain of nothing."""
    unpacked = os.environ.get("TIDEOVER_PROMETHEUS_DIR", "").split(os.pathsep)
    found = [str(Path(folder, "promtool")) for folder in unpacked if folder]
    if not found:
        installed = shutil.which("promtool")
        if installed is None:
            raise RuntimeError("promtool is not here: apt-get install prometheus, or run the tests by nox")
        found = [installed]

    def run(*arguments: str | Path) -> None:
        for program in found:
            done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120)
            # `test rules` says SUCCESS of files that match nothing, and says so on standard error.
            assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr

    return run
