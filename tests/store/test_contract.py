"""The contract of the `Store` port, on all its implementations: in memory, behind faults, and on a real etcd."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import anyio
import anyio.lowlevel
import pytest

from tideover.etcd.adapter import EtcdStore
from tideover.policies import Transport
from tideover.store.endpoints import Address
from tideover.store.faults import FaultKind, StoreFault
from tideover.store.operations import (
    MOST_READS,
    Delete,
    MemberList,
    Op,
    Put,
    Range,
    ReadBatch,
    Result,
    prefix_end,
    within,
)
from tideover.store.protocol import Compacted, Event, Store, Watch, WatchBatch, WatchGroup
from tideover.testing import EtcdServer, FaultyStore, MemoryStore

R = TypeVar("R", bound=Result)

ALL = b"\0"  # as a key: the first there can be; as an end: to the last key

pytestmark = pytest.mark.version


@dataclass(frozen=True)
class Setting:
    """Which store, on which backend."""

    kind: str
    backend: str


@pytest.fixture(
    params=[
        Setting("memory", "asyncio"),
        Setting("memory", "trio"),
        Setting("faulty", "asyncio"),
        Setting("faulty", "trio"),
        pytest.param(Setting("etcd", "asyncio"), marks=pytest.mark.etcd),
        pytest.param(Setting("etcd-grpc", "asyncio"), marks=pytest.mark.etcd),
    ],
    ids=lambda setting: f"{setting.kind}-{setting.backend}",
)
def setting(request: pytest.FixtureRequest) -> Setting:
    """Each store on each backend it can run on."""
    found: Setting = request.param
    return found


@pytest.fixture
def anyio_backend(setting: Setting) -> str:
    """Run on the setting's backend."""
    return setting.backend


@pytest.fixture(scope="module")
def shared_server() -> Iterator[EtcdServer]:
    """One etcd for the whole suite; each test finds it empty."""
    with EtcdServer() as server:
        yield server


@pytest.fixture
def server(setting: Setting, request: pytest.FixtureRequest) -> EtcdServer | None:
    """The etcd, where there is one."""
    if not setting.kind.startswith("etcd"):
        return None
    found: EtcdServer = request.getfixturevalue("shared_server")
    return found


@dataclass(frozen=True)
class Subject:
    """A store under test, through its first member."""

    store: Store
    compact: Callable[[int], object]

    @property
    def member(self) -> str:
        return self.store.members[0]

    async def call(self, op: Op[R]) -> R:
        return await self.store.call(op, member=self.member, timeout=5)

    async def put(self, key: bytes, value: bytes = b"") -> int:
        return (await self.call(Put(key, value))).header.revision

    async def keys(self, op: Range) -> list[bytes]:
        return list((await self.call(op)).entries)


@pytest.fixture
async def subject(setting: Setting, server: EtcdServer | None) -> AsyncIterator[Subject]:
    """An empty store."""
    if server is not None:
        transport: Transport | None = "grpc" if setting.kind == "etcd-grpc" else None
        real, running = EtcdStore([server.endpoint], transport=transport), server
        await real.call(Delete(ALL, ALL), member=server.endpoint, timeout=5)
        yield Subject(real, lambda revision: running.etcdctl("compaction", str(revision)))
        await real.aclose()
    else:
        memory = MemoryStore()
        yield Subject(FaultyStore(memory) if setting.kind == "faulty" else memory, memory.compact)


def _kind(caught: pytest.ExceptionInfo[StoreFault]) -> FaultKind:
    return caught.value.fault.kind


# Reading and writing -------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_what_is_put_can_be_read(subject: Subject) -> None:
    """A key has the value last put, the revision that created it and the one that last changed it."""
    created = await subject.put(b"k", b"one")
    changed = await subject.put(b"k", b"two\x00\xff")
    entry = (await subject.call(Range(b"k"))).entries[b"k"]
    assert (entry.value, entry.create_revision, entry.mod_revision) == (b"two\x00\xff", created, changed)


@pytest.mark.anyio
async def test_an_absent_key_is_no_entry(subject: Subject) -> None:
    """A key that is not there is an empty answer, not an error."""
    result = await subject.call(Range(b"missing"))
    assert (result.entries, result.more, result.count) == ({}, False, 0)


