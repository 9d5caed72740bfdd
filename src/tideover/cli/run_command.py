"""A command that runs while a lock or a leadership is held, and the signals meanwhile.

All signals that would end this process are received from before the wait until after the release. A signal before
the command is started ends the wait; later ones are passed on: a supervisor that ends tideover ends the command,
in its own time and still protected. SIGKILL and this process's own faults cannot be received: they end it at once,
and the kernel then ends the command (`become_command`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import click
from anyio.abc import Process

from tideover.cli import become_command
from tideover.cli.exit_codes import Exit
from tideover.cli.seconds import Seconds
from tideover.environment import PASSWORD, SNAPSHOT_KEYS
from tideover.etcd.raw_lines import without_ours

F = TypeVar("F", bound=Callable[..., Any])

# What becomes of the command if this process is killed.
_IF_KILLED = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "leave": 0}
_CANNOT_BE_RECEIVED = {"SIGKILL", "SIGSTOP"}
# After a handler of Python's the failed instruction would run again, endlessly.
_FAULTS = {"SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGSEGV", "SIGSYS", "SIGEMT"}
_END_NOTHING = {"SIGCHLD", "SIGCONT", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGWINCH", "SIGINFO"}
_OTHERS = {getattr(signal, name, None) for names in (_CANNOT_BE_RECEIVED, _FAULTS, _END_NOTHING) for name in names}


def timeout_option(command: F) -> F:
    """Add `--timeout` to a command that waits."""
    text = "Seconds to wait; without a limit if not given."
    return click.option("--timeout", type=Seconds(min=0), default=None, help=text)(command)


def on_outage_option(*policies: str, text: str) -> Callable[[F], F]:
    """Add `--on-outage` to a command; the first policy is the default."""
    return click.option(
        "--on-outage", type=click.Choice(policies), default=policies[0], show_default=True, help=text
    )


def if_killed_option(command: F) -> F:
    """Add the option for COMMAND's fate when tideover itself is killed; named `if_killed`."""
    return click.option(
        "--if-killed",
        type=click.Choice(list(_IF_KILLED)),
        default="kill",
        show_default=True,
        help="What becomes of COMMAND if tideover itself is killed (Linux).",
    )(command)


class CommandRun:
    """One run of a command. Enter this first, then the lock or leadership, then call `run`.

    If the body is cancelled, because what was held is lost, or by Ctrl-C, the command gets SIGTERM, and later
    SIGKILL.
    """

    def __init__(self, command: Sequence[str], *, grace: float, if_killed: str) -> None:
        self.code: int = Exit.FAILED
        self._command = command
        self._grace = grace
        self._death_signal = _IF_KILLED[if_killed] if sys.platform == "linux" else 0
        self._received: list[int] = []
        self._begun = False
        self._early: list[int] = []
        self._process: Process | None = None

    def __enter__(self) -> CommandRun:
        """Receive signals; those ignored from the start, as under nohup, stay ignored."""
        loop = asyncio.get_running_loop()
        for number in sorted(signal.valid_signals() - _OTHERS):
            if signal.getsignal(number) is signal.SIG_DFL:
                loop.add_signal_handler(number, self._receive, number)
                self._received.append(number)
        self._scope = anyio.CancelScope()
        self._scope.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Receive no more; a body that a signal has ended is left here."""
        try:
            return bool(self._scope.__exit__(kind, error, trace))
        finally:
            loop = asyncio.get_running_loop()
            for number in self._received:
                loop.remove_signal_handler(number)

    async def run(self, environment: Mapping[str, str]) -> None:
        """Run the command until it ends; the result is `code`."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        self._begun = True
        process = await self._start({**without_ours(os.environ), **environment})
        try:
            code = await process.wait()
            self.code = 128 - code if code < 0 else code
        finally:
            if process.returncode is None:
                with anyio.CancelScope(shield=True):
                    self._send(signal.SIGTERM)
                    with anyio.move_on_after(self._grace):
                        await process.wait()
                    if process.returncode is None:
                        self._send(signal.SIGKILL)
                        await process.wait()

    async def _start(self, environment: dict[str, str]) -> Process:
        for secret in (PASSWORD, SNAPSHOT_KEYS):
            environment.pop(secret, None)
        with anyio.CancelScope(shield=True), _blocked([signal.SIGINT, *self._received]) as held_back:
            script = [str(os.getpid()), str(int(self._death_signal)), ",".join(str(int(n)) for n in held_back)]
            interpreter = [sys.executable, "-I", "-S", become_command.__file__]
            self._process = process = await anyio.open_process(
                [*interpreter, *script, *self._command], stdin=None, stdout=None, stderr=None, env=environment
            )
        for number in self._early:
            self._send(number)
        return process

    def _receive(self, number: int) -> None:
        if not self._begun:
            self.code = 128 + number
            self._scope.cancel()
        elif self._process is None:
            self._early.append(number)
        else:
            self._send(number)

    def _send(self, number: int) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            # Not `send_signal`: that polls first, and would take the exit code away from the event loop.
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)


@contextmanager
def _blocked(numbers: Sequence[int]) -> Iterator[list[int]]:
    """Block signals, for children to begin with; give those that were not blocked before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield [number for number in numbers if number not in before]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
