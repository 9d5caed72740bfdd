#!/usr/bin/env bash
# etcd 3.5.35 and 3.7.3 with auth on, and their own Go client; Go 1.26.
# Guess: a put asks for the right to its key, whatever lease it names; and a lease belongs to the user it was granted to,
#   who may end it at any time.
# Behaviour: a lease belongs to nobody, and what names it asks for the right to every key that hangs on it. Once a user may
#   no longer write one of two keys, a put of the other under that lease is refused (the same put under another lease, or
#   none, is not), so is a put of a third key, alone or in a transaction, and so is Revoke: a service that releases what
#   it holds cannot, and its keys stay until the lease expires.
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

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"go.uber.org/zap"
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
	must(shop.Put(ctx, "a", "", clientv3.WithLease(both)))
	must(shop.Put(ctx, "b", "", clientv3.WithLease(both)))

	said := func(what string, err error) {
		if err == nil {
			fmt.Printf("  %s: OK\n", what)
		} else {
			fmt.Printf("  %s: %v\n", what, err)
		}
	}
	show := func() {
		put := func(what, key string, options ...clientv3.OpOption) {
			_, err := shop.Put(ctx, key, "", options...)
			said(what, err)
		}
		put("put of a under the lease of a and b", "a", clientv3.WithLease(both))
		put("put of c under the lease of a and b", "c", clientv3.WithLease(both))
		_, err := shop.Txn(ctx).Then(clientv3.OpPut("c", "", clientv3.WithLease(both))).Commit()
		said("the same in a transaction", err)
		put("put of c under another lease", "c", clientv3.WithLease(other))
	}
	fmt.Println("a, b and c may be written:")
	show()
	must(root.RoleRevokePermission(ctx, "shop", "b", ""))
	time.Sleep(time.Second)
	fmt.Println("a and c may be written:")
	show()
	_, err := shop.Revoke(ctx, both)
	said("revoke of the lease of a and b", err)
	_, err = shop.Revoke(ctx, other)
	said("revoke of the other lease", err)
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
  put of a under the lease of a and b: OK
  put of c under the lease of a and b: OK
  the same in a transaction: OK
  put of c under another lease: OK
a and c may be written:
  put of a under the lease of a and b: etcdserver: permission denied
  put of c under the lease of a and b: etcdserver: permission denied
  the same in a transaction: etcdserver: permission denied
  put of c under another lease: OK
  revoke of the lease of a and b: etcdserver: permission denied
  revoke of the other lease: OK
3.7.3
a, b and c may be written:
  put of a under the lease of a and b: OK
  put of c under the lease of a and b: OK
  the same in a transaction: OK
  put of c under another lease: OK
a and c may be written:
  put of a under the lease of a and b: etcdserver: permission denied
  put of c under the lease of a and b: etcdserver: permission denied
  the same in a transaction: etcdserver: permission denied
  put of c under another lease: OK
  revoke of the lease of a and b: etcdserver: permission denied
  revoke of the other lease: OK
SEEN
