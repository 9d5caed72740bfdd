package main

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/concurrency"
	"golang.org/x/sys/unix"
)

// lock takes and releases a lock that nobody else wants, so many times in a row in one session.
func lock(flags *flag.FlagSet, arguments []string) (round, error) {
	endpoint := flags.String("endpoint", "127.0.0.1:2379", "etcd")
	name := flags.String("name", "bench", "the lock's name")
	ttl := flags.Int("ttl", 15, "seconds")
	count := flags.Int("count", 100, "how many times in a round")
	pause := flags.Duration("pause", 0, "how long to wait after each release")
	flags.Parse(arguments)
	client, err := connect(*endpoint)
	if err != nil {
		return nil, err
	}
	session, err := concurrency.NewSession(client, concurrency.WithTTL(*ttl))
	if err != nil {
		return nil, err
	}
	return func() (interface{}, error) {
		acquire, release := make([]float64, *count), make([]float64, *count)
		for n := range acquire {
			mutex := concurrency.NewMutex(session, *name)
			began := time.Now()
			if err := mutex.Lock(context.Background()); err != nil {
				return nil, err
			}
			acquire[n] = since(began)
			began = time.Now()
			if err := mutex.Unlock(context.Background()); err != nil {
				return nil, err
			}
			release[n] = since(began)
			time.Sleep(*pause)
		}
		return map[string]interface{}{"acquire": acquire, "release": release}, nil
	}, nil
}

// hold is one time a worker had the lock, in nanoseconds of CLOCK_MONOTONIC. Wanted is just before it asked, and
// Released just before it let go.
type hold struct {
	Worker   int   `json:"worker"`
	Wanted   int64 `json:"wanted"`
	Acquired int64 `json:"acquired"`
	Released int64 `json:"released"`
}

// A worker takes and releases the lock once.
type worker func(ctx context.Context) (hold, error)

// contend lets several goroutines take and release one lock for so many seconds.
//
// With `-sessions own` each goroutine has a session, over the one client. It must: a Mutex's key is its name and its
// session's lease, so that two goroutines with Mutexes of one session would both hold the lock at once.
// With `-sessions shared` there is one session, and a sync.Mutex in front of it that the goroutines queue on, which
// is how a service written with care may do it.
func contend(flags *flag.FlagSet, arguments []string) (round, error) {
	endpoint := flags.String("endpoint", "127.0.0.1:2379", "etcd")
	name := flags.String("name", "bench", "the lock's name")
	ttl := flags.Int("ttl", 15, "seconds")
	count := flags.Int("workers", 8, "how many goroutines")
	seconds := flags.Float64("seconds", 3, "how long a round lasts")
	sessions := flags.String("sessions", "own", "own: one for each goroutine; shared: one, behind a sync.Mutex")
	pause := flags.Duration("hold", 0, "how long each holds the lock")
	flags.Parse(arguments)
	if *sessions != "own" && *sessions != "shared" {
		return nil, fmt.Errorf("-sessions must be own or shared, not %q", *sessions)
	}
	client, err := connect(*endpoint)
	if err != nil {
		return nil, err
	}
	workers, err := newWorkers(client, *name, *ttl, *count, *sessions == "shared", *pause)
	if err != nil {
		return nil, err
	}
	return func() (interface{}, error) {
		began := time.Now()
		holds, err := contendFor(workers, time.Duration(*seconds*float64(time.Second)))
		return map[string]interface{}{"seconds": since(began), "count": len(holds), "holds": holds}, err
	}, nil
}

func newWorkers(
	client *clientv3.Client, name string, ttl, count int, shared bool, pause time.Duration,
) ([]worker, error) {
	var local sync.Mutex
	var session *concurrency.Session
	workers := make([]worker, count)
	for n := range workers {
		if session == nil || !shared {
			var err error
			if session, err = concurrency.NewSession(client, concurrency.WithTTL(ttl)); err != nil {
				return nil, err
			}
		}
		n, mine := n, session
		workers[n] = func(ctx context.Context) (hold, error) {
			wanted := monotonic()
			if shared {
				local.Lock()
				defer local.Unlock()
			}
			mutex := concurrency.NewMutex(mine, name)
			if err := mutex.Lock(ctx); err != nil {
				return hold{}, err
			}
			acquired := monotonic()
			time.Sleep(pause)
			released := monotonic()
			return hold{n, wanted, acquired, released}, mutex.Unlock(context.Background())
		}
	}
	return workers, nil
}

func contendFor(workers []worker, long time.Duration) ([]hold, error) {
	until := time.Now().Add(long)
	holds, failed := make([][]hold, len(workers)), make([]error, len(workers))
	var all sync.WaitGroup
	for n := range workers {
		all.Add(1)
		go func(n int) {
			defer all.Done()
			for time.Now().Before(until) && failed[n] == nil {
				var held hold
				if held, failed[n] = workers[n](context.Background()); failed[n] == nil {
					holds[n] = append(holds[n], held)
				}
			}
		}(n)
	}
	all.Wait()
	together := []hold{}
	for n := range workers {
		if failed[n] != nil {
			return nil, failed[n]
		}
		together = append(together, holds[n]...)
	}
	return together, nil
}

func monotonic() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err)
	}
	return now.Nano()
}
