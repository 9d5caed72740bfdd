package main

import (
	"flag"
	"syscall"

	"go.etcd.io/etcd/clientv3/concurrency"
)

// sessions opens so many more sessions in each round, over one client, and tells what that took of a processor. They
// stay until the end of the process.
func sessions(flags *flag.FlagSet, arguments []string) (round, error) {
	endpoint := flags.String("endpoint", "127.0.0.1:2379", "etcd")
	ttl := flags.Int("ttl", 15, "seconds")
	count := flags.Int("count", 1000, "how many in a round")
	flags.Parse(arguments)
	client, err := connect(*endpoint)
	if err != nil {
		return nil, err
	}
	var open []*concurrency.Session
	return func() (interface{}, error) {
		began := processor()
		for n := 0; n < *count; n++ {
			session, err := concurrency.NewSession(client, concurrency.WithTTL(*ttl))
			if err != nil {
				return nil, err
			}
			open = append(open, session)
		}
		return map[string]interface{}{"open": len(open), "each": (processor() - began) / float64(*count)}, nil
	}, nil
}

// processor returns the seconds of a processor that this process has taken.
func processor() float64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
}
