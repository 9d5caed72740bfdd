"""`examples/observability` does what its README says, with nothing but the commands that stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from tests.observability.prometheus import Prometheus, program
from tests.observability.watch import until
from tests.observability.worker import ROOT

pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.any_etcd]

README = ROOT / "examples/observability/README.md"
# Those that the README says fire.
ALERTS = {"Degraded", "StaleBudget", "NotRegistered"}


@pytest.fixture
def anyio_backend() -> str:
    """Nothing here depends on it."""
    return "asyncio"


class Shell:
    """A stranger's terminal: what is typed goes on in the background where it says so.

    Args:
        folder: Where it begins, and where its output goes.
    """

    def __init__(self, folder: Path) -> None:
        path = os.pathsep.join([str(Path(program()).parent), os.environ["PATH"]])
        own = dict.fromkeys(("XDG_CACHE_HOME", "XDG_STATE_HOME"), str(folder))
        with (folder / "terminal.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["bash"],
                cwd=folder,
                env={
                    **os.environ,
                    "PATH": path,
                    **own,
                },
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    def type(self, lines: str) -> None:
        """Type lines."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{lines}\n".encode())
        self._process.stdin.flush()

    def leave(self) -> None:
        """End what the README has started, and the terminal."""
        self.type("kill $SHOP $PROMETHEUS $ETCD; wait; exit")
        self._process.communicate(timeout=60)


def blocks() -> list[str]:
    """Return the commands of each block of the README; a virtual environment is here already."""
    found = re.findall(r"^```console\n(.*?)^```$", README.read_text(), re.M | re.S)
    lines = [[line.removeprefix("$ ") for line in block.splitlines()] for block in found]
    return [
        "\n".join(line for line in block if "venv" not in line and "pip install" not in line) for block in lines
    ]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A terminal at the root of what was cloned."""
    shutil.copytree(
        ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("assets", "data", "*.log")
    )
    shell = Shell(tmp_path)
    yield shell
    shell.leave()


@pytest.mark.observed(60)  # ten minutes, and ports that are fixed
async def test_the_readme_is_true(shell: Shell) -> None:
    """Etcd is killed and the shop restarted: each alert fires that the README names, until etcd is back."""
    start, kill, back = blocks()
    async with Prometheus("http://127.0.0.1:9090") as prometheus:

        async def scraped() -> bool:
            return await prometheus.answers() and await prometheus.query("sum(up{job='shop'})") == {(): 4.0}

        async def fire() -> bool:
            found = await prometheus.alerts()
            return {name for name in ALERTS if found.get(name) == "firing"} == ALERTS

        async def over() -> bool:
            return not ALERTS & (await prometheus.alerts()).keys()

        shell.type(start)
        await until(scraped, "four workers that are scraped")
        # A scrape and an evaluation.
        await anyio.sleep(12)
        assert not ALERTS & (await prometheus.alerts()).keys()
        shell.type(kill)
        await until(fire, f"{ALERTS}, firing", patience=600)
        shell.type(back)
        await until(over, f"the end of {ALERTS}")
