"""The contract of the `Store` port on transactions and leases, on all its implementations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio
import pytest

from tideover.etcd.adapter import EtcdStore
from tideover.store.faults import Fault, FaultKind, StoreFault
from tideover.store.leases import Attachments, LeaseGrant, LeaseKeepAlive, LeaseRevoke, LeaseTimeToLive
from tideover.store.operations import Delete, LeaseResult, Op, Put, Range, Result, Sort, WriteResult
from tideover.store.protocol import Store
from tideover.store.transactions import Compare, Txn
from tideover.testing import EtcdServer, FaultyStore, MemoryStore

R = TypeVar("R", bound=Result)

pytestmark = [pytest.mark.anyio, pytest.mark.version]

ALL = b"\0"
LEASE = 0x7A11


@pytest.fixture(
    params=[
        ("memory", "asyncio"),
        ("faulty", "trio"),
        pytest.param(("etcd", "asyncio"), marks=pytest.mark.etcd),
        pytest.param(("etcd-grpc", "asyncio"), marks=pytest.mark.etcd),
    ],
    ids=lambda pair: pair[0],
)
def setting(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Each store, on a backend it can run on."""
    found: tuple[str, str] = request.param
    return found


@pytest.fixture
def anyio_backend(setting: tuple[str, str]) -> str:
    """Run on the setting's backend."""
    return setting[1]


@pytest.fixture(scope="module")
def shared_server() -> Iterator[EtcdServer]:
    """One etcd for all tests here; each finds it empty."""
    with EtcdServer() as server:
        yield server


@dataclass(frozen=True)
class Subject:
    """A store under test, through its first member."""

    store: Store

    @property
    def member(self) -> str:
        return self.store.members[0]

    async def call(self, op: Op[R]) -> R:
        return await self.store.call(op, member=self.member, timeout=5)

    async def put(self, key: bytes, value: bytes = b"", lease: int = 0) -> int:
        return (await self.call(Put(key, value, lease))).header.revision

    async def value(self, key: bytes) -> bytes | None:
        entry = (await self.call(Range(key))).entries.get(key)
        return None if entry is None else entry.value


@pytest.fixture
async def subject(setting: tuple[str, str], request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    """An empty store."""
    if not setting[0].startswith("etcd"):
        memory = MemoryStore()
        yield Subject(FaultyStore(memory) if setting[0] == "faulty" else memory)
        return
    server: EtcdServer = request.getfixturevalue("shared_server")
    store = EtcdStore([server.endpoint], transport="grpc" if setting[0] == "etcd-grpc" else None)
    subject = Subject(store)
    await subject.call(Delete(ALL, ALL))
    for lease in (LEASE, LEASE + 1):
        if (await subject.call(LeaseTimeToLive(lease))).ttl >= 0:
            await subject.call(LeaseRevoke(lease))
    yield subject
    await store.aclose()


# Transactions ---------------------------------------------------------------------------------------------------


async def test_one_side_is_done_at_one_revision(subject: Subject) -> None:
    """If all conditions hold, all of `then` happens at one revision; its answers come in order."""
    before = await subject.put(b"a", b"1")
    done = await subject.call(
        Txn(
            (Compare(b"a", mod_revision=before), Compare(b"b", create_revision=0)),
            then=(Put(b"a", b"2"), Put(b"b", b"3"), Range(b"a"), Delete(b"c")),
            otherwise=(Put(b"d", b"no"),),
        )
    )
    assert done.succeeded
    assert done.header.revision == before + 1
    assert done.entries(2).entries[b"a"].mod_revision == before + 1
    assert isinstance(done.results[3], WriteResult)
    assert done.results[3].deleted == 0
    assert [await subject.value(key) for key in (b"a", b"b", b"d")] == [b"2", b"3", None]


async def test_otherwise_is_done_if_one_condition_fails(subject: Subject) -> None:
    """If one condition does not hold, only `otherwise` happens, and the answer says so."""
    await subject.put(b"a", b"1")
    done = await subject.call(
        Txn(
            (Compare(b"a", value=b"1"), Compare(b"a", create_revision=0)),
            then=(Put(b"a", b"no"),),
            otherwise=(Range(b"a"),),
        )
    )
    assert not done.succeeded
    assert done.entries(0).entries[b"a"].value == b"1"


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (Compare(b"gone", create_revision=0), True),
        (Compare(b"gone", mod_revision=0), True),
        (Compare(b"gone", value=b""), False),
        (Compare(b"a", value=b"1"), True),
        (Compare(b"a", value=b"2"), False),
        (Compare(b"a", lease=0), True),
        (Compare(b"leased", lease=LEASE), True),
        (Compare(b"leased", lease=0), False),
        (Compare(b"a", create_revision=0), False),
        (Compare(b"a", value=b"1", create_revision=0), False),
    ],
    ids=repr,
)
async def test_what_is_compared(subject: Subject, condition: Compare, holds: bool) -> None:
    """Each part of a condition is compared as etcd does, also with a key that does not exist."""
    await subject.call(LeaseGrant(60, LEASE))
    await subject.put(b"a", b"1")
    await subject.put(b"leased", b"", LEASE)
    assert (await subject.call(Txn((condition,)))).succeeded is holds


