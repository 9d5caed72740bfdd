"""Runs the demo, and sees to it that no process and no file is left, whatever ends it.

The event loop receives signals, which are never raised in the middle of something: a child is either not started
yet or known, so that everything known being ended means that nothing is left. Only SIGKILL gets past this; the
service's processes then notice that their parent is gone, etcd's do not.
"""

from __future__ import annotations

import signal
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import anyio
import httpx
from anyio.abc import TaskGroup

from tideover.cli.demo.hold import hold
from tideover.cli.demo.load import Load
from tideover.cli.demo.scenario import Scenario
from tideover.cli.demo.summary import summarise
from tideover.cli.demo.timeline import NotHeld, Timeline
from tideover.cli.exit_codes import Exit, OutputGone
from tideover.testing.etcd import EtcdCluster

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Runner:
    """One run of the demo."""

    def __init__(self, out: IO[str], *, as_json: bool, rate: float, holding: bool) -> None:
        self._timeline = Timeline(out, as_json=as_json)
        self._rate = rate
        self._holding = holding
        self._code = 0

    async def run(self) -> int:
        """Play the demo; return the exit code."""
        # A signal that was ignored when we were started, as with nohup, stays ignored.
        wanted = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        with anyio.open_signal_receiver(*wanted) as signals:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._play_and_cancel, tasks.cancel_scope)
                async for number in signals:
                    self._code = 128 + number
                    tasks.cancel_scope.cancel()
                    break
        return self._code

    async def _play_and_cancel(self, scope: anyio.CancelScope) -> None:
        self._code = await self._play()
        scope.cancel()

    async def _play(self) -> int:
        with ExitStack() as stack:
            # Left in reverse, without waiting for anything: nothing can cut it short.
            folder = Path(stack.enter_context(_temporary_folder()))
            load = Load(rate=self._rate)
            scenario = Scenario(EtcdCluster(), load=load, timeline=self._timeline, folder=folder)
            stack.callback(scenario.close)
            return await self._play_scenario(scenario)

    async def _play_scenario(self, scenario: Scenario) -> int:
        # Proxies are for other hosts than this one.
        async with httpx.AsyncClient(trust_env=False, timeout=5.0) as http, anyio.create_task_group() as tasks:
            try:
                await self._perform(scenario, http, tasks)
            except OutputGone:
                return Exit.PIPE
            finally:
                tasks.cancel_scope.cancel()
        return Exit.FAILED if scenario.broken else Exit.OK

    async def _perform(self, scenario: Scenario, http: httpx.AsyncClient, tasks: TaskGroup) -> None:
        self._introduce()
        try:
            await scenario.run(http, tasks)
        except (NotHeld, RuntimeError, TimeoutError, OSError) as exc:
            scenario.broken.append(str(exc) or repr(exc))
        summarise(scenario, self._timeline)
        if self._holding and not scenario.broken:
            await hold(scenario, self._timeline)

    def _introduce(self) -> None:
        self._timeline.print_text(
            "A web service under load, a real three-node etcd, and an outage. Each line shows what the\n"
            "service answers: the state of etcd, the value's source, and when it was last proven in sync.\n"
        )


def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    # A process that is being killed may still be writing into it.
    return tempfile.TemporaryDirectory(prefix="tideover-demo-", ignore_cleanup_errors=True)