@pytest.mark.anyio
async def test_a_deleted_key_starts_anew(subject: Subject) -> None:
    """Deleting says how many keys went; a key put again is created again."""
    await subject.put(b"k", b"1")
    assert (await subject.call(Delete(b"k"))).deleted == 1
    assert (await subject.call(Range(b"k"))).entries == {}
    again = await subject.put(b"k", b"2")
    assert (await subject.call(Range(b"k"))).entries[b"k"].create_revision == again


@pytest.mark.anyio
async def test_deleting_nothing_changes_nothing(subject: Subject) -> None:
    """A delete that finds no key removes none and leaves the revision where it was."""
    revision = await subject.put(b"k")
    result = await subject.call(Delete(b"missing"))
    assert (result.deleted, result.header.revision) == (0, revision)


@pytest.mark.anyio
async def test_a_range_is_half_open_and_in_key_order(subject: Subject) -> None:
    """[key, end) holds the first key and not the last, in order."""
    for key in (b"d", b"b", b"a", b"c"):
        await subject.put(key)
    assert await subject.keys(Range(b"a", b"d")) == [b"a", b"b", b"c"]
    assert await subject.keys(Range(b"d", b"a")) == []


@pytest.mark.anyio
async def test_a_prefix_holds_its_keys_alone(subject: Subject) -> None:
    """A prefix range holds every key that begins so and none beside it."""
    for key in (b"app", b"app/", b"app/a", b"app/\xff\xff", b"app0", b"apple"):
        await subject.put(key)
    assert await subject.keys(Range(b"app/", prefix_end(b"app/"))) == [b"app/", b"app/a", b"app/\xff\xff"]


@pytest.mark.anyio
@pytest.mark.parametrize("prefix", [b"p\xff", b"p\xff\xff"])
async def test_a_prefix_may_end_in_0xff(subject: Subject, prefix: bytes) -> None:
    """The end of a prefix of 0xff bytes is the next key that can follow, not an overflow."""
    for key in (b"p", prefix, prefix + b"\x00", prefix + b"\xff", b"q"):
        await subject.put(key)
    assert await subject.keys(Range(prefix, prefix_end(prefix))) == [prefix, prefix + b"\x00", prefix + b"\xff"]


@pytest.mark.anyio
async def test_a_prefix_of_0xff_alone_reaches_the_last_key(subject: Subject) -> None:
    """Nothing follows 0xff: its prefix goes to the last key."""
    for key in (b"a", b"\xff", b"\xff\xff", b"\xff\xffz"):
        await subject.put(key)
    assert await subject.keys(Range(b"\xff", prefix_end(b"\xff"))) == [b"\xff", b"\xff\xff", b"\xff\xffz"]


@pytest.mark.anyio
async def test_the_empty_prefix_is_everything(subject: Subject) -> None:
    """From the first possible key to the end of the empty prefix are all keys."""
    for key in (b"\x00", b"m", b"\xff\xff"):
        await subject.put(key)
    assert prefix_end(b"") == ALL
    assert await subject.keys(Range(ALL, prefix_end(b""))) == [b"\x00", b"m", b"\xff\xff"]


@pytest.mark.anyio
async def test_a_limit_cuts_and_says_so(subject: Subject) -> None:
    """At most `limit` entries come, the first ones; `more` says that there are more, `count` how many in all."""
    for n in range(5):
        await subject.put(b"k%d" % n)
    cut = await subject.call(Range(b"k", b"l", limit=2))
    assert (list(cut.entries), cut.more, cut.count) == ([b"k0", b"k1"], True, 5)
    whole = await subject.call(Range(b"k", b"l", limit=5))
    assert (len(whole.entries), whole.more, whole.count) == (5, False, 5)


@pytest.mark.anyio
async def test_pages_join_without_a_gap(subject: Subject) -> None:
    """Pages read at one revision give exactly what one read gives, whatever is written meanwhile."""
    for n in range(7):
        await subject.put(b"k%d" % n)
    first = await subject.call(Range(b"k", b"l", limit=3))
    keys, revision, more = list(first.entries), first.header.revision, first.more
    while more:
        await subject.put(b"k9%d" % len(keys))
        page = await subject.call(Range(keys[-1] + b"\0", b"l", limit=3, revision=revision))
        keys, more = keys + list(page.entries), page.more
    assert keys == [b"k%d" % n for n in range(7)]


