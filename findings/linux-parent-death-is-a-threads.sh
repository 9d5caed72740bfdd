#!/usr/bin/env bash
# Python 3.11 (subprocess), Linux.
# Guess: a child that asked the kernel for a signal at its parent's death (PR_SET_PDEATHSIG) gets it when the parent process
#   has ended, and lives as long as that does.
# Behaviour: "parent" is the thread that started it. Where a worker thread starts the command, say asyncio's to_thread or a
#   pool that shrinks, the command is killed when that thread ends, in the midst of the process's life.
# Output seen: "started by the main thread: runs", "started by a thread that has ended: killed by 9".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/child.py" <<'PY'
import ctypes
import signal
import time

ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)
print("ready", flush=True)
time.sleep(30)
PY
cat >"$folder/probe.py" <<'PY'
import pathlib
import subprocess
import sys
import threading
import time

CHILD = str(pathlib.Path(__file__).with_name("child.py"))
started = []


def start():
    process = subprocess.Popen([sys.executable, CHILD], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    started.append(process)


def tell(who):
    time.sleep(1)
    code = started[-1].poll()
    print(f"{who}: {'runs' if code is None else f'killed by {-code}'}")
    started[-1].kill()
    started[-1].wait()


start()
tell("started by the main thread")
thread = threading.Thread(target=start)
thread.start()
thread.join()
tell("started by a thread that has ended")
PY
python3 "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
started by the main thread: runs
started by a thread that has ended: killed by 9
SEEN
