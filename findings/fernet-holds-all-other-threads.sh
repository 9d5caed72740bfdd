#!/usr/bin/env bash
# Python 3.11; cryptography 50.0.2.
# Guess: a long encryption in a thread of its own leaves the others running, as hashlib, zlib and ssl do: the work is
#   native code, and the documentation of asyncio sends such work to threads.
# Behaviour: Fernet holds the GIL for the whole of one call, however large its input: in a service all event
#   loops stand still for as long as a file is encrypted in a thread. hashlib of the standard library lets them run.
#   So what is large is given to Fernet in pieces.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet cryptography==50.0.2
cat >"$folder/probe.py" <<'PY'
import hashlib
import threading
import time

from cryptography.fernet import Fernet

data = b"x" * (64 << 20)
fernet = Fernet(Fernet.generate_key())


def share_of_longest_pause(call):
    """Run a call in a thread; return how much of its time another thread was not let run at a stretch."""
    worker = threading.Thread(target=lambda: took.append(timed(call)))
    took, longest, last = [], 0.0, time.perf_counter()
    worker.start()
    while worker.is_alive():
        time.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return longest / took[0]


def timed(call):
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


CALLS = {
    "hashlib.sha512": lambda: hashlib.sha512(data).digest(),
    "Fernet.encrypt": lambda: fernet.encrypt(data),
}
for name, call in CALLS.items():
    pause = min(share_of_longest_pause(call) for _ in range(3))
    print(f"{name}: the others {'stand still' if pause > 0.15 else 'run'}")
PY
"$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
hashlib.sha512: the others run
Fernet.encrypt: the others stand still
SEEN
