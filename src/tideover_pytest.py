"""The pytest plugin: fixtures for tests of services, and fixtures that run real etcd.

pytest imports it in every run of every project that has tideover installed. So it stands beside the package,
because no module of a package comes without the package; and fixtures import what they need when they are used.

`tide` lives in the event loop that runs the test, which is that of anyio's plugin or of pytest-asyncio; in a test
that is no coroutine function it has a thread of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tideover import Coordinator
    from tideover.testing import EtcdCluster, EtcdServer, MemoryStore, Outage


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


@pytest.fixture
def tide_store() -> MemoryStore:
    """The cluster in memory that `tide` is connected to; a fixture of your own of this name may give it values."""
    from tideover.testing import MemoryStore

    return MemoryStore()


@pytest.fixture
def tide(request: pytest.FixtureRequest, tide_store: MemoryStore) -> Coordinator:
    """A coordinator on `tide_store`, open for the length of the test."""
    found: Coordinator = request.getfixturevalue(f"_tide_{_driver(request)}")
    return found


@pytest.fixture
def tide_outage(request: pytest.FixtureRequest, tide: Coordinator) -> Outage:
    """An outage of `tide`, declared before the test begins; `end()` or `await recovered()` ends it earlier."""
    found: Outage = request.getfixturevalue(f"_tide_outage_{_driver(request)}")
    return found


async def _open(tide_store: MemoryStore) -> AsyncIterator[Coordinator]:
    from tideover import connect

    async with connect(store=tide_store) as tide:
        yield tide


async def _cut_off(tide: Coordinator) -> AsyncIterator[Outage]:
    from tideover.testing import declare_outage

    outage = declare_outage(tide)
    yield outage
    await outage.recovered()


_tide_anyio = pytest.fixture(name="_tide_anyio")(_open)
_tide_outage_anyio = pytest.fixture(name="_tide_outage_anyio")(_cut_off)


@pytest.fixture
def _tide_thread(tide_store: MemoryStore) -> Iterator[Coordinator]:
    from anyio.from_thread import start_blocking_portal

    from tideover import connect

    with start_blocking_portal() as portal, portal.wrap_async_context_manager(connect(store=tide_store)) as tide:
        yield tide


@pytest.fixture
def _tide_outage_thread(tide: Coordinator) -> Iterator[Outage]:
    from tideover.testing import declare_outage

    with declare_outage(tide) as outage:
        yield outage


def pytest_configure(config: pytest.Config) -> None:
    """Give pytest-asyncio, if it is there, fixtures that it runs: for each scope that a test's loop may have."""
    if not config.pluginmanager.hasplugin("asyncio"):
        return
    import pytest_asyncio

    found = ModuleType("tideover_pytest_asyncio")
    for scope in ("function", "class", "module", "package", "session"):
        for name, function in ((f"_tide_asyncio_{scope}", _open), (f"_tide_outage_asyncio_{scope}", _cut_off)):
            # Of each another one, because the function is marked with the scope.
            own = FunctionType(function.__code__, function.__globals__, function.__name__)
            setattr(found, name, pytest_asyncio.fixture(own, loop_scope=scope, name=name))
    config.pluginmanager.register(found, found.__name__)


def _driver(request: pytest.FixtureRequest) -> str:
    """Return what runs the test, as the names of the fixtures end."""
    function = getattr(request.node, "obj", None)
    function = getattr(getattr(function, "hypothesis", None), "inner_test", function)
    if not inspect.iscoroutinefunction(function):
        return "anyio" if "anyio_backend" in request.fixturenames else "thread"
    marker = request.node.get_closest_marker("asyncio")
    if marker is None or not request.config.pluginmanager.hasplugin("asyncio"):
        return "anyio"
    scope = marker.kwargs.get("loop_scope") or request.config.getini("asyncio_default_test_loop_scope")
    return f"asyncio_{scope}"
