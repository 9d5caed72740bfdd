"""The registrations of one coordinator, which end before its sessions do."""

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
    """Starts, lists and ends registrations."""

    def __init__(self, client: Client, *, pool: SessionPool, patience: float) -> None:
        self._home = client.home
        self._lifecycle = client.lifecycle
        self._patience = patience
        self._client = client
        self._keeper = Keeper(client, pool)
        self._running: dict[Publisher, Registered] = {}
        self._process_name = client.process_name
        self._ending: list[Publisher] = []
        self._parting = False
        self._tick = client.ticker.every(math.inf, self._end_those)

    def __repr__(self) -> str:
        """Count the registrations by state."""
        counted = Counter(publisher.state.value for publisher in self._running)
        return f"<Registrations {', '.join(f'{n} {state}' for state, n in counted.items()) or 'none'}>"

    def block(self, registration: Registration) -> RegistrationBlock:
        """Return the block of a registration; see `Coordinator.register`."""
        return RegistrationBlock(registration, home=self._home, start=self.start, patience=self._patience)

    def start(self, registration: Registration) -> Registered:
        """Start a registration; its key is not in etcd yet when this returns."""
        self._home.check(self)
        self._lifecycle.check()
        publisher = Publisher(registration, self._client)
        registered = Registered(
            publisher,
            home=self._home,
            change=partial(self._keeper.change, publisher),
            begin_deregistering=partial(self._begin_ending, publisher, _LEFT),
            deregister=partial(self._end, (publisher,), _LEFT),
            poison=lambda: self._lifecycle.forked,
        )
        self._running[publisher] = registered
        self._name_process()
        self._keeper.plan(publisher)
        return registered

    def _name_process(self) -> None:
        first = next(iter(self._running), None)
        self._process_name.registered = "" if first is None else first.endpoint.url

    def handles(self) -> tuple[Registered, ...]:
        """Return the handles of all registrations, oldest first."""
        return tuple(self._running.values())

    def status(self) -> tuple[RegistrationStatus, ...]:
        """Return the status of each registration. No I/O."""
        return tuple(publisher.status() for publisher in list(self._running))

    def count(self) -> Mapping[tuple[str, str], int]:
        """Count the registrations by service and state."""
        return Counter((publisher.endpoint.service, publisher.state.value) for publisher in list(self._running))

    async def end_all(self, why: str) -> None:
        """End all registrations; bounded in time. Others may start later."""
        await self._end(list(self._running), why)

    async def close(self, why: str) -> None:
        """Take all out of etcd, of a coordinator that is closing; bounded in time."""
        await self.end_all(why)

    async def _end(self, publishers: Sequence[Publisher], why: str) -> None:
        """End registrations; a second call waits for the first."""
        for publisher in publishers:
            self._begin_ending(publisher, why)
        self._end_those()
        with anyio.move_on_after(CLOSE_TIMEOUT * 2, shield=True):
            for publisher in publishers:
                while publisher in self._running:
                    await publisher.changed.wait()

    def _begin_ending(self, publisher: Publisher, why: str) -> None:
        """Mark a registration as ended. Callbacks of the event loop start no tasks, so the ticker does."""
        if publisher.ended:
            return
        publisher.ended.give(why)
        publisher.settled.set()
        publisher.changed.fire()
        self._ending.append(publisher)
        self._tick.soon()

    def _end_those(self) -> None:
        """Start the task that deletes the ended registrations."""
        if not self._ending or self._parting:
            return
        self._parting = self._home.start("deregistration", self._end_together)
        if not self._parting:
            # The coordinator has ended its tasks before.
            for publisher in self._ending:
                self._running.pop(publisher, None)
                self._name_process()
            self._ending.clear()

    async def _end_together(self) -> None:
        """Delete all registrations that ended at the same moment."""
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
            together, self._ending, self._parting = self._ending, [], False
            try:
                with anyio.move_on_after(CLOSE_TIMEOUT * 2):
                    await part(together, self._keeper, self._client)
            finally:
                for publisher in together:
                    self._running.pop(publisher, None)
                    self._name_process()
                    publisher.changed.fire()
