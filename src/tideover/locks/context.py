"""What the locks of one coordinator share: made before all of them, and handed down."""

from __future__ import annotations

from tideover.client.client import Client
from tideover.client.lifecycle import Lifecycle
from tideover.errors import CircuitOpen
from tideover.locks.etcd_queue import EtcdQueue, queue_head
from tideover.locks.host_queue import Hosts
from tideover.locks.journal import LockJournal
from tideover.sessions.key import anchors
from tideover.sessions.pool import SessionPool
from tideover.store.operations import Lane


class LockContext:
    """What cohorts, contenders and grants work with.

    Attributes:
        gateway: The way to etcd through the breaker.
        direct: The way past the breaker.
        random: Draws a number uniformly from [0, 1).
        epoch: Returns the epoch that tokens belong to.
        process_name: Returns the name of this process, for people.
        record_names: Whether spans may name locks.
        lifecycle: Whether locks are given; it ends later than the coordinator's, for bodies that closing ends.
        is_closed: Whether there is nothing to give back any more, because the sessions end.
    """

    def __init__(
        self, client: Client, *, pool: SessionPool, hosts: Hosts, journal: LockJournal, record_names: bool
    ) -> None:
        # Copied, since each is read on the way of every lock.
        self.home = client.home
        self.gateway = client.calls
        self.direct = client.direct
        self.cluster = client.state
        self.clock = client.clock
        self.random = client.random
        self.epoch = client.epoch
        self.process_name = client.process_name
        self.namespace = client.namespace
        self.pool = pool
        self.hosts = hosts
        self.journal = journal
        self.record_names = record_names
        self.lifecycle = Lifecycle()
        self.is_closed = False

    def refusal(self) -> CircuitOpen | None:
        """Return why calls are refused now; None if they are not.

        Raises:
            AuthenticationFailed: etcd refuses this client's credentials.
            Closed: The coordinator is closed.
        """
        self.lifecycle.check()
        if self.cluster.health.quorum.closed:
            return None
        try:
            self.gateway.admit(Lane.QUORUM)
        except CircuitOpen as exc:
            return exc
        return None

    async def recovery(self) -> None:
        """Wait until no outage is declared, or the coordinator is closed."""
        while self.cluster.outage_declared and self.lifecycle.is_open:
            await self.cluster.changed.wait()

    def queue(self, name: str) -> EtcdQueue:
        """Return the queue of a lock in etcd."""
        return EtcdQueue(
            queue_head(self.namespace, name),
            anchors=anchors(f"{self.namespace}/"),
            gateway=self.gateway,
            direct=self.direct,
            cluster=self.cluster,
            chance=self.random,
        )