@pytest.mark.anyio
async def test_keys_only_leaves_the_values_out(subject: Subject) -> None:
    """`keys_only` gives the keys and their revisions, with empty values."""
    revision = await subject.put(b"k", b"secret")
    entry = (await subject.call(Range(b"k", keys_only=True))).entries[b"k"]
    assert (entry.value, entry.create_revision, entry.mod_revision) == (b"", revision, revision)


@pytest.mark.anyio
async def test_a_batch_reads_each_of_its_keys(subject: Subject) -> None:
    """A batch gives the entries of the keys that are there, as of one revision; a key asked for twice is one."""
    first = await subject.put(b"a", b"1")
    second = await subject.put(b"b", b"2")
    result = await subject.call(ReadBatch((b"b", b"missing", b"a", b"b")))
    assert {key: (e.value, e.create_revision, e.mod_revision) for key, e in result.entries.items()} == {
        b"a": (b"1", first, first),
        b"b": (b"2", second, second),
    }
    assert result.header.revision == second
    assert result.header.cluster_id == (await subject.call(Range(b"a"))).header.cluster_id


@pytest.mark.anyio
async def test_a_batch_holds_128_keys(subject: Subject) -> None:
    """128 keys are read in one transaction, and 129 are refused."""
    keys = tuple(b"k%d" % n for n in range(MOST_READS + 1))
    assert (await subject.call(ReadBatch(keys[:-1]))).entries == {}
    with pytest.raises(StoreFault) as caught:
        await subject.call(ReadBatch(keys))
    assert _kind(caught) is FaultKind.INVALID


@pytest.mark.anyio
@pytest.mark.parametrize("bad", [b"", b"k" * 2_200_000], ids=["empty", "too long"])
async def test_a_batch_with_an_impossible_key_is_refused(subject: Subject, bad: bytes) -> None:
    """An empty key, or one larger than any message, has the whole batch refused, as it is refused alone."""
    with pytest.raises(StoreFault) as caught:
        await subject.call(ReadBatch((b"a", bad)))
    assert _kind(caught) is FaultKind.INVALID
    with pytest.raises(StoreFault) as caught:
        await subject.call(Range(bad))
    assert _kind(caught) is FaultKind.INVALID


@pytest.mark.anyio
async def test_the_past_can_be_read(subject: Subject) -> None:
    """A read at a revision shows the keys as they were, and answers with the present revision."""
    old = await subject.put(b"k", b"old")
    await subject.put(b"k", b"new")
    newest = await subject.put(b"later", b"x")
    result = await subject.call(Range(ALL, ALL, revision=old))
    assert {key: entry.value for key, entry in result.entries.items()} == {b"k": b"old"}
    assert result.header.revision == newest


@pytest.mark.anyio
async def test_a_serializable_read_answers_alike(subject: Subject) -> None:
    """A member that is in step gives the same entries without asking the quorum."""
    await subject.put(b"k", b"v")
    asked, told = await subject.call(Range(b"k")), await subject.call(Range(b"k", serializable=True))
    assert (told.entries, told.header) == (asked.entries, asked.header)


@pytest.mark.anyio
async def test_a_range_is_deleted_at_one_revision(subject: Subject) -> None:
    """Deleting a range removes what is in it, and nothing else, in one revision."""
    for key in (b"a", b"b1", b"b2", b"c"):
        last = await subject.put(key)
    result = await subject.call(Delete(b"b", prefix_end(b"b")))
    assert (result.deleted, result.header.revision) == (2, last + 1)
    assert await subject.keys(Range(ALL, ALL)) == [b"a", b"c"]


@pytest.mark.anyio
async def test_each_write_has_the_next_revision(subject: Subject) -> None:
    """Revisions grow by one with each write, in the headers of writes and reads alike."""
    first = await subject.put(b"a")
    revisions = [
        await subject.put(b"a"),
        await subject.put(b"b"),
        (await subject.call(Delete(b"a"))).header.revision,
    ]
    assert revisions == [first + 1, first + 2, first + 3]
    assert (await subject.call(Range(b"none"))).header.revision == first + 3