async def test_a_key_may_be_written_once_in_a_transaction(subject: Subject) -> None:
    """A transaction that writes one key twice is refused as a whole."""
    with pytest.raises(StoreFault) as caught:
        await subject.call(Txn((), then=(Put(b"a", b"1"), Put(b"a", b"2"))))
    assert caught.value.fault.kind is FaultKind.INVALID
    assert await subject.value(b"a") is None


def test_a_condition_says_something() -> None:
    """A condition that compares nothing is refused when it is made: etcd would compare a version with 0."""
    with pytest.raises(ValueError, match="something to compare"):
        Compare(b"a")


def test_reading_only_is_no_write() -> None:
    """A transaction that cannot change anything counts as a read, so that it may be repeated."""
    assert not Txn((Compare(b"a", value=b""),), then=(Range(b"a"),)).writes
    assert Txn((), then=(Range(b"a"),), otherwise=(Delete(b"a"),)).writes


# Leases ---------------------------------------------------------------------------------------------------------


async def test_keys_end_with_their_lease(subject: Subject) -> None:
    """Revoking a lease deletes the keys that are attached to it, and no others."""
    granted = await subject.call(LeaseGrant(60, LEASE))
    assert (granted.lease, granted.ttl) == (LEASE, 60)
    await subject.put(b"a", b"", LEASE)
    await subject.put(b"b", b"", LEASE)
    await subject.put(b"b", b"")  # detached by being written without
    asked = await subject.call(LeaseTimeToLive(LEASE, keys=True))
    assert (0 < asked.ttl <= 60, asked.granted, asked.keys) == (True, 60, (b"a",))
    await subject.call(LeaseRevoke(LEASE))
    assert [await subject.value(b"a"), await subject.value(b"b")] == [None, b""]
    assert (await subject.call(LeaseTimeToLive(LEASE))).ttl == -1


@pytest.mark.parametrize("neighbours", [False, True])
async def test_attachments_say_when_a_key_came_to_be_and_under_which_lease(
    subject: Subject, neighbours: bool
) -> None:
    """Of each key that is there: the revision of its creation, not of its last write, and its lease or 0.

    Also where the keys are read as one range: what else lies between them is left out.
    """
    await subject.call(LeaseGrant(60, LEASE))
    created = await subject.put(b"held", b"1", LEASE)
    await subject.put(b"held", b"2", LEASE)
    await subject.put(b"gone-between", b"", LEASE)
    free = await subject.put(b"free")
    answer = await subject.call(Attachments((b"held", b"free", b"missing"), neighbours))
    assert answer.found == {b"held": (created, LEASE), b"free": (free, 0)}
    assert answer.header.revision == free


async def test_what_is_wrong_with_a_lease_is_said(subject: Subject) -> None:
    """A lease that exists cannot be granted again; one that does not cannot be revoked, nor own a key."""
    await subject.call(LeaseGrant(60, LEASE))
    for op, kind in (
        (LeaseGrant(60, LEASE), FaultKind.LEASE_EXISTS),
        (LeaseRevoke(LEASE + 1), FaultKind.LEASE_NOT_FOUND),
        (Put(b"a", b"", LEASE + 1), FaultKind.LEASE_NOT_FOUND),
        (Txn((), then=(Put(b"a", b"", LEASE + 1),)), FaultKind.LEASE_NOT_FOUND),
    ):
        with pytest.raises(StoreFault) as caught:
            await subject.call(op)  # type: ignore[misc]
        assert caught.value.fault.kind is kind


async def test_a_stream_renews(subject: Subject) -> None:
    """One stream renews any lease, again and again; one that is gone is answered with a TTL of 0."""
    await subject.call(LeaseGrant(60, LEASE))
    async with subject.store.keep_alive(member=subject.member) as stream:
        for _ in range(3):
            renewed = await stream.renew(LEASE)
            assert (renewed.lease, renewed.ttl) == (LEASE, 60)
            assert renewed.header.raft_term > 0
        assert (await stream.renew(LEASE + 1)).ttl <= 0
        assert (await stream.renew(LEASE)).ttl == 60


async def test_many_leases_are_renewed_together(subject: Subject) -> None:
    """Renewals are under way at once, each lease gets its own answer, and giving one call up disturbs no other."""
    leases = range(LEASE, LEASE + 40)
    for lease in leases:
        if (await subject.call(LeaseTimeToLive(lease))).ttl >= 0:
            await subject.call(LeaseRevoke(lease))
        await subject.call(LeaseGrant(lease - LEASE + 60, lease))
    answers: dict[int, LeaseResult | Fault] = {}
    async with (
        subject.store.keep_alive(member=subject.member) as renewing,
        subject.store.keep_alive(member=subject.member) as other,
    ):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(renewing.renew_all, leases[:20], answers.__setitem__)
            tasks.start_soon(other.renew_all, [*leases[20:], 1], answers.__setitem__)
            with anyio.CancelScope() as given_up:
                given_up.cancel()
                await renewing.renew_all(leases, answers.__setitem__)
        ttls = {lease: answer.ttl for lease, answer in answers.items() if isinstance(answer, LeaseResult)}
        assert ttls == {lease: lease - LEASE + 60 for lease in leases} | {1: 0}
        assert (await other.renew(LEASE)).ttl == 60


