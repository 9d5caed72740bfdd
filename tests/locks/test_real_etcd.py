"""Locks on a real etcd: `etcdctl lock` waits for us and we for it, and what is measured in milliseconds."""

from __future__ import annotations

import random
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

import tideover
from tideover import Coordinator, LockMode
from tideover.client.direct import DirectCalls
from tideover.locks.queue.etcd_queue import EtcdQueue
from tideover.sessions.key import LeasedKey
from tideover.store.leases import LeaseGrant
from tideover.store.operations import Delete, Put, prefix_end
from tideover.testing import EtcdServer
from tideover.testing.etcd.binary import find_etcd
from tideover.types import Entry

pytestmark = [pytest.mark.anyio, pytest.mark.etcd]


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio: grpc does."""
    return "asyncio"


@pytest.fixture
async def tide(server: EtcdServer, tmp_path: Path) -> AsyncIterator[Coordinator]:
    """A coordinator on it."""
    async with tideover.connect(server.endpoint, cache_dir=tmp_path, follow=()) as connected:
        yield connected


@contextmanager
def etcdctl_lock(server: EtcdServer, name: str) -> Iterator[subprocess.Popen[str]]:
    """Run `etcdctl lock NAME`; it prints its key when it has the lock, and lets go at SIGTERM."""
    etcdctl = find_etcd().with_name("etcdctl")
    command = [str(etcdctl), f"--endpoints={server.endpoint}", "lock", name, "--ttl=10"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"ETCDCTL_API": "3"}) as process:
        try:
            yield process
        finally:
            process.terminate()


async def keys_of(server: EtcdServer, name: str) -> list[str]:
    """Return the keys in the line of a name, oldest first."""
    found = await anyio.to_thread.run_sync(
        lambda: server.etcdctl("get", f"/locks/{name}/", "--prefix", "--keys-only", "--sort-by=CREATE")
    )
    return [line for line in found.splitlines() if line]


async def until_queued(server: EtcdServer, name: str, count: int) -> None:
    """Wait until so many stand in line."""
    with anyio.fail_after(10):
        while len(await keys_of(server, name)) < count:
            await anyio.sleep(0.02)


async def test_etcdctl_waits_for_us(server: EtcdServer, tide: Coordinator) -> None:
    """`etcdctl lock` on a name that we hold has it when we let go, and not before."""
    said: list[str] = []
    async with AsyncExitStack() as ours, anyio.create_task_group() as tasks:
        held = await ours.enter_async_context(tide.lock("for-us", timeout=5))
        with etcdctl_lock(server, "/locks/for-us") as other:

            async def read() -> None:
                assert other.stdout is not None
                said.append(await anyio.to_thread.run_sync(other.stdout.readline))

            tasks.start_soon(read)
            await until_queued(server, "for-us", 2)
            await anyio.sleep(0.5)
            _, theirs = await keys_of(server, "for-us")
            held.check()
            assert not said
            await ours.aclose()
            with anyio.fail_after(5):
                while not said:
                    await anyio.sleep(0.01)
            assert said[0].strip() == theirs


async def test_we_wait_for_etcdctl(server: EtcdServer, tide: Coordinator) -> None:
    """A name that `etcdctl lock` holds is ours when it lets go, and not before."""
    with etcdctl_lock(server, "/locks/for-them") as other:
        assert other.stdout is not None
        await anyio.to_thread.run_sync(other.stdout.readline)
        with pytest.raises(tideover.LockTimeout):
            async with tide.lock("for-them", timeout=0.5):
                raise AssertionError
        async with anyio.create_task_group() as tasks:
            entered = anyio.Event()

            async def want() -> None:
                async with tide.lock("for-them", timeout=20) as held:
                    assert held.mode is LockMode.DISTRIBUTED
                    entered.set()

            tasks.start_soon(want)
            await until_queued(server, "for-them", 2)
            await anyio.sleep(0.3)
            assert not entered.is_set()
            other.terminate()
            with anyio.fail_after(5):
                await entered.wait()


async def test_they_and_we_come_in_the_order_of_keys(
    server: EtcdServer, tide: Coordinator, tmp_path: Path
) -> None:
    """In one line of etcdctl, us, etcdctl and another process of ours each comes in its turn."""
    order: list[str] = []
    async with (
        tideover.connect(server.endpoint, cache_dir=tmp_path, follow=()) as second,
        anyio.create_task_group() as tasks,
    ):

        async def ours(connected: Coordinator, name: str) -> None:
            async with connected.lock("mixed", timeout=30, handover=False):
                order.append(name)
                await anyio.sleep(0.1)

        async def theirs(process: subprocess.Popen[str], name: str) -> None:
            assert process.stdout is not None
            await anyio.to_thread.run_sync(process.stdout.readline)
            order.append(name)
            await anyio.sleep(0.1)
            process.terminate()

        with etcdctl_lock(server, "/locks/mixed") as first:
            assert first.stdout is not None
            await anyio.to_thread.run_sync(first.stdout.readline)
            tasks.start_soon(ours, tide, "ours 1")
            await until_queued(server, "mixed", 2)
            with etcdctl_lock(server, "/locks/mixed") as middle:
                await until_queued(server, "mixed", 3)
                tasks.start_soon(theirs, middle, "theirs")
                tasks.start_soon(ours, second, "ours 2")
                await until_queued(server, "mixed", 4)
                first.terminate()
                with anyio.fail_after(10):
                    while len(order) < 3:
                        await anyio.sleep(0.02)
    assert order == ["ours 1", "theirs", "ours 2"]


def watchers(server: EtcdServer) -> float:
    """Count the watches that etcd has, of whomever."""
    with urllib.request.urlopen(f"http://{server.endpoint}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    return float(next(line for line in lines if line.startswith("etcd_debugging_mvcc_watcher_total ")).split()[1])


@pytest.mark.any_etcd
async def test_waiters_in_a_line_of_a_thousand_wake_one_at_a_time(server: EtcdServer, tide: Coordinator) -> None:
    """A thousand keys in one line, and who waits at each of the first 200: a departure wakes the next alone."""
    store = tide._parts.store
    assert store is not None
    member = server.endpoint
    prefix = b"/locks/many/"
    await store.call(LeaseGrant(600, 1), member=member, timeout=5)
    owns = []
    for number in range(1000):
        key = prefix + f"{number + 10_000:x}".encode()
        put = await store.call(Put(key, b"", 1), member=member, timeout=5)
        revision = put.header.revision
        owns.append(LeasedKey(key.decode(), key, Entry(b"", revision, revision)))
    # As of so many processes: each waits for a time of its own before it asks again.
    chance = random.Random(7).random
    direct = DirectCalls(tide._parts.client.state).within(5)
    direct.connect(store)
    queue = EtcdQueue(replace(tide._parts.client, direct=direct, random=chance), "many")
    woken: list[int] = []

    async def wait(number: int) -> None:
        while True:
            try:
                await queue.wait(owns[number])
                break
            except tideover.Unavailable:  # on a busy machine etcd may take its time for all of them
                await anyio.sleep(10 * chance())
        woken.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(200):
            tasks.start_soon(wait, number)
            if number % 50 == 49:  # each reads the line once: when these have, others may
                with anyio.fail_after(90):
                    while await anyio.to_thread.run_sync(watchers, server) < number:
                        await anyio.sleep(0.02)
        for number in range(20):
            await anyio.sleep(0.03)
            assert woken == list(range(number + 1))
            await store.call(Delete(owns[number].full), member=member, timeout=5)
            with anyio.fail_after(30):
                while len(woken) < number + 2:
                    await anyio.sleep(0.005)
        tasks.cancel_scope.cancel()
    await store.call(Delete(prefix, prefix_end(prefix)), member=member, timeout=5)


async def test_killed_holder_frees_the_lock_with_its_lease(server: EtcdServer, tide: Coordinator) -> None:
    """A process that is killed in the body keeps others out until its lease ends, and leaves no key."""
    script = (
        "import anyio, sys, tideover\n"
        "async def main():\n"
        f"    async with tideover.connect({server.endpoint!r}, cache_dir=False, follow=()) as tide:\n"
        "        async with tide.lock('killed', ttl=5):\n"
        "            print('held', flush=True)\n"
        "            await anyio.sleep_forever()\n"
        "anyio.run(main)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert await anyio.to_thread.run_sync(process.stdout.readline) == "held\n"
        process.kill()
    began = anyio.current_time()
    async with tide.lock("killed", timeout=20):
        assert 2 < anyio.current_time() - began < 9
    with anyio.fail_after(5):
        while await keys_of(server, "killed"):
            await anyio.sleep(0.05)