@pytest.mark.anyio
async def test_every_answer_says_who_gave_it(subject: Subject) -> None:
    """Reads and writes of one member carry the same cluster, member and term."""
    answers = [
        (await subject.call(Put(b"k", b""))).header,
        (await subject.call(Range(b"k"))).header,
        (await subject.call(Range(b"k", serializable=True))).header,
        (await subject.call(Delete(b"k"))).header,
    ]
    assert len({(header.cluster_id, header.member_id, header.raft_term) for header in answers}) == 1
    assert answers[0].cluster_id
    assert answers[0].member_id
    assert answers[0].raft_term


# Refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(
    "op", [Put(b"", b"v"), Range(b""), Range(b"", b"\0"), Delete(b""), Delete(b"", b"\0")], ids=repr
)
async def test_an_empty_key_is_refused(subject: Subject, op: Op[Result]) -> None:
    """No operation takes an empty key, not even as the beginning of a range."""
    with pytest.raises(StoreFault) as caught:
        await subject.call(op)
    assert _kind(caught) is FaultKind.INVALID
    assert not caught.value.fault.applied


@pytest.mark.anyio
@pytest.mark.parametrize("key_size", [1, 1_600_000])
async def test_too_large_a_request_is_refused(subject: Subject, key_size: int) -> None:
    """Key and value together beyond 1.5 MiB are refused; the write was not applied."""
    with pytest.raises(StoreFault) as caught:
        await subject.call(Put(b"k" * key_size, b"v" * (1_600_001 - key_size)))
    assert _kind(caught) is FaultKind.INVALID
    assert not caught.value.fault.applied
    assert await subject.keys(Range(b"k", b"l", keys_only=True)) == []


@pytest.mark.anyio
async def test_compacted_history_cannot_be_read(subject: Subject) -> None:
    """A read below the compacted revision is refused for good; at it, the past is still there."""
    old = await subject.put(b"k", b"1")
    kept = await subject.put(b"k", b"2")
    await subject.put(b"k", b"3")
    subject.compact(kept)
    with pytest.raises(StoreFault) as caught:
        await subject.call(Range(b"k", revision=old))
    assert _kind(caught) is FaultKind.COMPACTED
    assert (await subject.call(Range(b"k", revision=kept))).entries[b"k"].value == b"2"


@pytest.mark.anyio
async def test_the_future_cannot_be_read(subject: Subject) -> None:
    """A read at a revision that has not come yet is refused rather than answered with the present."""
    revision = await subject.put(b"k")
    with pytest.raises(StoreFault) as caught:
        await subject.call(Range(b"k", revision=revision + 1))
    assert _kind(caught) is FaultKind.FUTURE_REVISION


# Watching ------------------------------------------------------------------------------------------------------


async def _receive(watch: Watch, count: int) -> list[Event]:
    """Return the next `count` events or more; frames without events are passed over."""
    events: list[Event] = []
    with anyio.fail_after(10):
        while len(events) < count:
            events += (await watch.receive()).events
    return events


@pytest.mark.anyio
async def test_a_watch_tells_the_past_from_its_revision_on(subject: Subject) -> None:
    """From a revision on, every change of the range comes, in order, with the entry or without one if deleted."""
    await subject.put(b"w/a", b"0")
    first = await subject.put(b"w/a", b"1")
    await subject.put(b"other", b"x")
    second = await subject.put(b"w/b", b"2")
    gone = (await subject.call(Delete(b"w/a"))).header.revision
    async with subject.store.watch(
        b"w/", prefix_end(b"w/"), start_revision=first, member=subject.member, timeout=5
    ) as watch:
        events = await _receive(watch, 3)
        last = await subject.put(b"w/c", b"3")
        events += await _receive(watch, 1)
    assert [(e.key, e.entry and e.entry.value, e.revision) for e in events] == [
        (b"w/a", b"1", first),
        (b"w/b", b"2", second),
        (b"w/a", None, gone),
        (b"w/c", b"3", last),
    ]
    assert all(e.entry is None or e.entry.mod_revision == e.revision for e in events)


@pytest.mark.anyio
async def test_a_watch_without_a_revision_begins_now(subject: Subject) -> None:
    """With `start_revision=0` only what happens after the opening comes."""
    await subject.put(b"k", b"before")
    async with subject.store.watch(b"k", None, start_revision=0, member=subject.member, timeout=5) as watch:
        await subject.put(b"k2", b"beside")
        await subject.put(b"k", b"after")
        (event,) = await _receive(watch, 1)
    assert event.entry is not None
    assert event.entry.value == b"after"


