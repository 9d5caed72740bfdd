"""Which coordinator module-level functions act on, and that none is used outside its life."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import trio

from tideover import AmbiguousCoordinator, Closed, Coordinator, NotConnected, connect, current, with_config
from tideover.coordinator.coordinator import open_coordinators
from tideover.functions import current_for_reads
from tideover.request_record import RequestRecord, current_coordinator, current_record
from tideover.store.operations import Put
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on both event loops."""
    return str(request.param)


@asynccontextmanager
async def opened(namespace: str) -> AsyncIterator[Coordinator]:
    """Run a coordinator whose configuration says which it is."""
    store = MemoryStore(members=1)
    put = Put(f"{namespace}/config/name".encode(), namespace.encode())
    await store.call(put, member=store.members[0], timeout=1)
    async with connect(store=store, namespace=namespace, cache_dir=False) as tide:
        yield tide


@with_config(name="name")
def name_here(*, name: str = "absent") -> str:
    """Return the name of the coordinator that a synchronous read acts on."""
    return name


# Resolution -----------------------------------------------------------------------------------------------------


async def test_none_is_open() -> None:
    """Without a coordinator the error says how to get one."""
    for function in (current, current_for_reads):
        with pytest.raises(NotConnected, match=r"`async with connect\(\.\.\.\)`, or TideoverMiddleware"):
            function()
    assert issubclass(NotConnected, RuntimeError)


async def test_the_only_one_of_the_loop() -> None:
    """The only open coordinator of the running loop is current, in its tasks and worker threads too."""
    found: list[Coordinator] = []

    async def in_task() -> None:
        found.append(current())

    async with opened("a") as tide:
        found.append(current())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(in_task)
        found.append(await anyio.to_thread.run_sync(current))
        found.append(await anyio.to_thread.run_sync(current_for_reads))
        assert found == [tide] * 4
    with pytest.raises(NotConnected):
        current()


async def test_several_in_one_loop() -> None:
    """Of several open ones none is guessed: the error names them all, and a namespace tells them apart."""
    async with opened("a") as first, opened("b") as second:
        for function in (current, current_for_reads, name_here):
            with pytest.raises(AmbiguousCoordinator, match=r"^2 coordinators are open here: ") as caught:
                function()
            assert repr(first) in str(caught.value)
            assert repr(second) in str(caught.value)
        assert (first.config.get("name"), second.config.get("name")) == ("a", "b")
    assert issubclass(AmbiguousCoordinator, RuntimeError)


async def test_the_context_decides() -> None:
    """The middleware's coordinator wins over any number of open ones; a request's over a lifespan's."""
    async with opened("a") as first, opened("b") as second:
        lifespan = current_coordinator.set(first)
        assert (current(), current_for_reads(), name_here()) == (first, first, "a")
        request = current_record.set(RequestRecord(second))
        assert (current(), current_for_reads(), name_here()) == (second, second, "b")
        assert await anyio.to_thread.run_sync(name_here) == "b"
        current_record.reset(request)
        assert current() is first
        current_coordinator.reset(lifespan)


async def test_record_without_a_coordinator() -> None:
    """A record that somebody made without a coordinator does not hide the open one."""
    async with opened("a") as tide:
        token = current_record.set(RequestRecord())
        assert current() is tide
        current_record.reset(token)


async def test_middleware_that_never_started() -> None:
    """A context whose coordinator was never entered is told so, although another one is open."""
    async with opened("a"):
        token = current_record.set(RequestRecord(connect("127.0.0.1:1", cache_dir=False)))
        for function in (current, current_for_reads):
            with pytest.raises(NotConnected, match="has not run this application's lifespan"):
                function()
        current_record.reset(token)


def in_other_loop(run: Callable[..., Any], function: Callable[[], Any]) -> Any:
    """Call a function within an event loop of a thread of its own."""

    async def call() -> Any:
        return function()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run, call).result()


@pytest.mark.parametrize("run", [lambda call: asyncio.run(call()), trio.run], ids=["asyncio", "trio"])
async def test_other_event_loop(run: Callable[..., Any]) -> None:
    """Another loop's coordinator is not current there, and the error names it; synchronous reads do find it."""
    async with opened("a") as tide:
        with pytest.raises(NotConnected, match=r"no coordinator is open here \(in other event loops: ") as caught:
            in_other_loop(run, current)
        assert repr(tide) in str(caught.value)
        assert in_other_loop(run, current_for_reads) is tide
        assert in_other_loop(run, name_here) == "a"


async def test_plain_thread() -> None:
    """A thread without an event loop finds the only coordinator of the process."""
    async with opened("a") as tide:
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(current).result() is tide
            assert pool.submit(name_here).result() == "a"


