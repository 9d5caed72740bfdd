#!/usr/bin/env bash
# etcd 3.5.35, 3.6.16 and 3.7.3, and their own Go client; Go 1.26.
# Guess: `keys_only` leaves out the value of each key and nothing else: key, revisions, version and lease are the same as in
#   a read of the whole, as they have always been.
# Behaviour: 3.7.3 answers a read of keys alone with lease 0 for a key that has one; 3.5.35 and 3.6.16 answer with the lease.
#   Who looks at a key's lease to tell whose it is, and saves the values, finds that it belongs to nobody once a member is new.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
server=
trap 'if [ -n "$server" ]; then kill "$server"; wait "$server" || true; fi; rm -rf "$folder"' EXIT
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

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	if os.Args[1] == "etcd" {
		etcdmain.Main(os.Args[1:])
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	etcd, err := clientv3.New(clientv3.Config{
		Endpoints: os.Args[1:], Logger: zap.NewNop(), DialTimeout: 30 * time.Second,
	})
	check(err)
	_, err = etcd.Put(ctx, "plain", "value")
	check(err)
	lease, err := etcd.Grant(ctx, 60)
	check(err)
	_, err = etcd.Put(ctx, "leased", "value", clientv3.WithLease(lease.ID))
	check(err)
	for _, key := range []string{"plain", "leased"} {
		for _, how := range []struct {
			name string
			op   clientv3.Op
		}{{"whole", clientv3.OpGet(key)}, {"keys only", clientv3.OpGet(key, clientv3.WithKeysOnly())}} {
			alone, err := etcd.Do(ctx, how.op)
			check(err)
			within, err := etcd.Txn(ctx).Then(how.op).Commit()
			check(err)
			one, two := alone.Get().Kvs[0], within.Responses[0].GetResponseRange().Kvs[0]
			fmt.Printf("  %s, %s: value %q, version %d, its lease: %v; in a transaction: %v\n",
				key, how.name, one.Value, one.Version, one.Lease != 0, two.Lease != 0)
		}
	}
}
GO
for version in 3.5.35 3.6.16 3.7.3; do
    mkdir "$folder/$version"
    cd "$folder/$version"
    cp ../main.go .
    printf 'module probe\n\ngo 1.26.0\n' >go.mod
    go get "go.etcd.io/etcd/server/v3@v$version" "go.etcd.io/etcd/client/v3@v$version" >got 2>&1
    go build -mod=mod -trimpath -ldflags="-s -w" -o probe . 2>built
    read -r client peer < <(python3 -c 'import socket
both = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(each.getsockname()[1] for each in both))')
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
  plain, whole: value "value", version 1, its lease: false; in a transaction: false
  plain, keys only: value "", version 1, its lease: false; in a transaction: false
  leased, whole: value "value", version 1, its lease: true; in a transaction: true
  leased, keys only: value "", version 1, its lease: true; in a transaction: true
3.6.16
  plain, whole: value "value", version 1, its lease: false; in a transaction: false
  plain, keys only: value "", version 1, its lease: false; in a transaction: false
  leased, whole: value "value", version 1, its lease: true; in a transaction: true
  leased, keys only: value "", version 1, its lease: true; in a transaction: true
3.7.3
  plain, whole: value "value", version 1, its lease: false; in a transaction: false
  plain, keys only: value "", version 1, its lease: false; in a transaction: false
  leased, whole: value "value", version 1, its lease: true; in a transaction: true
  leased, keys only: value "", version 1, its lease: false; in a transaction: false
SEEN