@pytest.mark.anyio
async def test_a_watch_may_wait_for_a_revision_to_come(subject: Subject) -> None:
    """A watch from the next revision on misses nothing that happens between reading and watching."""
    revision = await subject.put(b"k", b"read")
    await subject.put(b"k", b"between")
    async with subject.store.watch(
        b"k", None, start_revision=revision + 1, member=subject.member, timeout=5
    ) as watch:
        (event,) = await _receive(watch, 1)
    assert event.entry is not None
    assert event.entry.value == b"between"


@pytest.mark.anyio
async def test_a_revision_is_never_split(subject: Subject) -> None:
    """What one write changed comes in one batch."""
    for n in range(6):
        start = await subject.put(b"w/%d" % n)
    async with subject.store.watch(
        b"w/", prefix_end(b"w/"), start_revision=start + 1, member=subject.member, timeout=5
    ) as watch:
        await subject.call(Delete(b"w/", prefix_end(b"w/")))
        with anyio.fail_after(10):
            while not (batch := await watch.receive()).events:
                pass
    assert [event.key for event in batch.events] == [b"w/%d" % n for n in range(6)]
    assert {event.revision for event in batch.events} == {start + 1}


@pytest.mark.anyio
async def test_progress_is_told_on_request(subject: Subject) -> None:
    """A progress frame has no events and carries the revision up to which nothing more has happened."""
    async with subject.store.watch(b"k", None, start_revision=0, member=subject.member, timeout=5) as watch:
        revision = await subject.put(b"elsewhere")
        await watch.request_progress()
        with anyio.fail_after(10):
            batch = await watch.receive()
    assert (batch.events, batch.header.revision) == ((), revision)


@pytest.mark.anyio
async def test_a_watch_of_compacted_history_says_so(subject: Subject) -> None:
    """Asking for history that is gone raises Compacted with the oldest revision still there."""
    old = await subject.put(b"k", b"1")
    kept = await subject.put(b"k", b"2")
    subject.compact(kept)
    with pytest.raises(Compacted) as caught:
        async with subject.store.watch(b"k", None, start_revision=old, member=subject.member, timeout=5) as watch:
            await _receive(watch, 1)
    assert caught.value.revision == kept
    async with subject.store.watch(b"k", None, start_revision=kept, member=subject.member, timeout=5) as watch:
        (event,) = await _receive(watch, 1)
    assert event.revision == kept


@pytest.mark.anyio
async def test_a_group_of_watches_has_one_reader(subject: Subject) -> None:
    """Each frame names its watch; the first is empty: it is open; the past comes before the present."""
    first = await subject.put(b"a", b"0")
    async with subject.store.watch_group(member=subject.member, timeout=5) as group:
        group.add("one", b"a", None, start_revision=first)
        group.add("many", b"w/", prefix_end(b"w/"), start_revision=first + 1)
        frames = _Frames(group)
        await frames.until(lambda: len(frames.events("one")) == 1 and "many" in frames.batches)
        assert [frames.batches[tag][0].events for tag in ("one", "many")] == [(), ()]
        second = await subject.put(b"w/b")
        await subject.put(b"elsewhere")
        third = (await subject.call(Delete(b"a"))).header.revision
        await frames.until(lambda: len(frames.events("one")) == 2 and len(frames.events("many")) == 1)
    assert [event.revision for event in frames.events("one")] == [first, third]
    assert [(event.key, event.revision) for event in frames.events("many")] == [(b"w/b", second)]


@pytest.mark.anyio
async def test_a_watch_of_a_group_ends_alone(subject: Subject) -> None:
    """Compacted history ends one watch of a group, with its tag; what is dropped is told of nothing any more."""
    old = await subject.put(b"k", b"1")
    kept = await subject.put(b"k", b"2")
    subject.compact(kept)
    async with subject.store.watch_group(member=subject.member, timeout=5) as group:
        frames = _Frames(group)
        group.add("old", b"k", None, start_revision=old)
        group.add("dropped", b"d", None, start_revision=kept)
        group.add("kept", b"k", None, start_revision=kept)
        await frames.until(lambda: "old" in frames.faults and len(frames.events("kept")) == 1)
        ended = frames.faults["old"]
        assert isinstance(ended, Compacted)
        assert ended.revision == kept
        group.drop("dropped")
        group.drop("never there")
        await subject.put(b"d")
        group.add("old", b"k", None, start_revision=kept)
        await subject.put(b"k", b"3")
        await frames.until(lambda: len(frames.events("kept")) == 2 and len(frames.events("old")) == 2)
        assert frames.events("dropped") == []


