"""The port: what tideover needs of etcd, as one protocol.

The requests are in `operations`. Every call names a member, and every answer has that member's header.
`EtcdStore`, `MemoryStore` and `FaultyStore` stand behind this port and pass one contract suite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from tideover.store.endpoints import Address
from tideover.store.faults import Fault, StoreFault, classify
from tideover.store.operations import LeaseResult, Op, R
from tideover.types import Entry, Header


@dataclass(frozen=True, slots=True)
class Event:
    """One key changed.

    Attributes:
        entry: The new entry; None if the key was deleted.
    """

    key: bytes
    entry: Entry | None
    revision: int


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """One frame of a watch.

    Attributes:
        events: In order; a revision is never split over two batches. Empty for a progress reply.
    """

    header: Header
    events: tuple[Event, ...] = ()


class Compacted(StoreFault):
    """Raised when a watch asks for history that has been compacted; `revision` is the oldest that remains."""

    def __init__(self, revision: int) -> None:
        super().__init__(classify("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted"))
        self.revision = revision


class Watch(Protocol):
    """An open watch, until its context manager ends."""

    @property
    def opened_at(self) -> int:
        """The member's revision when the watch was opened; a watch from "now" begins after it."""
        ...

    async def receive(self) -> WatchBatch:
        """Return the next frame.

        Raises:
            Compacted: The history asked for is gone or incomplete: only a full read helps.
            StoreFault: The watch has ended, after the frames that had arrived: with `FaultKind.OVERFLOW` if its
                reader was too slow.
        """
        ...

    async def request_progress(self) -> None:
        """Ask for a frame with the revision that the watch has reached.

        Raises:
            StoreFault: The watch has ended.
        """
        ...


class WatchGroup(Protocol):
    """Watches at one member that have one reader, until their context manager ends.

    For thousands of watches: a watch needs no task, and opening one does not wait.
    """

    def add(self, tag: Any, key: bytes, end: bytes | None, *, start_revision: int) -> None:
        """Open one more watch of [key, end); the result is a frame of its own.

        Args:
            tag: Marks the watch's frames; unique in the group.
            end: The end of the range, exclusive; None for the one key.
            start_revision: The first revision to report; 0 for the one after the first frame's.

        Raises:
            StoreFault: All watches have ended.
        """
        ...

    def drop(self, tag: Any) -> None:
        """Close a watch, if it is open. A frame of it may still come."""
        ...

    def request_progress(self) -> None:
        """Ask for a sign of life: a frame with the revision that the open watches have reached.

        Raises:
            StoreFault: All watches have ended.
        """
        ...

    async def receive(self) -> Sequence[tuple[Any, WatchBatch | StoreFault]]:
        """Return the frames that have arrived, each with its tag; those of one watch are in order.

        A watch's first frame has no events and says that the watch is open. A fault, such as `Compacted`, is the
        last frame of its watch. A frame with the tag None answers `request_progress`.

        Raises:
            StoreFault: All watches have ended; raised after the frames that had arrived.
        """
        ...


# Receives the answer to a lease's renewal: the member's word, which is no proof (a TTL of 0 means that the lease
# is gone), or why this lease alone is refused. Must not raise: the answers to other leases follow.
TakeRenewal = Callable[[int, LeaseResult | Fault], None]


class KeepAlive(Protocol):
    """Renews leases at one member, until its context manager ends; all users share a stream."""

    async def renew_all(self, leases: Sequence[int], take: TakeRenewal) -> None:
        """Renew leases concurrently, and return when all are answered.

        Several calls may run at once. A cancelled call disturbs no other: answers still due are dropped when they
        come, and never taken for answers to later renewals of their leases.

        Raises:
            StoreFault: The stream has ended; unanswered renewals are unknown. A later call opens another stream.
        """
        ...

    async def renew(self, lease: int) -> LeaseResult:
        """Renew one lease.

        Returns:
            The member's word, which is no proof; a TTL of 0 means that the lease is gone.

        Raises:
            StoreFault: The stream has ended, or the lease is refused.
        """
        answers: list[LeaseResult | Fault] = []
        await self.renew_all((lease,), lambda _, answer: answers.append(answer))
        (answer,) = answers
        if isinstance(answer, Fault):
            raise StoreFault(answer)
        return answer


class Store(Protocol):
    """What tideover uses of etcd. Timeouts are in seconds."""

    @property
    def members(self) -> Sequence[str]:
        """The members' names: their endpoints, in the order given and then added."""
        ...

    async def add(self, address: Address, *, expected: tuple[int, int] | None = None, timeout: float) -> Header:
        """Connect to one more member, if it answers, and return its header.

        The first question, for the member's ids, carries no token. Later calls carry one; to an `expected` member
        only over a connection over which the member has shown these ids again.

        Args:
            expected: The cluster's and the member's id; None accepts any member.

        Raises:
            StoreFault: No answer, or (`FaultKind.FOREIGN`) another member's; nothing has changed.
        """
        ...

    def remove(self, member: str) -> None:
        """Close a member's connections: calls in flight end within 2 s, later ones are refused as unreachable."""
        ...

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        """Make one attempt at one member, and return the member's answer.

        Raises:
            StoreFault: The attempt failed.
        """
        ...

    def watch(
        self, key: bytes, end: bytes | None, *, start_revision: int, member: str, timeout: float
    ) -> AbstractAsyncContextManager[Watch]:
        """Open a watch of [key, end), which ends by itself when the member has no leader.

        Args:
            end: The end of the range, exclusive; None for the one key.
            start_revision: The first revision to report; 0 for the one after `Watch.opened_at`.

        Returns:
            A context manager; entering raises `StoreFault` if the watch cannot be opened.
        """
        ...

    def watch_group(self, *, member: str, timeout: float) -> AbstractAsyncContextManager[WatchGroup]:
        """Begin a group of watches, which ends by itself when the member has no leader.

        Args:
            timeout: Seconds for the preparations, such as logging in; not for the watches.

        Returns:
            A context manager; entering raises `StoreFault` if a preparation failed.
        """
        ...

    def keep_alive(self, *, member: str) -> AbstractAsyncContextManager[KeepAlive]:
        """Return a context manager whose value renews leases at a member; the first renewal opens the stream."""
        ...

    def is_proxy(self, member: str) -> bool | None:
        """Whether a member is an `etcd grpc-proxy`; None until a watch has shown which.

        A proxy answers no progress requests. It would answer serializable reads from its cache, however old:
        a store sends it linearizable reads instead, so that without a quorum it answers nothing.
        """
        ...

    async def require_member(self, member: str, *, timeout: float) -> None:
        """Refuse an `etcd grpc-proxy`, through which leases, among others, cannot be trusted.

        Raises:
            StoreFault: The member is a proxy (`FaultKind.PROXY`), or did not answer.
        """
        ...

    def way(self, member: str) -> str:
        """Return what lies on the way to a member, such as a proxy, in words; else an empty text."""
        ...

    async def wait_disconnected(self, member: str) -> None:
        """Return when an established connection to the member breaks."""
        ...

    def renew(self, member: str) -> None:
        """Replace the connection to a member, so that the next call connects at once."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...
