"""What the locks of one coordinator share: made before all of them, and handed down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tideover.client.direct import DirectCalls
from tideover.client.gateway import Gateway
from tideover.clock import Clock
from tideover.cluster.state import ClusterState
from tideover.errors import CircuitOpen, Closed
from tideover.home import Home
from tideover.locks.etcd_queue import EtcdQueue, queue_head
from tideover.locks.host_queue import Hosts
from tideover.locks.journal import LockJournal
from tideover.sessions.key import anchors
from tideover.sessions.pool import SessionPool
from tideover.store.operations import Lane


@dataclass(slots=True, eq=False)
class LockContext:
    """What cohorts, contenders and grants work with.

    Attributes:
        gateway: The way to etcd through the breaker.
        direct: The way past the breaker; None before the coordinator is entered.
        random: Draws a number uniformly from [0, 1).
        epoch: Returns the epoch that tokens belong to.
        process_name: Returns the name of this process, for people.
        record_names: Whether spans may name locks.
        refused: Why no lock is given; None while the coordinator is open.
        is_closed: Whether there is nothing to give back any more, because the sessions end.
    """

    namespace: str
    home: Home
    gateway: Gateway
    cluster: ClusterState
    pool: SessionPool
    hosts: Hosts
    journal: LockJournal
    clock: Clock
    random: Callable[[], float]
    epoch: Callable[[], int]
    process_name: Callable[[], str]
    record_names: bool
    direct: DirectCalls | None = None
    refused: str | None = "the coordinator has not been entered"
    is_closed: bool = False

    def refusal(self) -> CircuitOpen | None:
        """Return why calls are refused now; None if they are not.

        Raises:
            AuthenticationFailed: etcd refuses this client's credentials.
            Closed: The coordinator is closed.
        """
        if self.refused is not None:
            raise Closed(self.refused)
        if self.cluster.health.quorum.closed:
            return None
        try:
            self.gateway.admit(Lane.QUORUM)
        except CircuitOpen as exc:
            return exc
        return None

    async def recovery(self) -> None:
        """Wait until no outage is declared, or the coordinator is closed."""
        while self.cluster.outage_declared and self.refused is None:
            await self.cluster.changed.wait()

    def queue(self, name: str) -> EtcdQueue:
        """Return the queue of a lock in etcd.

        Raises:
            Closed: The coordinator has not been entered.
        """
        if self.direct is None:
            raise Closed(self.refused or "the coordinator has not been entered")
        return EtcdQueue(
            queue_head(self.namespace, name),
            anchors=anchors(f"{self.namespace}/"),
            gateway=self.gateway,
            direct=self.direct,
            cluster=self.cluster,
            chance=self.random,
        )
