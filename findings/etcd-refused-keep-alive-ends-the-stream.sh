#!/usr/bin/env bash
# etcd 3.5.35 and 3.7.3 with auth on, and their own Go client's API; Go 1.26.
# Guess: a keep-alive is answered lease by lease. One that is no longer there is answered with a TTL of 0 and the stream
#   goes on; one that the user may not renew is refused likewise, and other leases on the same stream are renewed.
# Behaviour: a lease is renewed only for a user who may write every key on it. A user who may write one of two keys any
#   more is refused, and the refusal is the end of the stream: leases asked for after it get no answer and expire unless
#   the client opens another stream for them. Clients renew all their leases over one stream, so one role that
#   lost one key can cost leases that have nothing to do with it.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
server=
trap 'if [ -n "$server" ]; then kill "$server"; wait "$server" || true; fi; rm -rf "$folder"' EXIT
python3 - >"$folder/ports" <<'PY'
import socket

sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
print(*(s.getsockname()[1] for s in sockets))
PY
read -r -a ports <"$folder/ports"
cat >"$folder/main.go" <<'GO'
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"go.uber.org/zap"
	"google.golang.org/grpc/status"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func client(endpoint, user string) *clientv3.Client {
	return must(clientv3.New(clientv3.Config{
		Endpoints: []string{endpoint}, Username: user, Password: user, Logger: zap.NewNop(), DialTimeout: 30 * time.Second,
	}))
}

func probe(endpoint string) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	open := client(endpoint, "")
	for _, name := range []string{"root", "shop"} {
		must(open.RoleAdd(ctx, name))
		must(open.UserAdd(ctx, name, name))
		must(open.UserGrantRole(ctx, name, name))
	}
	for _, key := range []string{"a", "b", "c"} {
		must(open.RoleGrantPermission(ctx, "shop", key, "", clientv3.PermissionType(clientv3.PermReadWrite)))
	}
	must(open.AuthEnable(ctx))
	root, shop := client(endpoint, "root"), client(endpoint, "shop")
	both, other := must(shop.Grant(ctx, 60)).ID, must(shop.Grant(ctx, 60)).ID
	for key, lease := range map[string]clientv3.LeaseID{"a": both, "b": both, "c": other} {
		must(shop.Put(ctx, key, "", clientv3.WithLease(lease)))
	}
	gone := must(shop.Grant(ctx, 60)).ID
	must(shop.Revoke(ctx, gone))

	show := func(when string, leases ...clientv3.LeaseID) {
		fmt.Println(when)
		names := map[clientv3.LeaseID]string{both: "the lease of a and b", other: "the lease of c", gone: "a revoked lease"}
		stream := must(pb.NewLeaseClient(shop.ActiveConnection()).LeaseKeepAlive(ctx))
		for _, lease := range leases {
			if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(lease)}); err != nil {
				fmt.Printf("  %s: not sent, the stream has ended\n", names[lease])
				continue
			}
			answer, err := stream.Recv()
			if err != nil {
				fmt.Printf("  %s: %s\n", names[lease], status.Convert(err).Message())
				time.Sleep(time.Second)
				continue
			}
			fmt.Printf("  %s: TTL %d\n", names[lease], answer.TTL)
		}
	}
	show("a, b and c may be written:", other, gone, both, other)
	must(root.RoleRevokePermission(ctx, "shop", "b", ""))
	time.Sleep(time.Second)
	show("a and c may be written:", other, gone, both, other)
}

func main() {
	if os.Args[1] == "etcd" {
		etcdmain.Main(os.Args[1:])
	} else {
		probe(os.Args[1])
	}
}
GO
for version in 3.5.35 3.7.3; do
    mkdir "$folder/$version"
    cd "$folder/$version"
    cp ../main.go .
    printf 'module probe\n\ngo 1.26.0\n' >go.mod
    go get "go.etcd.io/etcd/server/v3@v$version" "go.etcd.io/etcd/client/v3@v$version" >got 2>&1
    go build -mod=mod -trimpath -ldflags="-s -w" -o probe . 2>built
    client=${ports[0]} peer=${ports[1]}
    ports=("${ports[@]:2}")
    ./probe etcd --data-dir data --listen-client-urls "http://127.0.0.1:$client" \
        --advertise-client-urls "http://127.0.0.1:$client" --listen-peer-urls "http://127.0.0.1:$peer" \
        --initial-advertise-peer-urls "http://127.0.0.1:$peer" --initial-cluster "default=http://127.0.0.1:$peer" \
        >log 2>&1 &
    server=$!
    echo "$version"
    timeout 100 ./probe "127.0.0.1:$client"
    kill "$server"
    wait "$server" || true
    server=
done >"$folder/out" || { cat "$folder/out"; exit 1; }
cat "$folder/out"
diff "$folder/out" - <<'SEEN'
3.5.35
a, b and c may be written:
  the lease of c: TTL 60
  a revoked lease: TTL 0
  the lease of a and b: TTL 60
  the lease of c: TTL 60
a and c may be written:
  the lease of c: TTL 60
  a revoked lease: TTL 0
  the lease of a and b: etcdserver: permission denied
  the lease of c: not sent, the stream has ended
3.7.3
a, b and c may be written:
  the lease of c: TTL 60
  a revoked lease: TTL 0
  the lease of a and b: TTL 60
  the lease of c: TTL 60
a and c may be written:
  the lease of c: TTL 60
  a revoked lease: TTL 0
  the lease of a and b: etcdserver: permission denied
  the lease of c: not sent, the stream has ended
SEEN
