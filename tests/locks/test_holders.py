"""The message of a lock that was not to be had names its holder."""

from __future__ import annotations

import os
import re
import socket

import anyio
import pytest

from tests.support import connected
from tideover import Coordinator, LockConflict, LockTimeout
from tideover.store.operations import Delete, Put
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio

ME = re.escape(f"{socket.gethostname()}:{os.getpid()}")
SINCE = r"since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


async def refused(tide: Coordinator, timeout: float) -> str:
    """Return why a lock is not to be had."""
    with pytest.raises(LockTimeout) as caught:
        async with tide.lock("orders", timeout=timeout):
            raise AssertionError
    return str(caught.value)


@pytest.mark.parametrize("timeout", [0, 1, 20])
async def test_a_timeout_names_the_holder(timeout: float) -> None:
    """Whether it waits or not: the process that has the lock, by host, process id and URL, and since when."""
    store = MemoryStore()
    async with (
        connected(store) as one,
        connected(store) as other,
        one.register("api", "http://10.0.0.7:8000"),
        one.lock("orders"),
    ):
        assert re.search(rf"{ME} \(http://10\.0\.0\.7:8000\) {SINCE}$", await refused(other, timeout))


async def test_it_is_who_has_it_now() -> None:
    """A holder that has changed while somebody waits is named as it is at the end, not who was before in line."""
    store = MemoryStore()
    async with connected(store) as one, connected(store) as two, connected(store) as three:
        for tide, name in ((one, "one:1"), (two, "two:2"), (three, "three:3")):
            tide._parts.locks.context.process_name = lambda name=name: name  # type: ignore[misc]
        async with anyio.create_task_group() as tasks:

            async def hold(tide: Coordinator, seconds: float) -> None:
                async with tide.lock("orders"):
                    await anyio.sleep(seconds)

            tasks.start_soon(hold, one, 2)
            await anyio.sleep(0.1)
            tasks.start_soon(hold, two, 60)
            await anyio.sleep(0.1)
            assert "others have it: one:1 since" in await refused(three, 1)
            assert "others have it: two:2 since" in await refused(three, 3)
            tasks.cancel_scope.cancel()


@pytest.mark.parametrize("away", [False, True])
async def test_nobody_is_named_before_etcd_has_answered(away: bool) -> None:
    """Who had the lock when it was wanted before may be long gone: neither the message nor `held_by` names it."""
    store = MemoryStore()
    member = store.members[0]
    await store.call(Put(b"/locks/orders/1", b""), member=member, timeout=1)
    async with connected(store) as tide, anyio.create_task_group() as tasks:

        async def leave() -> None:
            await anyio.sleep(1)
            await store.call(Delete(b"/locks/orders/1"), member=member, timeout=1)

        tasks.start_soon(leave)
        async with tide.lock("orders"):
            pass
        await anyio.sleep(60)
        if away:
            store.down = set(store.members)
            store.touch()
            await anyio.sleep(20)
        store.delay = 0.2
        lock = tide.lock("orders", timeout=0.1, on_outage="wait")
        named: list[str] = []

        async def look() -> None:
            await anyio.sleep(0.05)
            named.append(lock.held_by)

        tasks.start_soon(look)
        with pytest.raises(LockTimeout) as caught:
            async with lock:
                raise AssertionError
        assert "/locks/orders/1" not in str(caught.value)
        assert named == [""]


async def test_a_cohort_that_is_in_use_forgets_who_had_the_lock_too() -> None:
    """A key was lost, and another one is being made: nobody is named until etcd says who is before that one."""
    store = MemoryStore()
    member = store.members[0]
    await store.call(Put(b"/locks/orders/1", b""), member=member, timeout=1)
    async with connected(store) as tide, anyio.create_task_group() as tasks:
        lock = tide.lock("orders")

        async def want() -> None:
            async with lock:
                raise AssertionError

        tasks.start_soon(want)
        await anyio.sleep(1)
        assert "/locks/orders/1" in lock.held_by
        store.delay = 0.6
        for lease in list(store.leases):
            store.revoke(lease)
        named = set()
        for _ in range(40):
            await anyio.sleep(0.1)
            named.add(lock.held_by)
        assert "" in named
        assert "/locks/orders/1" in lock.held_by
        tasks.cancel_scope.cancel()