@pytest.mark.anyio
async def test_a_group_gives_a_sign_of_life(subject: Subject) -> None:
    """One question for all of them is answered by one frame that belongs to none."""
    async with subject.store.watch_group(member=subject.member, timeout=5) as group:
        frames = _Frames(group)
        group.add("k", b"k", None, start_revision=0)
        await frames.until(lambda: "k" in frames.batches)
        revision = await subject.put(b"elsewhere")
        group.request_progress()
        await frames.until(lambda: None in frames.batches)
    assert [(batch.events, batch.header.revision) for batch in frames.batches[None]] == [((), revision)]


@pytest.mark.anyio
async def test_giving_up_on_a_group_harms_nobody(subject: Subject) -> None:
    """Receiving may be cancelled at any time, and loses nothing."""
    async with subject.store.watch_group(member=subject.member, timeout=5) as group:
        frames = _Frames(group)
        group.add("k", b"k", None, start_revision=0)
        await frames.until(lambda: "k" in frames.batches)
        with anyio.move_on_after(0.05):
            await group.receive()
        revision = await subject.put(b"k")
        await frames.until(lambda: bool(frames.events("k")))
    assert [event.revision for event in frames.events("k")] == [revision]


class _Frames:
    """What has been received from a group."""

    def __init__(self, group: WatchGroup) -> None:
        self._group = group
        self.batches: dict[str | None, list[WatchBatch]] = {}
        self.faults: dict[str, StoreFault] = {}

    async def until(self, enough: Callable[[], bool]) -> None:
        """Receive until that is enough."""
        with anyio.fail_after(10):
            while not enough():
                for tag, frame in await self._group.receive():
                    if isinstance(frame, StoreFault):
                        self.faults[tag] = frame
                    else:
                        self.batches.setdefault(tag, []).append(frame)

    def events(self, tag: str) -> list[Event]:
        """Return what has happened to one."""
        return [event for batch in self.batches.get(tag, ()) for event in batch.events]


@pytest.mark.anyio
async def test_watches_are_independent(subject: Subject) -> None:
    """Several watches of one member each get their own events, and closing one leaves the others."""
    store, member = subject.store, subject.member
    async with store.watch(b"a", None, start_revision=0, member=member, timeout=5) as staying:
        async with store.watch(b"b", None, start_revision=0, member=member, timeout=5) as leaving:
            await subject.put(b"b", b"1")
            assert [e.key for e in await _receive(leaving, 1)] == [b"b"]
        await subject.put(b"a", b"1")
        assert [e.key for e in await _receive(staying, 1)] == [b"a"]


@pytest.mark.anyio
async def test_a_large_revision_is_not_split(subject: Subject) -> None:
    """What one write changed comes in one batch, also if it is larger than etcd sends at once (2 MiB)."""
    keys = [b"f%02d" % n + b"x" * 60_000 for n in range(50)]
    for key in keys:
        revision = await subject.put(key)
    async with subject.store.watch(b"f", b"g", start_revision=revision, member=subject.member, timeout=5) as watch:
        deletion = (await subject.call(Delete(b"f", b"g"))).header.revision
        batches: list[WatchBatch] = []
        with anyio.fail_after(5):
            while not batches or batches[-1].events[-1].revision < deletion:
                batches.append(await watch.receive())
    (batch,) = (b for b in batches if any(event.revision == deletion for event in b.events))
    assert [event.key for event in batch.events if event.revision == deletion] == keys


