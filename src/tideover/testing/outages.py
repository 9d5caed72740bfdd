"""`declare_outage`: an outage that is declared at once, and its end."""

from __future__ import annotations

import time

import anyio

from tideover.coordinator.coordinator import Coordinator, life_of
from tideover.testing.faulty import FaultyStore
from tideover.testing.memory import MemoryStore
from tideover.types import Phase

# Seconds within which a coordinator finds its cluster again; it takes some tenths of one.
_RECOVERY = 10.0
_POLL = 0.002


def declare_outage(tide: Coordinator) -> Outage:
    """Cut a coordinator off from its `MemoryStore`; the outage is declared at once, not after three seconds.

    When this returns the state is `UNAVAILABLE`: values come from memory, locks are refused or local, requirements
    are not met. The outage lasts until `end()`, or to the end of a block:

        with declare_outage(tide):
            assert client.post("/orders/7").status_code == 503

    It may be called in any thread, such as that of a test which drives the application by a test client. A test
    that runs in the coordinator's own event loop writes `async with`, which waits for the recovery at its end.

    Args:
        tide: The coordinator, connected with `store=MemoryStore()`, with or without a `FaultyStore` in front.

    Returns:
        The outage.

    Raises:
        TypeError: The coordinator's store is another one; a real etcd is killed: see `EtcdServer`.
        Closed: The coordinator is not open.
        TimeoutError: The coordinator's event loop is in another thread, and blocked.

    When degraded:
        Several outages of one coordinator end with the last one that ends.
    """
    store = life_of(tide).parts.store
    while isinstance(store, FaultyStore):
        store = store.store
    if not isinstance(store, MemoryStore):
        raise TypeError(
            f"declare_outage needs a coordinator on a MemoryStore; a real etcd is killed, not {tide!r}"
        )
    return Outage(tide, store)


class Outage:
    """An outage that a test has declared; made by `declare_outage`."""

    def __init__(self, tide: Coordinator, store: MemoryStore) -> None:
        self._tide = tide
        self._store = store
        self._ended = False
        life_of(tide).declare_outage(lambda: store.cut_off(self))

    def __repr__(self) -> str:
        return f"<Outage of {self._tide!r}{', over' if self._ended else ''}>"

    def end(self) -> None:
        """Let the cluster answer again. Again is a no-op.

        In another thread than the coordinator's this returns when the recovery is over: everything is live. In its
        own thread it cannot wait: `await recovered()`.

        Raises:
            TimeoutError: The recovery has taken more than 10 s.
        """
        self._begin_recovery()
        tide = self._tide
        if life_of(tide).parts.client.home.loop.is_in_this_thread:
            return
        deadline = time.monotonic() + _RECOVERY
        while not self._over:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{tide!r} has not recovered within {_RECOVERY:.0f} s")
            time.sleep(_POLL)

    async def recovered(self) -> None:
        """End the outage, and wait until everything is live again.

        Raises:
            TimeoutError: The recovery has taken more than 10 s.
            WrongLoop: This is another event loop than the coordinator's.
        """
        self._begin_recovery()
        if not self._over:
            with anyio.fail_after(_RECOVERY):
                await life_of(self._tide).until_live()

    def _begin_recovery(self) -> None:
        if not self._ended:
            self._ended = True
            life_of(self._tide).end_outage(lambda: self._store.reconnect(self))

    @property
    def _over(self) -> bool:
        """Whether there is nothing to wait for."""
        life = life_of(self._tide)
        return life.live or self._tide.phase is Phase.CLOSED or self._store.is_cut_off

    def __enter__(self) -> Outage:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    async def __aenter__(self) -> Outage:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.recovered()
