"""etcd's own client, in Go: built when a row asks for it, and run as a process that measures when told.

The program is `benchmarks/go`; its first lines say how it is spoken to.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.harness import NotMeasured

SOURCE = Path(__file__).parent / "go"
PROGRAM = SOURCE / "tideover-bench"
# Whatever other Go comes first in the PATH, so that the peer is the same everywhere.
DEBIANS_GO = Path("/usr/bin/go")
# Where Debian's packages of Go sources are.
_GOPATH = Path("/usr/share/gocode")
_CLIENT = _GOPATH / "src/go.etcd.io/etcd/clientv3"
_PACKAGE = "golang-etcd-server-dev"
_MISSING = (
    f"etcd's Go client is the peer, and {{what}} is not there; on Debian: apt-get install golang-go {_PACKAGE}"
)


def build() -> Path:
    """Build the program, without a network; Go itself knows whether there is anything to do.

    Returns:
        The program.

    Raises:
        NotMeasured: Go or etcd's client is missing; the message names Debian's packages.
        RuntimeError: It does not build.
    """
    go = _compiler()
    if go is None:
        raise NotMeasured(_MISSING.format(what="go"))
    if not _CLIENT.is_dir():
        raise NotMeasured(_MISSING.format(what=_CLIENT))
    settings = {"GO111MODULE": "off", "GOPATH": str(_GOPATH), "GOFLAGS": "", "GOPROXY": "off"}
    done = subprocess.run(
        [go, "build", "-o", str(PROGRAM), "."],
        cwd=SOURCE,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"go build failed:\n{done.stderr}")
    return PROGRAM


def _compiler() -> str | None:
    return str(DEBIANS_GO) if DEBIANS_GO.exists() else shutil.which("go")


def versions() -> dict[str, str]:
    """Return the version of Go that the program was built with, and that of etcd's client in it; empty without."""
    found = {}
    if PROGRAM.exists() and (go := _compiler()):
        found["go"] = _said(go, "version", str(PROGRAM)).rpartition(": go")[2]
        found["clientv3"] = _said("dpkg-query", "--show", "--showformat=${Version}", _PACKAGE)
    return {name: version for name, version in found.items() if version}


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


class GoClient:
    """A running program.

    Args:
        process: Its process.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    async def wait_ready(self) -> None:
        """Wait until it is connected."""
        await self._receive()

    async def round(self) -> Any:
        """Let it measure once; return what it found."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        return await self._receive()

    async def _receive(self) -> Any:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            _, errors = await self._process.communicate()
            raise RuntimeError(f"the Go client has ended: {errors.decode()}")
        return json.loads(line)


@asynccontextmanager
async def running(*arguments: str, program: Path | None = None) -> AsyncIterator[GoClient]:
    """Run the program until the end of the context.

    Args:
        arguments: The sub-command and its flags.
        program: What to run; None builds it.
    """
    path = await asyncio.to_thread(build) if program is None else program
    process = await asyncio.create_subprocess_exec(
        path,
        *arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        limit=2**26,
    )
    try:
        client = GoClient(process)
        await client.wait_ready()
        yield client
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