@pytest.mark.anyio
async def test_a_slow_reader_loses_nothing(subject: Subject) -> None:
    """Who does not read for 10 MB and resumes behind the last event whenever told to gets every event once."""
    first = await subject.put(b"before") + 1
    expected = list(range(first, first + 25))
    seen: list[int] = []
    while seen != expected:
        async with subject.store.watch(
            b"k", None, start_revision=first + len(seen), member=subject.member, timeout=5
        ) as watch:
            if not seen:
                assert [await subject.put(b"k", b"v" * 400_000) for _ in expected] == expected
            try:
                while seen != expected:
                    seen += [event.revision for event in await _receive(watch, 1)]
            except StoreFault as exc:
                if exc.fault.kind is not FaultKind.OVERFLOW or exc.fault.outage:
                    raise
        assert seen == expected[: len(seen)]


@pytest.mark.anyio
async def test_what_ended_stays_ended(subject: Subject) -> None:
    """A watch that has ended with a fault says so again, however often it is asked."""
    async with subject.store.watch(b"k", None, start_revision=0, member=subject.member, timeout=5):
        pass
    old = await subject.put(b"k", b"1")
    subject.compact(await subject.put(b"k", b"2"))
    with pytest.raises(Compacted):
        async with subject.store.watch(b"k", None, start_revision=old, member=subject.member, timeout=5) as watch:
            with pytest.raises(Compacted):
                await _receive(watch, 1)
            await _receive(watch, 1)


@pytest.mark.anyio
async def test_a_member_is_no_proxy(subject: Subject) -> None:
    """A member is not refused as a grpc-proxy, and is known to be none once it was asked."""
    await subject.store.require_member(subject.member, timeout=5)
    assert subject.store.is_proxy(subject.member) is False


# Tasks ---------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_concurrent_calls_do_not_mix(subject: Subject) -> None:
    """Many calls at once are all answered, each with its own answer; every write has its own revision."""
    revisions: list[int] = []
    values: dict[bytes, bytes] = {}

    async def write_and_read(n: int) -> None:
        key = b"c/%02d" % n
        revisions.append(await subject.put(key, b"%d" % n))
        values.update({k: e.value for k, e in (await subject.call(Range(key))).entries.items()})

    async with anyio.create_task_group() as tasks:
        for n in range(40):
            tasks.start_soon(write_and_read, n)
    assert len(set(revisions)) == 40
    assert values == {b"c/%02d" % n: b"%d" % n for n in range(40)}


@pytest.mark.anyio
@pytest.mark.parametrize("steps", range(4))
async def test_a_cancelled_call_leaves_the_store_usable(subject: Subject, steps: int) -> None:
    """A call cancelled at any await ends cancelled; the write is applied or not, and the store goes on."""
    ended = "not at all"

    async def write() -> None:
        nonlocal ended
        try:
            await subject.put(b"k", b"maybe")
            ended = "answered"
        except anyio.get_cancelled_exc_class():
            ended = "cancelled"
            raise

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert ended in ("cancelled", "answered") or steps == 0
    await subject.put(b"k2", b"after")
    found = await subject.call(Range(b"k", b"l"))
    assert {k: e.value for k, e in found.entries.items()} in (
        {b"k2": b"after"},
        {b"k": b"maybe", b"k2": b"after"},
    )


@pytest.mark.anyio
async def test_a_cancelled_receive_leaves_the_store_usable(subject: Subject) -> None:
    """Giving up on a watch in the middle of receiving harms neither calls nor the next watch."""
    async with subject.store.watch(b"k", None, start_revision=0, member=subject.member, timeout=5) as watch:
        with anyio.move_on_after(0.05) as scope:
            await watch.receive()
    assert scope.cancelled_caught
    revision = await subject.put(b"k", b"1")
    async with subject.store.watch(b"k", None, start_revision=revision, member=subject.member, timeout=5) as watch:
        assert [event.revision for event in await _receive(watch, 1)] == [revision]


@pytest.mark.anyio
async def test_an_error_in_the_body_ends_the_watch_and_comes_out(subject: Subject) -> None:
    """The watch's context manager passes the body's exception on as it is."""
    with pytest.raises(LookupError, match="body"):
        async with subject.store.watch(b"k", None, start_revision=0, member=subject.member, timeout=5):
            raise LookupError("body")
    await subject.put(b"k")


@pytest.mark.anyio
async def test_a_connection_given_up_is_made_again(subject: Subject) -> None:
    """After `renew` the next call is answered as if nothing had been."""
    before = await subject.put(b"k")
    for _ in range(3):
        subject.store.renew(subject.member)
        before += 1
        assert await subject.put(b"k") == before


