"""How sessions begin: those that open at the same moment share what they can, and no trouble."""

from __future__ import annotations

import anyio
import pytest
import trio

from tests.support import connected
from tideover import PermissionDenied
from tideover.sessions.session import Session
from tideover.store.leases import LeaseGrant
from tideover.store.operations import Op, Put, Result
from tideover.store.transactions import Txn
from tideover.testing import FaultyStore, MemoryStore

pytestmark = pytest.mark.anyio
COUNT = 100


async def opened(tide: object, count: int) -> list[Session]:
    """Open sessions at one moment."""
    sessions: list[Session] = []

    async def one() -> None:
        sessions.append(await tide._parts.sessions.open(15))  # type: ignore[attr-defined]

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(one)
    return sessions


def makes_anchors(op: Op[Result], least: int = 1) -> bool:
    """Match the transactions that make so many anchors or more."""
    return isinstance(op, Txn) and sum(isinstance(step, Put) and step.lease != 0 for step in op.then) >= least


async def test_anchors_of_one_moment_share_a_transaction() -> None:
    """A hundred sessions opened at once take a grant each, and two transactions; each knows its own key."""
    store = MemoryStore()
    async with connected(store, follow=()) as tide:
        store.calls.clear()
        sessions = await opened(tide, COUNT)
        assert sum(isinstance(op, LeaseGrant) for _, op in store.calls) == COUNT
        assert sum(makes_anchors(op) for _, op in store.calls) == 2
        await anyio.sleep(12)
        for session in sessions:
            session.check()


async def test_one_alone_is_opened_without_a_wait() -> None:
    """A session that opens alone waits for no others: no time passes but that of its calls."""
    store = MemoryStore()
    async with connected(store, follow=()) as tide:
        before = trio.current_time()
        session = await tide._parts.sessions.open(15)
        assert trio.current_time() == before
        assert session.tenure.anchor.create_revision == store.revision


@pytest.mark.parametrize(
    ("code", "message", "applied"),
    [
        ("PERMISSION_DENIED", "etcdserver: permission denied", False),
        ("NOT_FOUND", "etcdserver: requested lease not found", False),
        ("INVALID_ARGUMENT", "etcdserver: too many operations in txn request", False),
        ("UNAVAILABLE", "etcdserver: request timed out", False),
        ("UNAVAILABLE", "etcdserver: request timed out", True),
    ],
)
async def test_what_is_refused_together_is_asked_for_each(code: str, message: str, applied: bool) -> None:
    """Whatever comes of the transaction in common, all sessions open: each writes its own key, or finds it."""
    store = FaultyStore(memory := MemoryStore())
    async with connected(store, follow=()) as tide:
        store.inject(code, message, times=999, applied=applied, when=lambda op: makes_anchors(op, least=2))
        sessions = await opened(tide, 20)
        assert len(sessions) == 20
        assert len({session.lease_id for session in sessions}) == 20
        await anyio.sleep(12)
        for session in sessions:
            session.check()
        assert memory.leases == {session.lease_id for session in sessions}


async def test_one_that_is_refused_refuses_no_other() -> None:
    """A session whose own key may not be written hears so; those that open with it do not."""
    store = FaultyStore(MemoryStore())
    async with connected(store, follow=()) as tide:
        first = tide._parts.sessions._ids.draw() + 3 if tide._parts.sessions._ids else 0
        denied = f"/tideover/sessions/{first:x}".encode()

        def of_the_third(op: Op[Result]) -> bool:
            return isinstance(op, Txn) and any(isinstance(step, Put) and step.key == denied for step in op.then)

        store.inject("PERMISSION_DENIED", "etcdserver: permission denied", times=999, when=of_the_third)
        refused, sessions = [], []

        async def one() -> None:
            try:
                sessions.append(await tide._parts.sessions.open(15))
            except PermissionDenied as exc:
                refused.append(exc)

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(one)
        assert (len(refused), len(sessions)) == (1, 9)


async def test_one_that_is_given_up_leaves_the_others_to_themselves() -> None:
    """The session that asks for all is cancelled while etcd does not answer: the others open all the same."""
    store = FaultyStore(memory := MemoryStore())
    async with connected(store, follow=()) as tide:
        sessions: list[Session] = []
        scopes = [anyio.CancelScope() for _ in range(10)]

        async def one(scope: anyio.CancelScope) -> None:
            with scope:
                sessions.append(await tide._parts.sessions.open(15))

        store.inject("", when=lambda op: makes_anchors(op, least=2))
        async with anyio.create_task_group() as tasks:
            for scope in scopes:
                tasks.start_soon(one, scope)
            await anyio.sleep(0.1)
            for scope in scopes[::2]:
                scope.cancel()
        assert len(sessions) >= 5
        await anyio.sleep(3)
        assert memory.leases == {session.lease_id for session in sessions}