async def test_the_least_lease_lives_two_seconds(subject: Subject) -> None:
    """etcd grants no lease of less than 2 s, and says how much it has granted."""
    assert (await subject.call(LeaseGrant(1, LEASE))).ttl == 2


async def test_a_lease_that_is_not_renewed_ends(subject: Subject) -> None:
    """A watch sees the keys of a lease go when its time is over, without anybody asking."""
    await subject.call(LeaseGrant(2, LEASE))
    await subject.put(b"a", b"", LEASE)
    watching = subject.store.watch(b"a", None, start_revision=0, member=subject.member, timeout=5)
    async with watching as watch:
        with anyio.fail_after(8):
            batch = await watch.receive()
    assert [(event.key, event.entry) for event in batch.events] == [(b"a", None)]


async def test_a_dead_member_ends_the_stream() -> None:
    """Renewing at a member that is down fails, instead of hanging or passing for a lost lease."""
    memory = MemoryStore()
    memory.down.add(memory.members[0])
    async with memory.keep_alive(member=memory.members[0]) as stream:
        with pytest.raises(StoreFault) as caught:
            await stream.renew(LEASE)
    assert caught.value.fault.outage


async def test_faults_strike_renewals() -> None:
    """A `FaultyStore` lets a renewal fail before or after it was applied."""
    memory = MemoryStore()
    store = FaultyStore(memory)
    await store.call(LeaseGrant(60, LEASE), member=store.members[0], timeout=1)
    store.inject("UNAVAILABLE", "Stream removed (Socket closed)", op=LeaseKeepAlive, applied=True)
    async with store.keep_alive(member=store.members[0]) as stream:
        with pytest.raises(StoreFault):
            await stream.renew(LEASE)
    assert [op for _, op in memory.calls if isinstance(op, LeaseKeepAlive)] == [LeaseKeepAlive(LEASE)]


@pytest.mark.parametrize(
    ("code", "message", "others"),
    [
        ("", "", {1, 3}),
        ("PERMISSION_DENIED", "etcdserver: permission denied", {1, 3}),
        ("UNAVAILABLE", "etcdserver: no leader", {1}),
    ],
    ids=["lost", "refused", "away"],
)
@pytest.mark.parametrize("applied", [False, True])
async def test_faults_strike_one_of_many(code: str, message: str, others: set[int], applied: bool) -> None:
    """One renewal of many is lost or refused alone; an outage ends the stream for those behind it as well."""
    memory = MemoryStore()
    store, answers = FaultyStore(memory), dict[int, LeaseResult | Fault]()
    store.inject(code, message, when=lambda op: op == LeaseKeepAlive(2), applied=applied)
    async with store.keep_alive(member=store.members[0]) as renewing:
        with anyio.move_on_after(0.2) as late, suppress(StoreFault):
            await renewing.renew_all((1, 2, 3), answers.__setitem__)
            assert code == "PERMISSION_DENIED"
        assert late.cancelled_caught == (not code)
    assert {lease for lease, answer in answers.items() if isinstance(answer, LeaseResult)} == others
    assert (2 in answers) == (code == "PERMISSION_DENIED")
    assert ((memory.members[0], LeaseKeepAlive(2)) in memory.calls) == applied


# Order of creation ---------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_keys_in_the_order_of_their_creation(subject: Subject) -> None:
    """A range can be had oldest or newest first, cut short, and without what was created after a revision."""
    created = {}
    for key in (b"q/c", b"q/a", b"q/d", b"q/b"):
        created[key] = (await subject.call(Put(key, b""))).header.revision
    await subject.call(Put(b"q/a", b"again"))

    async def keys(**how: Any) -> list[bytes]:
        return list((await subject.call(Range(b"q/", b"q0", **how))).entries)

    assert await keys(sort=Sort.OLDEST) == [b"q/c", b"q/a", b"q/d", b"q/b"]
    assert await keys(sort=Sort.OLDEST, limit=1) == [b"q/c"]
    assert await keys(sort=Sort.NEWEST, limit=1, created_until=created[b"q/b"] - 1) == [b"q/d"]
    assert await keys(sort=Sort.NEWEST, created_until=created[b"q/a"]) == [b"q/a", b"q/c"]
    assert await keys(created_until=created[b"q/c"] - 1) == []
    found = await subject.call(Txn((), then=(Put(b"q/e", b""), Range(b"q/", b"q0", limit=1, sort=Sort.NEWEST))))
    assert list(found.entries(1).entries) == [b"q/e"]
