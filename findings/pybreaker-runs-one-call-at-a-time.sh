#!/usr/bin/env bash
# Python 3.11; pybreaker 1.4.1.
# Guess: a circuit breaker counts calls and does not line them up. pybreaker calls itself thread-safe, and a service
#   calls the same function in many threads at once, with or without it.
# Behaviour: the breaker's lock is held while the function runs, so calls of one breaker run one after the other: five
#   calls of 0.4 s in five threads take 2 s. A call that hangs holds back all that come after it, which fail neither
#   fast nor at all, and `open()`, meant to cut the service off by hand, waits as well. The same breaker used as
#   `with breaker.calling():` holds no lock in the body.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pybreaker==1.4.1
cat >"$folder/probe.py" <<'PY'
import threading
import time

import pybreaker

breaker = pybreaker.CircuitBreaker(fail_max=5)
running, most = 0, 0
lock = threading.Lock()


def ask():
    global running, most
    with lock:
        running += 1
        most = max(most, running)
    time.sleep(0.4)
    with lock:
        running -= 1


def ask_in_a_block():
    with breaker.calling():
        ask()


for name, function in (("plain", ask), ("breaker", breaker(ask)), ("calling()", ask_in_a_block)):
    most, begun = 0, time.monotonic()
    threads = [threading.Thread(target=function) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - begun
    print(f"{name}: {most} at a time, together in less than 1.9 s: {took < 1.9}")
hanging = threading.Event()
thread = threading.Thread(target=breaker.call, args=(hanging.wait,))
thread.start()
time.sleep(0.2)
opening = threading.Thread(target=breaker.open)
opening.start()
opening.join(2)
print("open() beside a call that hangs:", "waits" if opening.is_alive() else "is done")
hanging.set()
thread.join()
opening.join()
PY
timeout 60 "$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
plain: 5 at a time, together in less than 1.9 s: True
breaker: 1 at a time, together in less than 1.9 s: False
calling(): 5 at a time, together in less than 1.9 s: True
open() beside a call that hangs: waits
SEEN
