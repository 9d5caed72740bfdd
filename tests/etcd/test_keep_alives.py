"""Many leases on one stream of renewals. The server is gRPC's own where etcd would have to misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import grpc
import pytest

from tests.etcd.one_loop import anyio_backend, one_loop
from tideover.etcd.channel import MemberChannel
from tideover.etcd.channel import _reported as reported
from tideover.etcd.http2.sending import Sender
from tideover.etcd.keep_alives import KeepAlives
from tideover.etcd.keepalive import CLOSED, Batch, KeepAliveStream
from tideover.etcd.messages import rpc
from tideover.store.endpoints import Address
from tideover.store.faults import Fault, FaultKind, StoreFault
from tideover.store.operations import LeaseResult

__all__ = ["anyio_backend", "one_loop"]

pytestmark = pytest.mark.anyio


class Member(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc has no types
    """Renews leases in order, as etcd does.

    Attributes:
        held: Answers to these leases wait until the event.
        denied: Renewing one of these ends the stream.
        tokens: Those that are of no use.
        streams: The leases asked about, a list for each stream.
    """

    def __init__(self) -> None:
        self.held: dict[int, asyncio.Event] = {}
        self.denied: set[int] = set()
        self.tokens: set[str] = set()
        self.streams: list[list[int]] = []
        self.count = 0

    async def _keep_alive(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        asked: list[int] = []
        self.streams.append(asked)
        async for request in requests:
            asked.append(request.ID)
            if dict(context.invocation_metadata()).get("token") in self.tokens:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "etcdserver: invalid auth token")
            if request.ID in self.denied:
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied")
            if request.ID in self.held:
                await self.held[request.ID].wait()
            self.count += 1
            header = rpc.ResponseHeader(revision=self.count)
            yield rpc.LeaseKeepAliveResponse(header=header, ID=request.ID, TTL=5)

    def service(self, handler_call_details: Any) -> Any:
        """Find what to do with a stream."""
        return grpc.stream_stream_rpc_method_handler(
            self._keep_alive, rpc.LeaseKeepAliveRequest.FromString, lambda reply: reply.SerializeToString()
        )


@pytest.fixture
async def member() -> AsyncIterator[Member]:
    """What the member does."""
    return Member()


@pytest.fixture(params=["http2", "grpc"])
async def renewing(member: Member, request: pytest.FixtureRequest) -> AsyncIterator[KeepAlives]:
    """Renewals at that member, over each transport."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((member,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = MemberChannel(Address(f"127.0.0.1:{port}"), transport=request.param)

    async def prepare(refused: str | None) -> str:
        return "fresh" if refused else "first"

    try:
        keep_alives = KeepAlives(channel, prepare)
        async with keep_alives.open():
            yield keep_alives
        assert not keep_alives._streams
    finally:
        await channel.aclose()
        await server.stop(None)
        # The server's events come from a thread of grpc's, and must find the loop.
        await reported()


class Answers(dict[int, LeaseResult | Fault]):
    """The answers that have come, by lease."""

    @property
    def faults(self) -> dict[int, FaultKind]:
        """Those that are refusals."""
        return {lease: answer.kind for lease, answer in self.items() if isinstance(answer, Fault)}


async def test_a_thousand_leases_share_few_streams(member: Member, renewing: KeepAlives) -> None:
    """However many ask, and at once, it is one stream, over grpc three without a login, and each answer is that of
    its lease."""

    async def anonymous(refused: str | None) -> str:
        return ""

    renewing._prepare = anonymous
    await renewing.renew(1)
    answers = Answers()
    async with anyio.create_task_group() as tasks:
        for first in range(1, 1001, 100):
            tasks.start_soon(renewing.renew_all, range(first, first + 100), answers.__setitem__)
    assert len(member.streams) == (3 if renewing._channel.transport == "grpc" else 1)
    assert {lease: getattr(answer, "lease", 0) for lease, answer in answers.items()} == {
        lease: lease for lease in range(1, 1001)
    }


async def test_few_share_one_stream(member: Member, renewing: KeepAlives) -> None:
    """What comes in fives takes no second stream: peers have room for few."""
    for first in range(1, 21, 5):
        await renewing.renew_all(range(first, first + 5), Answers().__setitem__)
    assert len(member.streams) == 1


