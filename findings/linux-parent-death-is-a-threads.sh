#!/usr/bin/env bash
# anyio 4.16.0 (asyncio), Python 3.11, Linux.
# Guess: a child that asked the kernel for a signal at its parent's death (PR_SET_PDEATHSIG) lives as long as the process
#   that started it, also if that was done in anyio's thread pool, so as not to block the event loop.
# Behaviour: for the kernel "parent" is the thread. When the pool gives up a thread that was idle for 10 s, the command that
#   was started there is killed, in the midst of the process's life, by the next unrelated call of the pool.
# Output seen: "after 11 s: runs", "after another call in the pool: killed by 9".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet anyio==4.16.0
cat >"$folder/child.py" <<'PY'
import ctypes
import signal
import time

ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)
print("ready", flush=True)
time.sleep(60)
PY
cat >"$folder/probe.py" <<'PY'
import asyncio
import pathlib
import subprocess
import sys
import time

from anyio import create_task_group, to_thread

CHILD = str(pathlib.Path(__file__).with_name("child.py"))
started = []


def start():
    process = subprocess.Popen([sys.executable, CHILD], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    started.append(process)


def tell(when):
    code = started[0].poll()
    print(f"{when}: {'runs' if code is None else f'killed by {-code}'}")


async def main():
    async with create_task_group() as tasks:  # two calls at a time, so that the pool has two threads
        tasks.start_soon(to_thread.run_sync, start)
        tasks.start_soon(to_thread.run_sync, time.sleep, 1)
    await asyncio.sleep(11)
    tell("after 11 s")
    await to_thread.run_sync(str)
    await asyncio.sleep(1)
    tell("after another call in the pool")
    started[0].kill()
    started[0].wait()


asyncio.run(main())
PY
"$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
after 11 s: runs
after another call in the pool: killed by 9
SEEN