def test_coordinators_of_two_threads() -> None:
    """Two loops in two threads have each their own; a thread without a loop would have to guess, and does not."""
    both = threading.Barrier(3, timeout=10)

    async def live(namespace: str) -> tuple[bool, str]:
        async with opened(namespace) as tide:
            await asyncio.to_thread(both.wait)
            found = current() is tide, name_here()
            await asyncio.to_thread(both.wait)
            return found

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(asyncio.run, live(namespace)) for namespace in ("a", "b")]
        both.wait()
        try:
            for function in (current, name_here):
                with pytest.raises(AmbiguousCoordinator):
                    function()
        finally:
            both.wait()
        assert [future.result() for future in futures] == [(True, "a"), (True, "b")]


# Life -----------------------------------------------------------------------------------------------------------


async def test_use_before_entering() -> None:
    """A coordinator that was not entered refuses everything, and says how to enter it."""
    tide = connect(store=MemoryStore(), cache_dir=False)
    with pytest.raises(Closed, match=r"async with connect\(\.\.\.\) as tide"):
        tide.config.get("name")
    assert tide not in open_coordinators
    assert tide.status().members


async def test_use_after_leaving() -> None:
    """After the body everything refuses, also what was taken out of the coordinator before."""
    async with opened("a") as tide:
        config = tide.config
        changes = config.changes()
        assert config.get("name") == "a"
    with pytest.raises(Closed, match="closed"):
        config.get("name")
    with pytest.raises(Closed, match="closed"):
        config.read("name")
    with pytest.raises(Closed, match="closed"):
        await config.fetch("name")
    with pytest.raises(Closed, match="closed"):
        await config.put("name", "b")
    with pytest.raises(Closed, match="closed"):
        config.changes()
    assert [change async for change in changes] == []


async def test_entering_twice() -> None:
    """A coordinator is single-use: entering it again raises, within its life and after it, and harms nothing."""
    async with opened("a") as tide:
        with pytest.raises(Closed, match="entered only once"):
            async with tide:
                raise NotImplementedError
        assert tide.config.get("name") == "a"
        assert current() is tide
    with pytest.raises(Closed, match="entered only once"):
        await tide.__aenter__()
    assert issubclass(Closed, RuntimeError)


async def test_start_that_failed() -> None:
    """A coordinator whose start failed is not current, and is closed."""
    store = MemoryStore()
    store.down = set(store.members)
    tide = connect(store=store, cache_dir=False, require="etcd")
    with pytest.raises(Exception, match="require='etcd'"):
        await tide.__aenter__()
    with pytest.raises(NotConnected):
        current()
    with pytest.raises(Closed):
        await tide.__aenter__()


async def test_exception_of_the_body() -> None:
    """An exception of the body comes out as it is, and the coordinator is closed."""
    error = LookupError()
    with pytest.raises(LookupError) as caught:
        async with opened("a"):
            raise error
    assert caught.value is error
    assert not open_coordinators


# Fork -----------------------------------------------------------------------------------------------------------

_FORKING = """
import asyncio, os, sys, warnings
import tideover
from tideover.coordinator.coordinator import open_coordinators
from tideover.testing import MemoryStore

warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forks beside threads

def say(what, call):
    try:
        print(what, "returned", call(), flush=True)
    except tideover.TideoverError as exc:
        print(what, type(exc).__name__, exc, flush=True)

def child(tide, config, before):
    assert os.getpid() != before
    say("get", lambda: config.get("rate"))
    say("property", lambda: tide.config.get("rate"))
    say("changes", lambda: config.changes())
    say("current", tideover.current)
    try:
        config.fetch("rate").send(None)
    except tideover.Closed as exc:
        print("fetch", exc, flush=True)

def fresh():
    async def run():
        async with tideover.connect(store=MemoryStore(), cache_dir=False) as tide:
            assert tideover.current() is tide
            await tide.config.put("rate", 7)
            return tide.config.get("rate")
    print("fresh", asyncio.run(run()), flush=True)

async def main():
    async with tideover.connect(store=MemoryStore(), cache_dir=False) as tide:
        await tide.config.put("rate", 5)
        config, before = tide.config, os.getpid()
        assert config.get("rate") == "5"
        pid = os.fork()
        if not pid:
            status = 1
            try:
                child(tide, config, before)
                # The child has inherited "a loop is running"; a worker that gunicorn forks has not.
                asyncio._set_running_loop(None)
                fresh()
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(pid, 0)
        assert status == 0, status
        await tide.config.put("rate", 6)
        assert tideover.current() is tide
        print("parent", config.get("rate"), len(open_coordinators), flush=True)

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork(tmp_path: Path) -> None:
    """A forked child's reads raise `Closed` and name the fork; it can connect anew; the parent is unharmed."""
    script = tmp_path / "forking.py"
    script.write_text(_FORKING, encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    for what in ("get", "property", "changes", "fetch"):
        assert "was forked from the one that connected" in said[what]
        assert "`spawn`" in said[what]
        assert "connect after the fork" not in said[what]
    assert said["get"].startswith("Closed ")
    assert said["current"].startswith("NotConnected ")
    assert said["fresh"] == "7"
    assert said["parent"] == "6 1"
