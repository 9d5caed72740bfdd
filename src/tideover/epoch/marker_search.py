"""Reads the marker at whichever member answers, and through a member that may be behind only once it is not."""

from __future__ import annotations

from collections.abc import Callable, Collection

import anyio

from tideover.broadcast import Broadcast
from tideover.cluster.state import ClusterState
from tideover.epoch.history import Doubt
from tideover.epoch.marker import READ_TIMEOUT, Look, catch_up, read_marker
from tideover.epoch.rules import Known
from tideover.store.faults import UNANSWERED, Fault, FaultKind, StoreFault
from tideover.store.operations import Lane, Status
from tideover.store.protocol import Store

# Seconds of silence after which one more member is asked.
_SILENCE = 0.1


class MarkerSearch:
    """Finds a member that tells what the marker is.

    Args:
        known: Returns what is known of the present history.
        foreign: The members that belong to another cluster, which are not asked.

    Attributes:
        doubt: Why etcd may be in another history, until that is settled.
        tried: The members that have not answered since one last did.
    """

    def __init__(
        self, key: bytes, cluster: ClusterState, *, known: Callable[[], Known], foreign: Collection[str]
    ) -> None:
        self.doubt: Doubt | None = None
        self.tried: set[str] = set()
        self._key = key
        self._cluster = cluster
        self._known = known
        self._foreign = foreign

    def drop_doubt(self) -> None:
        """Forget what an answer showed if no member shows it any more; if it is true the next answer will."""
        everybody = len(self.tried) >= len(self._cluster.members)
        if everybody and self.doubt is not None and self.doubt.header is not None:
            self.doubt = None

    async def read_anywhere(self, store: Store, doubt: Doubt | None) -> tuple[str, Look | Fault]:
        """Look at the marker at whichever member answers first; one more is asked whenever all are silent a while.

        Returns:
            The member, and its answer: the marker, or that this client may not read it.

        Raises:
            StoreFault: No member has answered.
        """
        answers: list[tuple[str, Look | Fault]] = []
        arrived, fault = Broadcast(), UNANSWERED
        asked: set[str] = set()

        async def ask(member: str) -> None:
            nonlocal fault
            try:
                answers.append((member, await self._read_caught_up(store, member, doubt)))
            except StoreFault as exc:
                if exc.fault.kind in (FaultKind.PERMISSION, FaultKind.INVALID):
                    answers.append((member, exc.fault))
                else:
                    fault = exc.fault
                    self.tried.add(member)
            arrived.fire()

        async with anyio.create_task_group() as tasks:
            while not answers and (member := self._next_member(asked)) is not None:
                asked.add(member)
                tasks.start_soon(ask, member)
                await arrived.wait(_SILENCE)
            while not answers and not asked <= self.tried:
                await arrived.wait(READ_TIMEOUT)
            tasks.cancel_scope.cancel()
        if not answers:
            raise StoreFault(fault)
        return answers[0]

    async def _read_caught_up(self, store: Store, member: str, doubt: Doubt | None) -> Look:
        """Read the marker, and again once the member has caught up if it says a term that may have passed."""
        if doubt is None or not doubt.term_only:
            look = await self.read(store, member)
            header, marker = look.header, look.marker
            same = header.cluster_id == self._known().cluster_id or not self._known().cluster_id
            behind = not self._known().caught_up(header) or (marker is not None and marker.is_ahead_of(header))
            if not (same and behind and header.revision >= self._known().revision):
                return look
        await catch_up(store, member)
        return await self.read(store, member)

    async def read(self, store: Store, member: str) -> Look:
        """Read the marker at one member."""
        return await read_marker(store, self._key, member, self._cluster.limit(member, READ_TIMEOUT))

    async def has_passed(self, store: Store, member: str) -> bool:
        """Whether the lower term of a member was one that has passed: asked without a permission to read a key."""
        await catch_up(store, member)
        now = await store.call(Status(), member=member, timeout=READ_TIMEOUT)
        return self._known().caught_up(now.header)

    def _next_member(self, asked: Collection[str]) -> str | None:
        """Return the next member to ask, besides those in `asked`; None if no other can be asked now."""
        doubt = self.doubt
        if not asked and len(self.tried) >= len(self._cluster.members):
            self.tried.clear()
        if doubt is not None and doubt.header is not None:
            # Another cluster may have taken over: the member that showed it, else any, but one at a time.
            told = doubt.member
            chosen = told if told and told not in self.tried else self._cluster.pick(Lane.QUORUM, self.tried)
            return None if asked else chosen
        avoid = self.tried.union(self._foreign, asked)
        chosen = self._cluster.pick(Lane.QUORUM, avoid)
        return None if asked and chosen in avoid else chosen
