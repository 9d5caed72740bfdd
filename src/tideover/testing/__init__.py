"""The test kit: a real etcd for tests of what etcd does, stores in memory for tests of what it might do.

`EtcdServer` and `EtcdCluster` run the real binary and break it on request; `MemoryStore` and `FaultyStore` stand
behind the same port as the real thing and run on a mock clock. The pytest fixtures are `etcd_server` and
`etcd_cluster`.
"""

from tideover.store.operations import Delete, Put, Range
from tideover.testing.etcd import EtcdBinaryNotFound, EtcdCluster, EtcdExited, EtcdServer
from tideover.testing.faulty import FaultyStore
from tideover.testing.memory import MemoryStore

__all__ = [
    "Delete",
    "EtcdBinaryNotFound",
    "EtcdCluster",
    "EtcdExited",
    "EtcdServer",
    "FaultyStore",
    "MemoryStore",
    "Put",
    "Range",
]
