"""Many watches on one stream of a real etcd: what ends one of them does not harm the others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

from tests.etcd.metrics import gauge
from tests.etcd.users import LOGIN, guarded_etcd
from tideover.etcd.adapter import EtcdStore
from tideover.etcd.watch_buffer import LIMIT
from tideover.store.faults import FaultKind, StoreFault
from tideover.store.operations import Delete, Put, prefix_end
from tideover.store.protocol import Compacted, Event, Watch
from tideover.testing import EtcdServer

pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.version]


@pytest.fixture
async def store(server: EtcdServer) -> AsyncIterator[EtcdStore]:
    """A store; etcd is empty."""
    store = EtcdStore([server.endpoint])
    await store.call(Delete(b"\0", b"\0"), member=server.endpoint, timeout=5)
    try:
        yield store
    finally:
        await store.aclose()


async def put(store: EtcdStore, key: bytes, value: bytes = b"") -> int:
    """Write; return the revision."""
    return (await store.call(Put(key, value), member=store.members[0], timeout=5)).header.revision


def opening(store: EtcdStore, key: bytes, end: bytes | None = None, *, start: int = 0) -> Any:
    """Return what opens a watch."""
    return store.watch(key, end, start_revision=start, member=store.members[0], timeout=5)


async def received(watch: Watch, count: int, *, timeout: float = 5) -> list[Event]:
    """Receive so many events."""
    events: list[Event] = []
    with anyio.fail_after(timeout):
        while len(events) < count:
            events += (await watch.receive()).events
    return events


async def test_one_stream_for_all(server: EtcdServer, store: EtcdStore) -> None:
    """A hundred watches are one stream to etcd, each with its own events; none is left when all are closed."""
    streams, watchers = "etcd_debugging_mvcc_watch_stream_total", "etcd_debugging_mvcc_watcher_total"
    async with AsyncExitStack() as stack:
        watches = [await stack.enter_async_context(opening(store, b"k%02d" % n)) for n in range(100)]
        assert (gauge(server, streams), gauge(server, watchers)) == (1, 100)
        for n in range(100):
            await put(store, b"k%02d" % n)
        for n, watch in enumerate(watches):
            assert [event.key for event in await received(watch, 1)] == [b"k%02d" % n]
    with anyio.fail_after(2):
        while gauge(server, streams) or gauge(server, watchers):
            await anyio.sleep(0.02)


async def test_a_watch_that_is_left_is_cancelled_at_etcd(server: EtcdServer, store: EtcdStore) -> None:
    """etcd does not go on watching for a watch that was left while others of its stream stay."""
    async with opening(store, b"stays"):
        for _ in range(20):
            async with opening(store, b"leaves"):
                pass
        with anyio.fail_after(2):
            while gauge(server, "etcd_debugging_mvcc_watcher_total") != 1:
                await anyio.sleep(0.02)


async def test_many_open_at_once(store: EtcdStore) -> None:
    """Watches that are opened together do not get each other's answers."""
    revisions: dict[int, list[int]] = {}

    async def watch(n: int) -> None:
        async with opening(store, b"m%d" % n, start=first) as watch:
            revisions[n] = [event.revision for event in await received(watch, 2)]

    first = await put(store, b"before") + 1
    for n in [*range(20), *range(20)]:
        await put(store, b"m%d" % n)
    async with anyio.create_task_group() as tasks:
        for n in range(20):
            tasks.start_soon(watch, n)
    assert revisions == {n: [first + n, first + 20 + n] for n in range(20)}


async def test_one_opening_given_up_harms_nobody(store: EtcdStore) -> None:
    """Openings cancelled at any moment: watches that are open, and those opened next, are as they should be."""
    async with opening(store, b"open") as watch:
        for steps in range(12):
            async with anyio.create_task_group() as tasks:

                async def open_and_wait() -> None:
                    async with opening(store, b"other") as other:
                        await other.receive()

                tasks.start_soon(open_and_wait)
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            async with opening(store, b"next") as following:
                await put(store, b"next")
                assert [event.key for event in await received(following, 1)] == [b"next"]
            revision = await put(store, b"open")
            assert [event.revision for event in await received(watch, 1)] == [revision]


