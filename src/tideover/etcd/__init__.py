"""etcd behind a port: the only folder that imports aetcd and grpc.

`store` is the port that everything above is written against; `operations`, `transactions` and `leases` are what
can be asked through it; `faults` says what an error means. `adapter`, `channel` and `watch` implement the port
over aetcd's generated stubs and load grpc, so they are imported only when a coordinator connects.
"""

import os

# For grpc, which reads it when it is first used. Its own handlers of a fork restart its threads in the child, on
# connections that are the parent's, and one child in ten then died of SIGSEGV (tests/integration/test_sessions.py
# under load). A child of ours refuses to be used anyway. Whoever needs grpc's handlers sets the variable.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
