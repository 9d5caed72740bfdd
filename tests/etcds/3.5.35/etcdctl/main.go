package main

import (
	"os"

	"go.etcd.io/etcd/etcdctl/v3/ctlv3"
)

func main() {
	// Upstream reads the variable to choose between the v2 and the v3 commands and unsets it:
	// what is left in the environment counts as an unknown flag, with a warning. Here is v3 only.
	os.Unsetenv("ETCDCTL_API")
	ctlv3.MustStart()
}
