"""A child process that can be paused, and that never outlives this interpreter."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

_open_processes: set[ChildProcess] = set()


class ChildProcess(ABC):
    """One restartable child process with a temporary directory and a log, until `close()`.

    The process runs in its own session, out of reach of a terminal's Ctrl-C, and is killed at the
    latest when the interpreter exits. No guarantee when Python itself is ended by a signal that it
    does not handle: SIGKILL, or SIGTERM by default.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._temp: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False
        self._cwd: Path | None = None
        self._closed = False
        self._log_start = 0
        self._final_log = b""

    @abstractmethod
    def _command(self, temp: Path) -> tuple[list[str], dict[str, str]]:
        """Return the command line and the environment for a process that may use `temp`."""

    @property
    def running(self) -> bool:
        """Whether the process exists, paused or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def paused(self) -> bool:
        """Whether the process is frozen by `pause()`."""
        return self._paused and self.running

    @property
    def pid(self) -> int | None:
        """The process id; None while it is not running."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def state(self) -> str:
        """One word for people: closed, stopped, exited, paused or running."""
        if self._closed:
            return "closed"
        if self._process is None:
            return "stopped"
        if not self.running:
            return "exited"
        return "paused" if self._paused else "running"

    def log(self) -> str:
        """Return all that the process wrote, over all its starts; still there after `close()`."""
        return self._log_bytes().decode(errors="replace")

    def start(self) -> None:
        """Start the process and return at once.

        Raises:
            RuntimeError: It is running, or closed.
            OSError: The program cannot be executed.
        """
        if self._closed:
            raise RuntimeError(f"cannot start {self!r}: it is closed")
        if self.running:
            raise RuntimeError(f"cannot start {self!r}: it is running already")
        self._paused = False
        if self._temp is None:
            with _sigint_held():
                self._temp = Path(tempfile.mkdtemp(prefix="tideover-etcd-"))
                _open_processes.add(self)
        command, env = self._command(self._temp)
        with (self._temp / "log").open("ab") as log, _sigint_held():
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                command,
                env=env,
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self, timeout: float = 10.0) -> None:
        """End the process as an operator would, with SIGTERM; a no-op when it is not running.

        A paused process is resumed first, it could not react otherwise.
        """
        self.terminate()
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
        self.kill()

    def terminate(self) -> None:
        """Send SIGTERM without waiting for the end; a no-op when it is not running."""
        if self.paused:
            self.resume()
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """End the process with SIGKILL, as a crash would; a no-op when it is not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._paused = False

    def pause(self) -> None:
        """Freeze the process with SIGSTOP: connections stay open and nothing is answered.

        Raises:
            RuntimeError: It is not running, or paused already.
        """
        process = self._process
        if process is None or not self.running:
            raise RuntimeError(f"cannot pause {self!r}: it is not running")
        if self._paused:
            raise RuntimeError(f"cannot pause {self!r}: it is paused already")
        process.send_signal(signal.SIGSTOP)
        self._paused = True
        if hasattr(os, "waitid"):
            # kill(2) returns before the signal takes effect; wait until every thread has stopped,
            # so that no answer slips out afterwards. An exit is left for Popen to reap.
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Continue a paused process with SIGCONT.

        Raises:
            RuntimeError: It is not running, or not paused.
        """
        if self._process is None or not self.paused:
            raise RuntimeError(f"cannot resume {self!r}: it is not paused")
        self._process.send_signal(signal.SIGCONT)
        self._paused = False

    def close(self) -> None:
        """Kill the process and remove its temporary directory, for good; again is a no-op."""
        self.kill()
        if self._temp is not None and not self._closed:
            self._final_log = self._log_bytes()
            shutil.rmtree(self._temp, ignore_errors=True)
        self._closed = True
        _open_processes.discard(self)

    def _log_of_run(self) -> str:
        return self._log_bytes()[self._log_start :].decode(errors="replace")

    def _log_bytes(self) -> bytes:
        if self._temp is None or not (self._temp / "log").exists():
            return self._final_log
        return (self._temp / "log").read_bytes()


@contextmanager
def _sigint_held() -> Iterator[None]:
    """Delay Ctrl-C: inside Popen it would leave a child without a handle.

    Python runs signal handlers in the main thread only, so others have nothing to hold.
    """
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or previous is None:
        yield
        return
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if held:
            signal.raise_signal(signal.SIGINT)


def _close_all() -> None:
    for process in list(_open_processes):
        process.close()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_open_processes.clear)  # a fork must not end our processes
