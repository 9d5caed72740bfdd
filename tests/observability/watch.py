"""What a Prometheus says of the alerts, looked at again and again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from tests.observability.prometheus import Prometheus

# Seconds between two looks; and in which something must happen, however busy the machine is.
_LOOK = 0.3
_PATIENCE = 180.0


class Watch:
    """Remembers each alert that was pending or has fired.

    Attributes:
        ever: Which.
        seen: Which, since `forget`.
    """

    def __init__(self, prometheus: Prometheus) -> None:
        self._prometheus = prometheus
        self.ever: set[str] = set()
        self.seen: set[str] = set()

    def forget(self) -> None:
        """Forget what was seen, so that it has to be seen again."""
        self.seen.clear()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            found = (await self._prometheus.alerts()).keys()
            self.seen |= found
            self.ever |= found
            await anyio.sleep(_LOOK)

    async def saw(self, *alerts: str) -> None:
        """Wait until each of some alerts was pending, or has fired.

        Raises:
            AssertionError: One was not; the message has all that were.
        """
        await until(lambda: _true(set(alerts) <= self.seen), lambda: f"{alerts}; seen: {sorted(self.seen)}")

    async def over(self, *alerts: str) -> None:
        """Wait until none of some alerts is pending or fires.

        Raises:
            AssertionError: One still is.
        """
        found: dict[str, str] = {}

        async def none() -> bool:
            nonlocal found
            found = await self._prometheus.alerts()
            return not set(alerts) & found.keys()

        await until(none, lambda: f"an end of {alerts}; there are {found}")


async def until(
    what: Callable[[], Awaitable[bool]], name: Callable[[], str] | str, patience: float = _PATIENCE
) -> None:
    """Wait until something is so.

    Args:
        what: Whether it is.
        name: What is waited for.
        patience: Seconds in which it must be.

    Raises:
        AssertionError: It is not so in time.
    """
    with anyio.move_on_after(patience):
        while not await what():
            await anyio.sleep(_LOOK)
        return
    raise AssertionError(f"waited for {name if isinstance(name, str) else name()}")


async def _true(value: bool) -> bool:
    return value
