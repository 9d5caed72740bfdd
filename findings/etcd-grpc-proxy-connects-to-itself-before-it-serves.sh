#!/usr/bin/env bash
# etcd's grpc-proxy of 3.5.16, 3.5.35, 3.6.16 and 3.7.3, built with Go 1.26, all in front of one etcd 3.7.3.
# Guess: `grpc-proxy start --endpoints=E --listen-addr=127.0.0.1:PORT` serves on PORT. What it advertises is for member
#   lists and for --resolver-prefix, which is not given.
# Behaviour: in 3.5.35 and 3.6.16 it connects to the address that it advertises before it serves, with a block of 5 s,
#   and exits with 1 if nobody listens there; unless told otherwise it advertises 127.0.0.1:23790, whatever it listens
#   on. 3.5.16, from before, and 3.7.3, from after, serve at once. With --advertise-client-url all four do.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/main.go" <<'GO'
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
GO
for version in 3.5.16 3.5.35 3.6.16 3.7.3; do
    mkdir "$folder/$version"
    cd "$folder/$version"
    cp ../main.go .
    printf 'module probe\n\ngo 1.26.0\n' >go.mod
    go get "go.etcd.io/etcd/server/v3@v$version" >got 2>&1
    go build -mod=mod -trimpath -ldflags="-s -w" -o etcd . 2>built
done
cat >"$folder/probe.py" <<'PY'
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

folder = Path(sys.argv[1])


def free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def answers(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as found:
            return found.status == 200
    except (urllib.error.URLError, OSError):
        return False


def start(version, *arguments):
    log = (folder / f"{version}.log").open("ab")
    command = [folder / version / "etcd", *arguments]
    return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder / version)


client, peer = free(), free()
etcd = start(
    "3.7.3",
    f"--data-dir={folder / 'data'}",
    f"--listen-client-urls=http://127.0.0.1:{client}",
    f"--advertise-client-urls=http://127.0.0.1:{client}",
    f"--listen-peer-urls=http://127.0.0.1:{peer}",
    f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
    f"--initial-cluster=default=http://127.0.0.1:{peer}",
)
try:
    while not answers(client):
        time.sleep(0.1)
    for version in ("3.5.16", "3.5.35", "3.6.16", "3.7.3"):
        said = []
        for advertised in (False, True):
            port = free()
            given = [f"--advertise-client-url=127.0.0.1:{port}"] if advertised else []
            proxy = start(
                version, "grpc-proxy", "start", f"--endpoints=127.0.0.1:{client}", f"--listen-addr=127.0.0.1:{port}", *given
            )
            ends = time.monotonic() + 30
            while proxy.poll() is None and not answers(port) and time.monotonic() < ends:
                time.sleep(0.1)
            said.append("serves" if proxy.poll() is None else f"exits with {proxy.returncode}")
            proxy.kill()
            proxy.wait()
        print(f"{version}: {said[0]}; with --advertise-client-url {said[1]}")
finally:
    etcd.kill()
    etcd.wait()
PY
python3 "$folder/probe.py" "$folder" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
3.5.16: serves; with --advertise-client-url serves
3.5.35: exits with 1; with --advertise-client-url serves
3.6.16: exits with 1; with --advertise-client-url serves
3.7.3: serves; with --advertise-client-url serves
SEEN