@pytest.mark.anyio
async def test_closing_twice_is_closing_once(subject: Subject) -> None:
    """`aclose` may be called again, also after `renew`."""
    await subject.put(b"k")
    subject.store.renew(subject.member)
    await subject.store.aclose()
    await subject.store.aclose()


@pytest.mark.anyio
async def test_a_store_is_shown_in_one_line(subject: Subject) -> None:
    """`repr` names the store in one line, for logs."""
    assert type(subject.store).__name__ in repr(subject.store)
    assert "\n" not in repr(subject.store)


# Ranges as data ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        (b"", b"\0"),
        (b"a", b"b"),
        (b"a/", b"a0"),
        (b"a\xff", b"b"),
        (b"a\xff\xff", b"b"),
        (b"\xff", b"\0"),
        (b"\xff\xff", b"\0"),
        (b"\xfe\xff", b"\xff"),
        (b"a\x00", b"a\x01"),
    ],
)
def test_the_end_of_a_prefix(prefix: bytes, end: bytes) -> None:
    """The end is the first key that does not begin with the prefix, or b"\\0" where there is none."""
    assert prefix_end(prefix) == end


def test_ranges_are_half_open() -> None:
    """None is the one key; an end is exclusive; b"\\0" has no end."""
    assert [within(k, b"b", None) for k in (b"a", b"b", b"b0")] == [False, True, False]
    assert [within(k, b"b", b"d") for k in (b"a", b"b", b"c", b"d")] == [False, True, True, False]
    assert [within(k, b"b", b"\0") for k in (b"a", b"b", b"\xff\xff")] == [False, True, True]


def test_operations_know_their_lane() -> None:
    """Only serializable reads survive without a quorum; only puts and deletes write."""
    ops = (Range(b"k"), Range(b"k", serializable=True), Put(b"k", b""), Delete(b"k"))
    assert [(op.name, op.lane, op.writes) for op in ops] == [
        ("range", "quorum", False),
        ("range", "member", False),
        ("put", "quorum", True),
        ("delete", "quorum", True),
    ]


# Members -------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_member_lists_its_cluster(subject: Subject, server: EtcdServer | None) -> None:
    """Whoever answers is on the list, with its name, the address it was asked at, and a vote."""
    answered = await subject.call(MemberList())
    (itself,) = (member for member in answered.members if member.id == answered.header.member_id)
    assert itself.name
    assert itself.client_urls == (server._client_url if server else f"http://{subject.member}",)
    assert not itself.learner


@pytest.mark.anyio
async def test_a_member_that_answers_can_be_added(subject: Subject) -> None:
    """Adding a member says who answers there; it can be asked from then on, until it is removed."""
    before = tuple(subject.store.members)
    other = subject.store.members[0]
    subject.store.remove(other)
    assert subject.store.members == before[1:]
    header = await subject.store.add(Address(other), timeout=5)
    assert subject.store.members == (*before[1:], other)
    assert (await subject.store.call(MemberList(), member=other, timeout=5)).header.member_id == header.member_id
    assert await subject.store.add(Address(other), timeout=5) == header
    assert subject.store.members == (*before[1:], other)


@pytest.mark.anyio
async def test_a_member_that_does_not_answer_is_not_added(subject: Subject) -> None:
    """Adding what cannot be reached fails, as an outage, and leaves no trace."""
    before = subject.store.members
    with pytest.raises(StoreFault) as caught:
        await subject.store.add(Address("127.0.0.1:1"), timeout=1)
    assert caught.value.fault.outage
    assert subject.store.members == before


@pytest.mark.anyio
async def test_a_removed_member_cannot_be_reached(subject: Subject) -> None:
    """Calls and watches of a removed member are refused as never sent; removing it again is nothing."""
    gone = subject.member
    subject.store.remove(gone)
    subject.store.remove(gone)
    subject.store.renew(gone)
    with pytest.raises(StoreFault) as caught:
        await subject.store.call(Put(b"k", b""), member=gone, timeout=1)
    assert _kind(caught) is FaultKind.UNREACHABLE
    assert not caught.value.fault.applied
    with pytest.raises(StoreFault) as caught:
        async with subject.store.watch(b"k", None, start_revision=0, member=gone, timeout=1):
            pass
    assert _kind(caught) is FaultKind.UNREACHABLE
