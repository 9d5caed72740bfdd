package main

import (
	"context"
	"flag"
	"time"

	"go.etcd.io/etcd/clientv3"
)

// calls makes calls one after the other: a Get of one key through the quorum, a Put of it, or a Txn that writes it
// under a condition; it tells the seconds they took, and those of the processor.
func calls(flags *flag.FlagSet, arguments []string) (round, error) {
	target := targetFlags(flags)
	key := flags.String("key", "/bench/calls", "the key")
	write := flags.Bool("write", false, "write it, under a condition, instead of reading it")
	put := flags.Bool("put", false, "write it, instead of reading it")
	count := flags.Int("count", 200, "how many calls a round has")
	flags.Parse(arguments)
	client, err := target.connect()
	if err != nil {
		return nil, err
	}
	call := func(ctx context.Context) error {
		_, err := client.Get(ctx, *key)
		return err
	}
	if *write {
		call = func(ctx context.Context) error {
			condition := clientv3.Compare(clientv3.ModRevision(*key), ">", -1)
			_, err := client.Txn(ctx).If(condition).Then(clientv3.OpPut(*key, "0123456789")).Commit()
			return err
		}
	}
	if *put {
		call = func(ctx context.Context) error {
			_, err := client.Put(ctx, *key, "0123456789")
			return err
		}
	}
	return func() (interface{}, error) {
		cpu, began := processor(), time.Now()
		for n := 0; n < *count; n++ {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			err := call(ctx)
			cancel()
			if err != nil {
				return nil, err
			}
		}
		return map[string]float64{"seconds": since(began), "cpu": processor() - cpu}, nil
	}, nil
}
