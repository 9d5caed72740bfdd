"""The real store is grpc.aio's, and so the tests of it run on asyncio."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.etcd.users import guarded_etcd
from tideover.testing import EtcdServer


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="module")
def guarded() -> Iterator[EtcdServer]:
    """One etcd that asks for a password, for all tests of a module."""
    with guarded_etcd() as running:
        yield running
