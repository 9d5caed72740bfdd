#!/usr/bin/env bash
# Python 3.11, Linux; uvicorn 0.54.0 with `--workers 2`.
# Guess: SIGHUP ends each worker and starts it again: the successor finds free what its predecessor had (a port for its
#   metrics, a lock on the file of its slot), and a start may take as long as the first one might.
# Behaviour: the successor is started first, and its predecessor ends when it is ready. Workers that take the first free
#   of slots 0, 1 and so on are at 1 and 2 after a SIGHUP or at 0 and 2, outside what is scraped for two workers. And a
#   start of more than 5 s (`--timeout-worker-healthcheck`), which is fine at first, breaks the restart off:
#   the old code serves on, and but for a line in the log nothing says so.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet uvicorn==0.54.0
cat >"$folder/service.py" <<'PY'
import asyncio
import fcntl
import os

held = []


def take_slot():
    for slot in range(9):
        file = open(f"slot-{slot}", "a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        held.append(file)
        return slot


async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    slot = take_slot()
    await asyncio.sleep(float(os.environ["STARTUP"]))
    await send({"type": "lifespan.startup.complete"})
    with open("started", "a") as started:
        print(slot, file=started)
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
PY
cat >"$folder/probe.py" <<'PY'
import os
import signal
import subprocess
import sys
import time

for startup in ("0.5", "7"):
    with open("started", "w"), open("log", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "--workers", "2", "--port", "0", "service:app"],
            stderr=log,
            env={**os.environ, "STARTUP": startup},
        )

    def slots(count):
        for _ in range(400):
            with open("started") as started:
                found = started.read().split()
            with open("log") as log:
                aborted = "aborting the restart" in log.read()
            if len(found) >= count or aborted:
                return found, aborted
            time.sleep(0.1)
        raise SystemExit("nothing happened")

    try:
        first, _ = slots(2)
        print(f"a start of {startup} s: slots {' '.join(sorted(first))}", flush=True)
        server.send_signal(signal.SIGHUP)
        found, aborted = slots(4)
        after = "aborted" if aborted else "one has slot 2" if "2" in found[2:] else "the same slots"
        print(f"  after SIGHUP: {after}", flush=True)
    finally:
        server.terminate()
        server.wait(30)
PY
cd "$folder"
"$folder/venv/bin/python" probe.py | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
a start of 0.5 s: slots 0 1
  after SIGHUP: one has slot 2
a start of 7 s: slots 0 1
  after SIGHUP: aborted
SEEN