async def test_a_hold_of_this_process() -> None:
    """Who waits for another task of the same process is told so."""
    async with connected(MemoryStore()) as tide, anyio.create_task_group() as tasks:

        async def wait() -> None:
            await anyio.sleep(1)
            assert re.search(f"this process has it: {ME}$", await refused(tide, 1))

        tasks.start_soon(wait)
        async with tide.lock("orders"):
            await anyio.sleep(3)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"", r"another client \(lease 694d81, key /locks/orders/694d81, since revision 2\)$"),
        (b"web-1/4242", r"web-1/4242 \(lease 694d81, key /locks/orders/694d81, since revision 2\)$"),
        (b"\x1b[31mred\n" + b"x" * 500, r"\\x1b\[31mred\\nx{180,190}\.\.\. \(lease 694d81, "),
    ],
)
async def test_keys_of_other_clients_and_versions(value: bytes, shown: str) -> None:
    """A key of etcdctl has no name, that of an older version another form; a hostile one is escaped and cut."""
    store = MemoryStore()
    await store.call(Put(b"/locks/orders/694d81", value), member=store.members[0], timeout=1)
    async with connected(store) as tide:
        for timeout in (0, 1):
            assert re.search(shown, await refused(tide, timeout))


async def test_a_conflict_names_the_other_one() -> None:
    """A LOCAL hold that finds somebody else in the line after the outage says who that is."""
    store = MemoryStore()
    async with connected(store) as tide:
        store.down = set(store.members)
        store.touch()
        await anyio.sleep(20)
        with pytest.raises(LockConflict, match="is held by web-2:7 since 2026-11-30T03:12:52Z"):
            async with tide.lock("orders", on_outage="local"):
                store.down = set()
                value = b"web-2:7 since 2026-11-30T03:12:52Z"
                await store.call(Put(b"/locks/orders/77", value), member=store.members[0], timeout=1)
                store.touch()
                await anyio.sleep(60)


@pytest.mark.parametrize("name", [b"x", b"0", b"00ff", b"FF", b"\xff", b"8000000000000000"])
async def test_a_key_that_is_nobodys_place_is_named(name: bytes) -> None:
    """Whoever waits behind a key that no lease will take away is told its name, not what somebody has written."""
    store = MemoryStore()
    value = b"root since 2026-11-30T03:12:52Z"
    await store.call(Put(b"/locks/orders/" + name, value), member=store.members[0], timeout=1)
    key = f"/locks/orders/{name.decode(errors='backslashreplace')}"
    async with connected(store) as tide:
        for timeout in (0, 1):
            assert f"foreign key {key}, since revision 2" in await refused(tide, timeout)
        assert [(each.key, each.revision) for each in await tide.foreign_values()] == [(key, 2)]
        assert tide.status().rejected == ()


async def test_who_waits_behind_such_a_key_is_warned_once(caplog: pytest.LogCaptureFixture) -> None:
    """The status names the key as long as it is waited for, and the log once; its deletion lets the waiter in."""
    store = MemoryStore()
    await store.call(Put(b"/locks/orders/x", b""), member=store.members[0], timeout=1)
    async with connected(store) as tide, anyio.create_task_group() as tasks:

        async def look() -> None:
            await anyio.sleep(25)
            assert [each.key for each in tide.status().rejected] == ["/locks/orders/x"]
            await store.call(Delete(b"/locks/orders/x"), member=store.members[0], timeout=1)

        tasks.start_soon(look)
        async with tide.lock("orders"):
            assert tide.status().rejected == ()
    assert [record.getMessage() for record in caplog.records if "/locks/orders/x" in record.getMessage()] == [
        "tideover.lock.rejected: /locks/orders/x at revision 2 is in the line of a lock: it is named after no "
        "lease: until it is deleted nobody behind it has the lock"
    ]
