#!/usr/bin/env bash
# Python 3.11 (asyncio), anyio 4.16.0.
# Guess: a cancellation that passes through `await asyncio.gather(...)` comes out as it went in, with its message, as
#   through asyncio.wait, shield and wait_for.
# Behaviour: if the children end in spite of it, gather raises a CancelledError of its own, without the message, also
#   with return_exceptions=True. anyio tells its own cancellations by that message: a scope whose time is up does not
#   know this one, and `move_on_after` raises CancelledError in a task that nobody has cancelled.
# Output seen: "wait: moved on", "gather: CancelledError, asked for 0 times".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet anyio==4.16.0
cat >"$folder/probe.py" <<'PY'
import asyncio

import anyio


async def stubborn():
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        pass


async def waiting():
    task = asyncio.ensure_future(stubborn())
    try:
        await asyncio.wait([task])
    finally:
        task.cancel()
        await asyncio.wait([task])


async def gathering():
    await asyncio.gather(stubborn(), return_exceptions=True)


async def attempt(name, function):
    try:
        with anyio.move_on_after(0.1):
            await function()
        print(f"{name}: moved on")
    except asyncio.CancelledError:
        print(f"{name}: CancelledError, asked for {asyncio.current_task().cancelling()} times")


async def main():
    for name, function in (("wait", waiting), ("gather", gathering)):
        await asyncio.create_task(attempt(name, function))


asyncio.run(main())
PY
"$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
wait: moved on
gather: CancelledError, asked for 0 times
SEEN
