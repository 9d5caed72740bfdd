"""A script that runs commands as `tideover lock` does, sends signals at random moments, and prints what was left.

One process imports the code and forks the others, which would else take a second each. Nobody is left when nobody
holds the pipe any more that is the output of all of them.
"""

from __future__ import annotations

import os
import random
import resource
import select
import signal
import sys
import time
from contextlib import suppress

import anyio

from tideover.cli.run_command import CommandRun

# Seconds in which all have to be gone.
_END = 10.0
# How many run at the same time.
_AT_ONCE = 6
# Ignored by Python, so that the lock stays held; what ends no process; what cannot be received by anybody.
_OTHERS = ("PIPE", "XFSZ", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "WINCH")
ENDING = sorted({n for n in signal.Signals if n.name.removeprefix("SIG") not in _OTHERS})


async def _hold() -> int:
    with CommandRun(["sh", "-c", "echo command; exec sleep 60"], grace=1, if_killed="kill") as run:
        await anyio.sleep(0.02)  # the lock is waited for
        await run.run({})
        await anyio.sleep(0.02)  # and given up
    return run.code


def _start() -> tuple[int, int]:
    """Start what is to get a signal; return its process and the end of its output."""
    output, its = os.pipe()
    process = os.fork()
    if process:
        os.close(its)
        return process, output
    code = 130
    try:
        os.dup2(its, 1)
        os.dup2(its, 2)
        os.close(its)
        os.close(output)
        # A shell that runs the tests in the background has set them to be ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        code = anyio.run(_hold)
    finally:
        os._exit(code)


def _read(output: int) -> bytes | None:
    """Read until nobody can write any more; None if that takes too long."""
    said, end = b"", time.monotonic() + _END
    while select.select([output], [], [], max(0, end - time.monotonic()))[0]:
        part = os.read(output, 4096)
        if not part:
            return said
        said += part
    return None


def _life() -> float:
    """Return how many seconds it takes until all commands run."""
    begun = time.monotonic()
    runs = [_start() for _ in range(_AT_ONCE)]
    for _, output in runs:
        os.read(output, 4096)
    life = time.monotonic() - begun
    for process, output in runs:
        os.kill(process, signal.SIGTERM)
        _check(signal.SIGTERM, process, output)
    return life


def _check(number: signal.Signals, process: int, output: int) -> bool:
    """Print what is wrong after a signal; return whether the command had been started."""
    said = _read(output)
    if said is None:
        print(f"left: {number.name}", flush=True)
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code not in (128 + number, -number):
        print(f"code: {number.name} {code} {said!r}", flush=True)
    os.close(output)
    return said is not None and b"command" in said


def main(rounds: int, seed: int) -> None:
    """Send each signal so many times; print a line for each command that was left, and one at the end."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    chance = random.Random(seed)
    life = _life()
    numbers = ENDING * rounds
    chance.shuffle(numbers)
    commands = 0
    for n in range(0, len(numbers), _AT_ONCE):
        runs = [(number, *_start()) for number in numbers[n : n + _AT_ONCE]]
        begun = time.monotonic()
        for number, process, _ in runs:
            # From the first moment until a little after all commands run, more or less evenly.
            left = 1.5 * life - (time.monotonic() - begun)
            time.sleep(chance.uniform(0, max(0.0, 2 * left / _AT_ONCE)))
            os.kill(process, number)
        commands += sum(_check(*run) for run in runs)
    print(f"sent: {len(numbers)}, commands: {commands}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
