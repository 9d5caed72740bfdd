"""The pytest plugin: fixtures that run real etcd.

pytest imports it in every run of every project that has tideover installed, hence the late imports.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tideover.testing.etcd import EtcdCluster, EtcdServer


@pytest.fixture
def etcd_server() -> Iterator[EtcdServer]:
    """One running etcd member of its own for the test."""
    from tideover.testing.etcd import EtcdServer

    with EtcdServer() as server:
        yield server


@pytest.fixture
def etcd_cluster() -> Iterator[EtcdCluster]:
    """Three running etcd members of their own for the test."""
    from tideover.testing.etcd import EtcdCluster

    with EtcdCluster() as cluster:
        yield cluster
