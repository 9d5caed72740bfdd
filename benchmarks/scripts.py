"""Scripts that time themselves, each run in a fresh process that finds every module compiled."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from benchmarks.child import ROOT
from benchmarks.harness import Timings


class Scripts:
    """Runs scripts, each of which prints a number.

    Args:
        compiled: A folder for what Python compiles; so it does not matter whether the installed modules are, nor
            what the environment says about writing there.
    """

    def __init__(self, compiled: str) -> None:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._environment = {**kept, "PYTHONPYCACHEPREFIX": compiled}

    async def run(self, script: str) -> float:
        """Run one; return its number.

        Raises:
            RuntimeError: It failed; the message has its standard error.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            script,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env=self._environment,
        )
        output, errors = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"exited with {process.returncode}: {script}\n{errors.decode()}")
        return float(output)

    async def by_turns(self, scripts: Mapping[str, str], *, rounds: int) -> Timings:
        """Run all in turn, round after round; a round before the first compiles what they import."""
        found = [{name: await self.run(script) for name, script in scripts.items()} for _ in range(rounds + 1)]
        return Timings(found[1:])


@asynccontextmanager
async def compiled() -> AsyncIterator[Scripts]:
    """Give what runs scripts, with a folder for compiled modules that lasts as long."""
    with tempfile.TemporaryDirectory() as folder:
        yield Scripts(folder)
