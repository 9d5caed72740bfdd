#!/usr/bin/env bash
# Python 3.11; anyio 4.16.0 on asyncio.
# Guess: `task.cancel()` ends a task of asyncio, also when a scope of anyio in it is cancelled in the same moment: a scope
#   takes back its own cancellations alone (4.16 keeps one that comes from outside, anyio#1214).
# Behaviour: that holds for work done in the task itself. Is the same work a child of a task group and has a time-out of
#   its own that passes while it closes what is open, then the child's scope hands the cancellation that it had asked for
#   to the scope around it, and the scope of the other task takes it back there: one too many. The cancellation from
#   outside is lost, and the task goes on to its end as if only the scope had been cancelled.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet anyio==4.16.0
cat >"$folder/probe.py" <<'PY'
import asyncio

import anyio


async def call():
    with anyio.move_on_after(0.2):
        try:
            await anyio.sleep(10)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.3)  # closes what is open
            await anyio.sleep(0)


async def call_in_a_child():
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)


async def one(work):
    said, scope = [], anyio.CancelScope()

    async def main():
        with scope:
            await work()
        said.append("goes on")
        await asyncio.sleep(0.1)
        said.append("to its end")

    task = asyncio.create_task(main())
    await asyncio.sleep(0.1)
    scope.cancel()
    task.cancel("shutdown")
    await asyncio.wait([task])
    print(f"{work.__name__}: {'cancelled' if task.cancelled() else ' '.join(said)}")


async def main():
    for work in (call, call_in_a_child):
        await one(work)


asyncio.run(main())
PY
"$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
call: cancelled
call_in_a_child: goes on to its end
SEEN
