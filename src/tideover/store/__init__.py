"""The port to etcd: requests, answers and the meaning of errors. No vendor is imported here.

`protocol` is the port itself; `operations`, `transactions` and `leases` are requests and answers as data; `faults`
classifies errors, once for all, and `hints` says where to look; `attempts` asks one member once; `endpoints` are
addresses of members; `forwarding` is the base of stores in front of another. `tideover.etcd` implements the port
over gRPC, `tideover.testing` in memory. Nothing here retries.
"""
