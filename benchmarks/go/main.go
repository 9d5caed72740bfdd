// What etcd's own Go client does, for the benchmarks of tideover to compare with.
//
// Each sub-command connects, prints {"ready": true}, and then does one round for every line on its standard input,
// answering each with one line of JSON; it ends with its input. So whoever runs it decides when it measures, and may
// let it take turns with others. Times are seconds, by the monotonic clock; moments are nanoseconds of
// CLOCK_MONOTONIC, which is one clock for all processes of a machine.
//
//	tideover-bench calls   -endpoint 127.0.0.1:2379 -key /bench/calls -count 200 [-put|-write] [-cacert FILE]
//	tideover-bench reads   -endpoint 127.0.0.1:2379 -prefix /config/k -keys 1000
//	tideover-bench lock    -endpoint 127.0.0.1:2379 -name bench -count 100
//	tideover-bench sessions -endpoint 127.0.0.1:2379 -count 1000
//	tideover-bench contend -endpoint 127.0.0.1:2379 -name bench -workers 8 -seconds 3 [-sessions own|shared]
//
// Contention between processes is several of `contend -workers 1`.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io/ioutil"
	"os"
	"time"

	"go.etcd.io/etcd/clientv3"
)

// A round is measured once for every line of input; what it returns is printed as JSON.
type round func() (interface{}, error)

// A command reads its flags, sets up what its rounds need and returns them.
type command func(flags *flag.FlagSet, arguments []string) (round, error)

var commands = map[string]command{
	"calls":    calls,
	"reads":    reads,
	"lock":     lock,
	"contend":  contend,
	"sessions": sessions,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: tideover-bench calls|reads|lock|contend|sessions -endpoint HOST:PORT [flags]")
		os.Exit(2)
	}
	name := os.Args[1]
	if err := run(commands[name], flag.NewFlagSet(name, flag.ExitOnError), os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "tideover-bench %s: %v\n", name, err)
		os.Exit(1)
	}
}

func run(prepare command, flags *flag.FlagSet, arguments []string) error {
	measure, err := prepare(flags, arguments)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(map[string]bool{"ready": true}); err != nil {
		return err
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		found, err := measure()
		if err != nil {
			return err
		}
		if err := out.Encode(found); err != nil {
			return err
		}
	}
	return nil
}

// connect opens the one client that everything in this process shares, as a Go service would.
func connect(endpoint string) (*clientv3.Client, error) {
	return (&target{endpoint: &endpoint}).connect()
}

// A target is which etcd, as the flags say it.
type target struct {
	endpoint, cacert *string
}

func targetFlags(flags *flag.FlagSet) *target {
	return &target{
		endpoint: flags.String("endpoint", "127.0.0.1:2379", "etcd"),
		cacert:   flags.String("cacert", "", "the CA of etcd's certificate; empty for plain text"),
	}
}

func (t *target) connect() (*clientv3.Client, error) {
	config := clientv3.Config{Endpoints: []string{*t.endpoint}, DialTimeout: 5 * time.Second}
	if t.cacert != nil && *t.cacert != "" {
		pem, err := ioutil.ReadFile(*t.cacert)
		if err != nil {
			return nil, err
		}
		known := x509.NewCertPool()
		known.AppendCertsFromPEM(pem)
		config.TLS = &tls.Config{RootCAs: known}
	}
	return clientv3.New(config)
}

func since(began time.Time) float64 {
	return time.Since(began).Seconds()
}
