"""The registrations of one coordinator: begun, shown, and ended before anything else is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

import anyio
import anyio.lowlevel

from tideover.client.client import Client
from tideover.client.parts import Part
from tideover.cluster.closing_budget import CLOSE_TIMEOUT
from tideover.registration.keeper import Keeper
from tideover.registration.parting import part
from tideover.registration.publisher import Publisher
from tideover.registration.registered import Registered, RegistrationBlock
from tideover.registration.registration import Registration
from tideover.sessions.pool import SessionPool
from tideover.status import RegistrationStatus

_LEFT = "it was given up by its owner"


class Registrations(Part):
    """Keeps what one coordinator has registered.

    Args:
        client: The way to etcd.
        pool: Where to open sessions.
        patience: Seconds that entering a block waits until etcd has it.
    """

    def __init__(self, client: Client, *, pool: SessionPool, patience: float) -> None:
        self._home = client.home
        self._lifecycle = client.lifecycle
        self._patience = patience
        state, clock, chance = client.state, client.clock, client.random
        self._publisher = partial(Publisher, base=client.base, cluster=state, clock=clock, chance=chance)
        self._keeper = Keeper(
            pool=pool,
            gateway=client.calls,
            cluster=state,
            clock=clock,
            chance=chance,
            home=client.home,
            ticker=client.ticker,
        )
        self._part = partial(part, keeper=self._keeper, gateway=client.calls, cluster=state)
        self.running: dict[Publisher, Registered] = {}
        self._ending: list[Publisher] = []
        self._parting = False
        self._tick = client.ticker.every(math.inf, self._end_those)

    def __repr__(self) -> str:
        """Count them by state."""
        counted = Counter(publisher.state.value for publisher in self.running)
        return f"<Registrations {', '.join(f'{n} {state}' for state, n in counted.items()) or 'none'}>"

    def block(self, registration: Registration) -> RegistrationBlock:
        """Return a block that is registered; see `Coordinator.register`."""
        return RegistrationBlock(registration, home=self._home, start=self.start, patience=self._patience)

    def start(self, registration: Registration) -> Registered:
        """Begin to register something; it is not in etcd yet when this returns.

        Args:
            registration: What it is.

        Returns:
            The handle.

        Raises:
            Closed: The coordinator is not open.
            WrongLoop: This is another event loop than the coordinator's.
        """
        self._home.check(self)
        self._lifecycle.check()
        publisher = self._publisher(registration)
        registered = Registered(
            publisher,
            home=self._home,
            change=partial(self._keeper.change, publisher),
            begin_deregistering=partial(self._begin_ending, publisher, _LEFT),
            deregister=partial(self._end, (publisher,), _LEFT),
            poison=lambda: self._lifecycle.forked,
        )
        self.running[publisher] = registered
        self._keeper.plan(publisher)
        return registered

    def handles(self) -> tuple[Registered, ...]:
        """Return the handles of all that is registered, in the order in which that began."""
        return tuple(self.running.values())

    def status(self) -> tuple[RegistrationStatus, ...]:
        """Return how each of them stands. No I/O."""
        return tuple(publisher.report() for publisher in list(self.running))

    def count(self) -> Mapping[tuple[str, str], int]:
        """Return how many there are, by service and state."""
        return Counter((publisher.endpoint.service, publisher.state.value) for publisher in list(self.running))

    # Life ------------------------------------------------------------------------------------------------------

    async def end_all(self, why: str) -> None:
        """Take all out of etcd; bounded in time. More may be registered later."""
        await self._end(list(self.running), why)

    async def close(self, why: str) -> None:
        """Take all out of etcd, of a coordinator that is closing; bounded in time."""
        await self.end_all(why)

    # The end ---------------------------------------------------------------------------------------------------

    async def _end(self, publishers: Sequence[Publisher], why: str) -> None:
        """Take some out of etcd; a second call waits for the first."""
        for publisher in publishers:
            self._begin_ending(publisher, why)
        self._end_those()
        with anyio.move_on_after(CLOSE_TIMEOUT * 2, shield=True):
            for publisher in publishers:
                while publisher in self.running:
                    await publisher.changed.wait()

    def _begin_ending(self, publisher: Publisher, why: str) -> None:
        """Give one up, from a callback of the event loop as well: those begin no tasks, and the ticker does."""
        if publisher.ended:
            return
        publisher.ended.give(why)
        publisher.settled.set()
        publisher.changed.fire()
        self._ending.append(publisher)
        self._tick.soon()

    def _end_those(self) -> None:
        """Begin to take out of etcd what was given up."""
        if not self._ending or self._parting:
            return
        self._parting = self._home.start("deregistration", self._end_together)
        if not self._parting:
            # Everything was ended before.
            for publisher in self._ending:
                self.running.pop(publisher, None)
            self._ending.clear()

    async def _end_together(self) -> None:
        """Take all out of etcd that were given up in the same moment."""
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
            together, self._ending, self._parting = self._ending, [], False
            try:
                with anyio.move_on_after(CLOSE_TIMEOUT * 2):
                    await self._part(together)
            finally:
                for publisher in together:
                    self.running.pop(publisher, None)
                    publisher.changed.fire()
