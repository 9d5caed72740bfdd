"""One instance of the service: a uvicorn process on a free port of loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import httpx

from tideover.cli.demo.timeline import NotHeld

# Seconds: for the first answer, and for ending after SIGTERM.
_START_TIMEOUT = 20.0
_STOP_TIMEOUT = 10.0
_POLL = 0.02


class Instance:
    """One process that serves the shop."""

    def __init__(self, name: str, *, folder: Path, endpoints: Sequence[str]) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        self._cache_dir = folder / "cache"
        self._endpoints = endpoints
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    @property
    def pid(self) -> int | None:
        """The process id; None before the start."""
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process exists."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process; it takes requests at `url` at once and answers when it is up."""
        # Listens here, so that the port is known and no other process can take it.
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener, self._log.open("ab") as log:
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            self._process = subprocess.Popen(
                [
                    # -P: a file in the current directory must not pass for a module.
                    *(sys.executable, "-P", "-m", "tideover.cli.demo.shop"),
                    *("--name", self.name, "--fd", str(listener.fileno())),
                    *("--cache-dir", str(self._cache_dir), *self._endpoints),
                ],
                pass_fds=[listener.fileno()],
                # It ends when this pipe does, so it cannot outlive us, not even if we are killed.
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"},
                # Out of reach of the terminal's Ctrl-C: we end it in our own order.
                start_new_session=True,
            )

    async def wait_ready(self, client: httpx.AsyncClient) -> None:
        """Wait for the first answer.

        Raises:
            NotHeld: There is none; the message has the end of the log.
        """
        try:
            (await client.get(f"{self.url}/status", timeout=_START_TIMEOUT)).raise_for_status()
        except httpx.HTTPError as exc:
            why = f"{type(exc).__name__} {exc}".strip()
            raise NotHeld(f"{self.name} did not start ({why}); its log ends: {self._log_end()}") from exc

    async def stop(self) -> None:
        """End the process as a deployment would, with SIGTERM, and wait until it has gone.

        Raises:
            NotHeld: It did not end in time.
        """
        if self._process is None:
            return
        self._process.terminate()
        try:
            with anyio.fail_after(_STOP_TIMEOUT):
                while self._process.poll() is None:  # noqa: ASYNC110  # a process has no event to wait for
                    await anyio.sleep(_POLL)
        except TimeoutError:
            raise NotHeld(f"{self.name} did not end within {_STOP_TIMEOUT:.0f} s of SIGTERM") from None
        self.kill()

    def kill(self) -> None:
        """End the process at once, whatever it is doing; again is a no-op."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                with suppress(OSError):
                    self._process.stdin.close()

    def _log_end(self) -> str:
        try:
            lines = self._log.read_text(errors="replace").strip().splitlines()
        except OSError:
            return "(no log)"
        return " / ".join(lines[-3:]) or "(empty)"
