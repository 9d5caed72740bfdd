"""The port to etcd: what can be asked, what is answered, what an error means. No vendor is imported here.

`protocol` is the port itself; `operations`, `transactions` and `leases` are requests and answers as data;
`faults` classifies errors, once for all; `attempts` asks one member once; `endpoints` are addresses of members.
`tideover.etcd` implements the port over gRPC, `tideover.testing` in memory. Nothing here retries.
"""
