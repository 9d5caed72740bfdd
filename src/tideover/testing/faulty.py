"""`FaultyStore`: any store, with faults injected into chosen calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio

from tideover.store.faults import UNANSWERED, FaultKind, StoreFault, classify
from tideover.store.forwarding import ForwardingStore
from tideover.store.leases import LeaseKeepAlive
from tideover.store.operations import Op, Result
from tideover.store.protocol import KeepAlive, Store, TakeRenewal

R = TypeVar("R", bound=Result)


@dataclass(slots=True)
class Injection:
    """A fault waiting for its call; an empty code lets the call hang until its timeout."""

    matches: Callable[[str, Op[Result]], bool]
    times: int
    code: str
    message: str
    applied: bool


class FaultyStore(ForwardingStore):
    """A store whose calls fail as injected; all others pass through.

    Args:
        store: The store behind it.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._injections: list[Injection] = []

    def __repr__(self) -> str:
        return f"<FaultyStore {self._store!r}, {len(self._injections)} faults waiting>"

    @property
    def store(self) -> Store:
        """The store behind it."""
        return self._store

    def inject(
        self,
        code: str,
        message: str = "",
        *,
        times: int = 1,
        member: str | None = None,
        op: type[Op[Any]] | tuple[type[Op[Any]], ...] | None = None,
        when: Callable[[Op[Result]], bool] | None = None,
        applied: bool = False,
    ) -> None:
        """Let coming calls fail.

        Args:
            code: The gRPC status, such as `"UNAVAILABLE"`; `""` lets the call hang until its timeout.
            message: The status's details; they decide what the fault means.
            times: How many calls.
            member: Only calls to this member.
            op: Only operations of this type.
            when: Only operations for which this is true.
            applied: Let the call through first and lose the reply.
        """

        def matches(to: str, called: Op[Result]) -> bool:
            here = (member is None or to == member) and (op is None or isinstance(called, op))
            return here and (when is None or when(called))

        self._injections.append(Injection(matches, times, code, message, applied))

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        """Make one attempt at one member, or fail as injected; see `Store.call`."""
        injection = self._matching(op, member)
        if injection is None:
            return await self._store.call(op, member=member, timeout=timeout)
        if injection.applied:
            await self._store.call(op, member=member, timeout=timeout)
        else:
            await anyio.lowlevel.checkpoint()
        raise await _fail(injection, timeout)

    def _matching(self, op: Op[R], member: str) -> Injection | None:
        """Return the fault for a call, if there is one, and count it."""
        injection = next((i for i in self._injections if i.matches(member, op)), None)  # type: ignore[arg-type]
        if injection is not None:
            injection.times -= 1
            if not injection.times:
                self._injections.remove(injection)
        return injection

    @asynccontextmanager
    async def keep_alive(self, *, member: str) -> AsyncIterator[KeepAlive]:
        """Renew leases of the store behind it; faults strike `LeaseKeepAlive`, one lease each."""
        async with self._store.keep_alive(member=member) as stream:
            yield FaultyKeepAlive(self, stream, member)


class FaultyKeepAlive(KeepAlive):
    """Renews leases of a `FaultyStore`."""

    def __init__(self, store: FaultyStore, stream: KeepAlive, member: str) -> None:
        self._store = store
        self._stream = stream
        self._member = member

    async def renew_all(self, leases: Sequence[int], take: TakeRenewal) -> None:
        """Renew leases, or fail as injected; see `KeepAlive.renew_all`.

        A refused lease or a lost answer affects that lease alone; any other fault ends the stream: earlier leases
        are answered, and later ones are not.
        """
        answered: list[int] = []
        lost = False
        for lease in leases:
            injection = self._store._matching(LeaseKeepAlive(lease), self._member)
            if injection is None:
                answered.append(lease)
                continue
            if injection.applied:
                await self._stream.renew(lease)
            fault = classify(injection.code, injection.message)
            if not injection.code:
                lost = True
            elif fault.kind is FaultKind.PERMISSION:
                take(lease, fault)
            else:
                await self._stream.renew_all(answered, take)
                raise StoreFault(fault)
        await self._stream.renew_all(answered, take)
        if lost:
            await anyio.sleep_forever()


async def _fail(injection: Injection, timeout: float) -> StoreFault:
    """Return a call's fault at the time the call ends."""
    if not injection.code:
        await anyio.sleep(timeout)
        return StoreFault(UNANSWERED)
    return StoreFault(classify(injection.code, injection.message))
