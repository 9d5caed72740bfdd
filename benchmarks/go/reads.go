package main

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/clientv3"
)

// reads gets so many different keys at once, a goroutine for each, over one client. The keys are named prefix0,
// prefix1 and so on, and must be there.
func reads(flags *flag.FlagSet, arguments []string) (round, error) {
	endpoint := flags.String("endpoint", "127.0.0.1:2379", "etcd")
	prefix := flags.String("prefix", "/config/k", "what the keys begin with")
	count := flags.Int("keys", 1000, "how many keys")
	flags.Parse(arguments)
	client, err := connect(*endpoint)
	if err != nil {
		return nil, err
	}
	keys := make([]string, *count)
	for n := range keys {
		keys[n] = fmt.Sprintf("%s%d", *prefix, n)
	}
	return func() (interface{}, error) {
		began := time.Now()
		err := readAll(client, keys)
		return map[string]interface{}{"seconds": since(began), "reads": len(keys)}, err
	}, nil
}

func readAll(client *clientv3.Client, keys []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	failed := make([]error, len(keys))
	var all sync.WaitGroup
	for n := range keys {
		all.Add(1)
		go func(n int) {
			defer all.Done()
			reply, err := client.Get(ctx, keys[n])
			if err == nil && len(reply.Kvs) != 1 {
				err = fmt.Errorf("%s is not there", keys[n])
			}
			failed[n] = err
		}(n)
	}
	all.Wait()
	for _, err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}
