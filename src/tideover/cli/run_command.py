"""A command that runs as long as something is held for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence

import anyio
from anyio.abc import Process

from tideover.cli.common import note
from tideover.cli.exit_codes import Exit
from tideover.etcd.raw_lines import without_ours

# Passed on to the command: a supervisor that ends us ends it, in its own time and still protected. Ctrl-C is not
# among them: a terminal sends it to both.
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP)


async def run_command(command: Sequence[str], environment: Mapping[str, str], *, grace: float) -> int:
    """Run a command, and return its exit code: 128 and the signal's number if a signal ended it.

    One that cannot be run has the exit code that a shell gives it, and a line on stderr says why.

    If this is cancelled, because what was held is lost, or by Ctrl-C, the command gets SIGTERM, and later SIGKILL.

    Args:
        command: The program and its arguments.
        environment: What it finds in its environment besides ours.
        grace: Seconds between SIGTERM and SIGKILL.
    """
    env = {**without_ours(os.environ), **environment}
    try:
        process = await anyio.open_process(command, stdin=None, stdout=None, stderr=None, env=env)
    except OSError as exc:
        note(f"{command[0]}: {exc.strerror}")
        return Exit.NOT_FOUND if isinstance(exc, FileNotFoundError) else Exit.NOT_EXECUTABLE
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_pass_on, process)
            code = await process.wait()
            tasks.cancel_scope.cancel()
    finally:
        if process.returncode is None:
            with anyio.CancelScope(shield=True):
                process.terminate()
                with anyio.move_on_after(grace):
                    await process.wait()
                if process.returncode is None:
                    process.kill()
                    await process.wait()
    return 128 - code if code < 0 else code


async def _pass_on(process: Process) -> None:
    with anyio.open_signal_receiver(*_PASSED_ON) as signals:
        async for number in signals:
            process.send_signal(number)
