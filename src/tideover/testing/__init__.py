"""The test kit: a real etcd for tests of what etcd does, stores in memory for tests of what it might do.

`EtcdServer` and `EtcdCluster` run the real binary and break it on request; `MemoryStore` and `FaultyStore` stand
behind the same port as the real thing and run on a mock clock. `overrides` and `outages` are for tests of
services. The pytest fixtures are in `tideover_pytest.py`, beside the package.
"""

from tideover.store.operations import Delete, Put, Range
from tideover.testing.etcd import EtcdBinaryNotFound, EtcdCluster, EtcdExited, EtcdServer
from tideover.testing.faulty import FaultyStore
from tideover.testing.memory import MemoryStore
from tideover.testing.outages import Outage, declare_outage
from tideover.testing.overrides import overriding

__all__ = [
    "Delete",
    "EtcdBinaryNotFound",
    "EtcdCluster",
    "EtcdExited",
    "EtcdServer",
    "FaultyStore",
    "MemoryStore",
    "Outage",
    "Put",
    "Range",
    "declare_outage",
    "overriding",
]