async def test_a_compacted_watch_ends_alone(server: EtcdServer, store: EtcdStore) -> None:
    """That one watch asks for history that is gone is that watch's trouble."""
    async with opening(store, b"k") as watch:
        for _ in range(3):
            revision = await put(store, b"old")
        await anyio.to_thread.run_sync(server.etcdctl, "compaction", str(revision))
        with pytest.raises(Compacted) as caught:
            async with opening(store, b"old", start=1) as compacted:
                await received(compacted, 1)
        assert caught.value.revision == revision
        await put(store, b"k")
        await received(watch, 1)


async def test_a_revision_in_fragments_comes_whole(store: EtcdStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """etcd cuts what is larger than 2 MiB also within a revision; the reader gets the revision in one batch."""
    keys = [b"f%02d" % n + b"x" * 60_000 for n in range(60)]
    first = 0
    for key in keys:
        first = first or await put(store, key)
        await put(store, key, b"again")
    deleted = await store.call(Delete(b"f", b"g"), member=store.members[0], timeout=5)
    messages = []
    async with opening(store, b"f", b"g", start=first) as watch:
        route = watch._stream._route

        def counting(reply: Any) -> None:
            messages.append((reply.fragment, {event.kv.mod_revision for event in reply.events}))
            route(reply)

        monkeypatch.setattr(watch._stream, "_route", counting)
        events: list[Event] = []
        while not events or events[-1].revision < deleted.header.revision:
            batch = await watch.receive()
            whole = {event.revision for event in events} & {event.revision for event in batch.events}
            assert not whole
            events += batch.events
    assert [event.key for event in events if event.entry is None] == keys
    assert len(events) == 1 + 2 * len(keys)
    torn = [revisions for fragment, revisions in messages if deleted.header.revision in revisions]
    assert len(torn) > 1, "etcd did not cut it: the test is too small"


async def test_a_slow_reader_starves_nobody_and_loses_nothing(store: EtcdStore) -> None:
    """One reader sleeps through 24 MiB: the other gets all at once, the slow one resumes and gets each once."""
    value = b"v" * 500_000
    count = 3 * LIMIT // len(value)
    first = await put(store, b"before") + 1
    seen: list[int] = []
    overflows = 0
    async with opening(store, b"k", start=first) as slow, opening(store, b"k", start=first) as quick:
        stream = slow._stream
        for n in range(count):
            await put(store, b"k", value)
            assert [event.revision for event in await received(quick, 1)] == [first + n]
        assert slow._inbox._size <= LIMIT
        with pytest.raises(StoreFault) as caught:
            while True:
                seen += [event.revision for event in (await slow.receive()).events]
        assert caught.value.fault.kind is FaultKind.OVERFLOW
        assert len(stream._watches) == 1
        while len(seen) < count:
            overflows += 1
            async with opening(store, b"k", start=seen[-1] + 1) as again:
                seen += [event.revision for event in await received(again, 1)]
    assert seen == list(range(first, first + count))


async def test_the_end_of_the_stream_is_the_end_of_all_its_watches(server: EtcdServer) -> None:
    """When the member dies, every watch ends with a fault, after what had arrived before."""
    with EtcdServer() as mortal:
        store = EtcdStore([mortal.endpoint])
        try:
            async with opening(store, b"a") as first, opening(store, b"b") as second:
                await put(store, b"a")
                await put(store, b"b")
                await anyio.sleep(0.2)
                mortal.kill()
                for watch in (first, second):
                    assert len(await received(watch, 1)) == 1
                    for _ in range(2):
                        with anyio.fail_after(5), pytest.raises(StoreFault) as caught:
                            await watch.receive()
                        assert caught.value.fault.outage
                    with pytest.raises(StoreFault):
                        await watch.request_progress()
        finally:
            await store.aclose()


async def test_after_renew_new_watches_go_to_the_new_connection(store: EtcdStore) -> None:
    """A renewed connection takes new watches at once; those on the old one end within its grace, with a fault."""
    async with opening(store, b"k") as old:
        store.renew(store.members[0])
        async with opening(store, b"k") as new:
            assert new._stream is not old._stream
            await put(store, b"k")
            await received(new, 1)
            with anyio.fail_after(5), pytest.raises(StoreFault) as caught:
                await received(old, 2)
            assert caught.value.fault.outage
            await put(store, b"k")
            await received(new, 1)


async def test_closing_the_store_ends_its_watches(server: EtcdServer) -> None:
    """Watches that somebody waits for end with a fault when the store is closed, and nobody is cancelled."""
    store = EtcdStore([server.endpoint])
    ended = []

    async def wait() -> None:
        async with opening(store, b"k") as watch:
            try:
                await watch.receive()
            except StoreFault as exc:
                ended.append(exc.fault.kind)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(wait)
        await anyio.sleep(0.2)
        await store.aclose()
    assert ended == [FaultKind.CONNECTION_LOST] * 3
    assert not store._watches[server.endpoint]._streams


async def test_progress_is_for_all_who_ask_at_times(store: EtcdStore) -> None:
    """One progress request is answered to each watch of the stream that ever asked, after the events before it."""
    async with opening(store, b"a") as first, opening(store, b"b") as second, opening(store, b"c") as silent:
        await first.request_progress()
        with anyio.fail_after(5):
            assert (await first.receive()).events == ()
        revision = await put(store, b"a")
        await received(first, 1)
        await second.request_progress()
        with anyio.fail_after(5):
            for watch in (first, second):
                batch = await watch.receive()
                assert (batch.events, batch.header.revision) == ((), revision)
        revision = await put(store, b"c")
        # It is not woken by what others ask: there may be thousands of it.
        with anyio.fail_after(5):
            assert [event.revision for event in (await silent.receive()).events] == [revision]


async def test_progress_says_nothing_of_history_that_is_still_to_come(store: EtcdStore) -> None:
    """A progress reply from before a watch was created is a sign of life, not a proof that its history is told."""
    revision = 0
    for _ in range(5):
        revision = await put(store, b"k")
    async with opening(store, b"other"), opening(store, b"k", prefix_end(b"k"), start=revision - 2) as watch:
        await watch.request_progress()
        with anyio.fail_after(5):
            while not (batch := await watch.receive()).events:
                assert batch.header.revision < revision - 2
        assert [event.revision for event in batch.events] == [revision - 2, revision - 1, revision]


async def test_answers_of_many_creations_find_their_watches() -> None:
    """Sixteen creations are under way, every third is denied: each answer finds the watch it was meant for."""
    with guarded_etcd() as guarded:
        store = EtcdStore([guarded.endpoint], username=LOGIN["username"], password=LOGIN["password"])
        denied: set[int] = set()
        open_: set[int] = set()
        events: dict[int, list[bytes]] = {}
        try:
            async with store.watch_group(member=guarded.endpoint, timeout=5) as group:
                for n in range(60):
                    group.add(n, b"/%s/%02d" % (b"config" if n % 3 else b"secret", n), None, start_revision=1)
                for n in range(60):
                    if n % 3:
                        await put(store, b"/config/%02d" % n)
                with anyio.fail_after(10):
                    while len(denied) < 20 or len(events) < 40:
                        for tag, frame in await group.receive():
                            if isinstance(frame, StoreFault):
                                assert frame.fault.kind is FaultKind.PERMISSION
                                denied.add(tag)
                            elif frame.events:
                                events[tag] = [event.key for event in frame.events]
                            else:
                                open_.add(tag)
        finally:
            await store.aclose()
    assert denied == set(range(0, 60, 3))
    assert open_ == set(events) == set(range(60)) - denied
    assert all(keys == [b"/config/%02d" % n] for n, keys in events.items())