@pytest.mark.parametrize("renewing", ["http2"], indirect=True)
async def test_a_burst_is_two_writes(renewing: KeepAlives, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty-four renewals at one moment are sent together over http2: a write of its own for each costs more than
    all else about it."""
    await renewing.renew(1)
    written: list[bytes] = []
    write = Sender.write

    def note(sender: Sender, data: bytes) -> None:
        written.append(data)
        write(sender, data)

    monkeypatch.setattr(Sender, "write", note)
    answers = Answers()
    await renewing.renew_all(range(1, 65), answers.__setitem__)
    assert set(answers) == set(range(1, 65))
    assert len([data for data in written if len(data) > 13]) == 2


async def test_nothing_to_renew(renewing: KeepAlives) -> None:
    """Renewing no leases is done at once."""
    with anyio.fail_after(1):
        await renewing.renew_all((), Answers().__setitem__)


async def test_who_gives_up_disturbs_nobody(member: Member, renewing: KeepAlives) -> None:
    """Others on the stream get their answers, and the late one is never the answer to a later question."""
    member.held[1] = asyncio.Event()
    answers = Answers()
    async with anyio.create_task_group() as tasks:
        with anyio.move_on_after(0.2) as late:
            async with anyio.create_task_group() as patient:
                patient.start_soon(renewing.renew, 1)
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(renewing.renew_all, (2, 3), answers.__setitem__)
        assert late.cancelled_caught
        held = member.held.pop(1)
        again = await renewing.renew(1)
        assert again.header.revision == member.count == 1
        assert not answers
        assert len(renewing._streams) == 2
        held.set()
    assert list(answers) == [2, 3]
    # The old stream ended with those who waited for it.
    await anyio.wait_all_tasks_blocked()
    assert len(renewing._streams) == 1
    assert member.streams == [[1, 2, 3], [1]]


async def test_what_was_given_up_before_it_was_sent_is_not_sent(member: Member, renewing: KeepAlives) -> None:
    """Of a batch that is cancelled at once nothing more goes out, and its leases can be renewed again."""
    await renewing.renew(1)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(renewing.renew_all, range(2, 500), Answers().__setitem__)
            await anyio.lowlevel.checkpoint()
            scope.cancel()
    await anyio.sleep(0.1)
    assert sum(map(len, member.streams)) < 50
    assert (await renewing.renew(499)).lease == 499
    assert len(member.streams) <= 3


@pytest.mark.parametrize("culprits", [{1}, {250}, {500}, {3, 77, 500}], ids=repr)
async def test_a_refused_lease_is_found(member: Member, renewing: KeepAlives, culprits: set[int]) -> None:
    """A refusal ends the stream for all, yet only the refused lease hears of it, and then goes alone."""
    member.denied = culprits
    half, rest = Answers(), Answers()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(renewing.renew_all, range(1, 251), half.__setitem__)
        tasks.start_soon(renewing.renew_all, range(251, 501), rest.__setitem__)
    answers = Answers(half | rest)
    assert set(answers) == set(range(1, 501))
    assert answers.faults == dict.fromkeys(culprits, FaultKind.PERMISSION)

    before = len(member.streams)
    await renewing.renew_all(range(1, 501), answers.__setitem__)
    assert answers.faults == dict.fromkeys(culprits, FaultKind.PERMISSION)
    assert len(member.streams) <= before + 1 + len(culprits)
    assert sum(len(set(asked) - culprits) > 100 for asked in member.streams[before - 1 :]) == 1

    member.denied = set()
    await renewing.renew_all(range(1, 501), answers.__setitem__)
    assert not answers.faults
    before = len(member.streams)
    await renewing.renew_all(range(1, 501), answers.__setitem__)
    assert len(member.streams) == before


async def test_a_refused_token_is_exchanged(member: Member, renewing: KeepAlives) -> None:
    """A token that is of no use any more costs no renewal."""
    await renewing.renew(1)
    member.tokens = {"first"}
    answers = Answers()
    await renewing.renew_all(range(1, 101), answers.__setitem__)
    assert len(answers) == 100
    assert not answers.faults
    member.tokens = {"first", "fresh"}
    with pytest.raises(StoreFault) as caught:
        await renewing.renew(1)
    assert caught.value.fault.kind is FaultKind.AUTH_TOKEN


async def test_leaving_ends_what_is_asked(member: Member, renewing: KeepAlives) -> None:
    """Closing fails what is under way, also what is asked alone, and leaves no task behind."""
    member.denied = {1}
    with pytest.raises(StoreFault):
        await renewing.renew(1)
    member.denied, member.held = set(), {1: asyncio.Event(), 2: asyncio.Event()}
    kinds = []

    async def note(lease: int) -> None:
        with pytest.raises(StoreFault) as caught:
            await renewing.renew(lease)
        kinds.append(caught.value.fault.kind)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(note, 1)
            tasks.start_soon(note, 2)
            await anyio.sleep(0.1)
            await renewing.aclose()
    assert kinds == [FaultKind.CONNECTION_LOST] * 2


async def test_streams_that_owe_answers_count(member: Member, renewing: KeepAlives) -> None:
    """While renewals are given up and begun again faster than they are answered, no more than eight streams are
    open; what waits for one of them goes on as soon as another has ended."""

    async def anonymous(refused: str | None) -> str:
        return ""

    renewing._prepare = anonymous
    member.held = {lease: asyncio.Event() for lease in range(1, 201)}
    answers = Answers()
    most = 0
    async with anyio.create_task_group() as tasks:
        for first in range(1, 181, 20):
            # Its other leases keep the streams busy over which the first twelve are asked again.
            tasks.start_soon(renewing.renew_all, range(first, first + 20), answers.__setitem__)
            with anyio.move_on_after(0.02):
                await renewing.renew_all(range(1, first + 12), Answers().__setitem__)
            most = max(most, len(renewing._streams))
        assert most == 8
        assert not answers
        for event in member.held.values():
            event.set()
    assert set(answers) == set(range(1, 181))
    await anyio.wait_all_tasks_blocked()
    assert len(renewing._streams) <= 3


async def test_a_stream_that_ends_with_unsent_questions(renewing: KeepAlives) -> None:
    """Ended before its questions were written, a stream ends both its tasks, and neither of them fails."""
    answers = Answers()
    ended: list[Fault] = []
    stream = KeepAliveStream(renewing._channel.lease, "", on_end=lambda _, fault, due: ended.append(fault))
    batch = Batch((1, 2, 3), answers.__setitem__)
    for lease in (1, 2, 3):
        stream.ask(lease, batch)
    await stream.aclose()
    assert stream._writer.cancelled() or stream._writer.exception() is None
    assert ended == [CLOSED]
    assert not answers
