"""The port: what tideover needs of etcd, as one protocol.

What can be asked is in `operations`. Every call names the member it goes to, and every answer says who gave it.
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
        key: The key.
        entry: Its new entry; None if it was deleted.
        revision: The revision of the change.
    """

    key: bytes
    entry: Entry | None
    revision: int


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """One frame of a watch.

    Attributes:
        header: Who sent it.
        events: What changed, in order; a revision is never split over two batches. Empty for a progress reply.
    """

    header: Header
    events: tuple[Event, ...] = ()


class Compacted(StoreFault):
    """Raised when a watch asks for history that has been compacted away.

    Attributes:
        revision: The oldest revision still there.
    """

    def __init__(self, revision: int) -> None:
        super().__init__(classify("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted"))
        self.revision = revision


class Watch(Protocol):
    """An open watch; it ends with the context manager that gave it."""

    @property
    def opened_at(self) -> int:
        """The member's revision when the watch was opened; one that was to begin then begins behind it."""
        ...

    async def receive(self) -> WatchBatch:
        """Return the next frame.

        Raises:
            Compacted: The history asked for is gone, or did not come whole: only a full read helps.
            StoreFault: The watch has ended. If its reader was slower than etcd, with `FaultKind.OVERFLOW`, after
                all that had arrived by then.
        """
        ...

    async def request_progress(self) -> None:
        """Ask for a frame that says up to which revision the watch has come.

        Raises:
            StoreFault: The watch has ended.
        """
        ...


class WatchGroup(Protocol):
    """Watches at one member that have one reader; they end with the context manager that gave them.

    For thousands: one of them costs no task, and opening it waits for nothing.
    """

    def add(self, tag: Any, key: bytes, end: bytes | None, *, start_revision: int) -> None:
        """Open one more watch of [key, end); how that went is a frame of its own.

        Args:
            tag: What its frames come with; of no other watch of the group.
            key: The first key.
            end: The end of the range, exclusive; None for the one key.
            start_revision: The first revision of interest; 0 begins with the one after the first frame's.

        Raises:
            StoreFault: All of them have ended.
        """
        ...

    def drop(self, tag: Any) -> None:
        """Close a watch; one that is not there is left alone. A frame of it may still come."""
        ...

    def request_progress(self) -> None:
        """Ask for a sign of life: a frame that says up to which revision the watches that are open have come.

        Raises:
            StoreFault: All of them have ended.
        """
        ...

    async def receive(self) -> Sequence[tuple[Any, WatchBatch | StoreFault]]:
        """Return what has come: frames, those of one watch in order, each with its tag.

        The first frame of a watch has no events: it is open. A fault is why it has ended alone, `Compacted` among
        them, and is its last. A frame with the tag None answers `request_progress`.

        Raises:
            StoreFault: All of them have ended; after all that had arrived.
        """
        ...


# Told the answer to the renewal of a lease: the member's word, which is no proof (a TTL of 0 means that the lease
# is gone), or why this lease alone is refused. Called while others are answered: it must not raise.
TakeRenewal = Callable[[int, LeaseResult | Fault], None]


class KeepAlive(Protocol):
    """What renews leases at one member, until the context manager that gave it ends; all users share a stream."""

    async def renew_all(self, leases: Sequence[int], take: TakeRenewal) -> None:
        """Renew leases, many of them under way at once, and return when all are answered.

        Several calls may be under way. One that is cancelled disturbs no other: the answers it has not waited for
        are dropped when they come, and never taken for answers to later renewals of their leases.

        Args:
            leases: Their ids.
            take: Told each answer as it comes.

        Raises:
            StoreFault: The stream has ended; what was not answered by then is unknown. A later call opens another.
        """
        ...

    async def renew(self, lease: int) -> LeaseResult:
        """Renew one lease.

        Args:
            lease: Its id.

        Returns:
            The member's word, which is no proof. A TTL of 0 means that the lease is gone.

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
    """etcd, as far as tideover uses it."""

    @property
    def members(self) -> Sequence[str]:
        """The members' names: their endpoints, in the order given and then added."""
        ...

    async def add(self, address: Address, *, expected: tuple[int, int] | None = None, timeout: float) -> Header:
        """Connect to one more member, if it answers.

        What answers there is asked who it is without a token. Later calls send one; to a member that is `expected`
        they do so only over a connection over which it has shown these ids again.

        Args:
            address: Where it is; its endpoint becomes its name.
            expected: The ids of its cluster and its own; None takes any member.
            timeout: Seconds until giving up.

        Returns:
            Who answered.

        Raises:
            StoreFault: Nobody did, or (`FaultKind.FOREIGN`) another than expected; nothing has changed.
        """
        ...

    def remove(self, member: str) -> None:
        """Give up a member: calls in flight end within 2 s, and later ones are refused as unreachable.

        Args:
            member: Whose connection; one that is not there is left alone.
        """
        ...

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        """Make one attempt at one member.

        Args:
            op: What to do.
            member: Whom to ask.
            timeout: Seconds until giving up.

        Returns:
            The member's answer.

        Raises:
            StoreFault: The attempt failed.
        """
        ...

    def watch(
        self, key: bytes, end: bytes | None, *, start_revision: int, member: str, timeout: float
    ) -> AbstractAsyncContextManager[Watch]:
        """Open a watch of [key, end) that ends by itself when the member has no leader.

        Args:
            key: The first key.
            end: The end of the range, exclusive; None for the one key.
            start_revision: The first revision of interest; 0 begins with the one after `Watch.opened_at`.
            member: Whom to ask.
            timeout: Seconds within which the watch must be open.

        Returns:
            A context manager; entering raises `StoreFault` if the watch cannot be opened.
        """
        ...

    def watch_group(self, *, member: str, timeout: float) -> AbstractAsyncContextManager[WatchGroup]:
        """Begin a group of watches that ends by itself when the member has no leader.

        Args:
            member: Whom to ask.
            timeout: Seconds for what it takes before the first watch can be asked for, such as logging in.

        Returns:
            A context manager; entering raises `StoreFault` if that failed.
        """
        ...

    def keep_alive(self, *, member: str) -> AbstractAsyncContextManager[KeepAlive]:
        """Renew leases at a member, over a stream that ends by itself when the member has no leader.

        Args:
            member: Whom to ask.

        Returns:
            A context manager; entering opens no stream yet.
        """
        ...

    def is_proxy(self, member: str) -> bool | None:
        """Whether a member is really an `etcd grpc-proxy`; None as long as no watch has shown it.

        A proxy answers no progress requests. It would answer serializable reads from its cache, as of any time:
        a store asks it for linearizable ones instead, so that without a quorum it answers nothing.

        Args:
            member: Which.
        """
        ...

    async def require_member(self, member: str, *, timeout: float) -> None:
        """Refuse an `etcd grpc-proxy`: for what cannot be trusted through one, such as leases.

        Args:
            member: Whom to examine.
            timeout: Seconds until giving up.

        Raises:
            StoreFault: It is a proxy (`FaultKind.PROXY`), or did not answer.
        """
        ...

    def way(self, member: str) -> str:
        """Return what lies on the way to a member, in words; empty if nothing is known to.

        Args:
            member: Whose way.
        """
        ...

    async def wait_disconnected(self, member: str) -> None:
        """Return when an established connection to the member breaks.

        Args:
            member: Whom to observe.
        """
        ...

    def renew(self, member: str) -> None:
        """Give up the connection to a member, so that the next call makes a new one at once.

        Args:
            member: Whose connection.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...
