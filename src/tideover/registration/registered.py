"""The handle on a registered endpoint, and the block that registers it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from types import TracebackType

import anyio

from tideover.discovery.endpoint import Endpoint
from tideover.errors import Closed
from tideover.home import Home
from tideover.registration.publisher import Publisher
from tideover.registration.registration import Registration, check_size
from tideover.status import RegistrationStatus
from tideover.types import RegistrationState

# Seconds that `update` waits until etcd has what was changed.
_UPDATE_TIMEOUT = 2.0


class Registered:
    """An endpoint that this process keeps in etcd; given by `tide.register`."""

    def __init__(
        self,
        publisher: Publisher,
        *,
        home: Home,
        change: Callable[[], None],
        begin_deregistering: Callable[[], None],
        deregister: Callable[[], Awaitable[None]],
        poison: Callable[[], str | None],
    ) -> None:
        self._publisher = publisher
        self._home = home
        self._change = change
        self._begin_deregistering = begin_deregistering
        self._deregister = deregister
        self._poison = poison

    def __repr__(self) -> str:
        """Show the service, the instance and the state."""
        if self._poison() is not None:
            return f"<Registered {self._publisher.endpoint.service!r} by another process>"
        endpoint = self._publisher.endpoint
        return f"<Registered {endpoint.service!r} {endpoint.instance} {self._publisher.state}>"

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint to publish. Its incarnation may change after an etcd was restored."""
        return self._here.endpoint

    @property
    def registered(self) -> bool:
        """Whether the endpoint is in etcd, under a proven lease.

        In an outage the endpoint stays there unproven: then this is False, and the `status` is `UNCONFIRMED`.
        """
        return self._here.state is RegistrationState.REGISTERED

    @property
    def status(self) -> RegistrationStatus:
        """The status, as `tide.status()` shows it; also in a forked child."""
        return self._publisher.status()

    async def wait_registered(self) -> None:
        """Wait until the endpoint is in etcd.

        Raises:
            Closed: The registration has ended, or this is a forked child.
            WrongLoop: This is another event loop than the coordinator's.

        When degraded:
            Waits until etcd is back.
        """
        self._home.check(self)
        await self._wait(lambda: self.registered)

    async def update(self, *, metadata: Mapping[str, str] | None = None, weight: float | None = None) -> bool:
        """Publish other metadata or another weight, such as 0 before the endpoint is taken out of service.

        Args:
            metadata: All of it; None leaves it as it is.
            weight: The weight; None leaves it as it is.

        Returns:
            Whether etcd has the change. If that took more than 2 s, the change is written as soon as possible.

        Raises:
            TypeError: An argument is of the wrong type.
            ValueError: An argument is out of range.
            Closed: The registration has ended, or this is a forked child.
            WrongLoop: This is another event loop than the coordinator's.

        When degraded:
            Waits for 2 s, then returns False.
        """
        self._home.check(self)
        publisher = self._here
        changed = publisher.endpoint
        if metadata is not None:
            changed = replace(changed, metadata=metadata)
        if weight is not None:
            changed = replace(changed, weight=weight)
        if publisher.ended:
            raise Closed(f"{self!r}: {publisher.ended.reason}")
        publisher.endpoint = check_size(changed)
        self._change()
        with anyio.move_on_after(_UPDATE_TIMEOUT):
            await self._wait(lambda: publisher.is_current)
            return True
        return False

    async def deregister(self) -> None:
        """Delete the endpoint from etcd, for good; a second call does nothing. Leaving the block does this too.

        Raises:
            Closed: This is a forked child.
            WrongLoop: This is another event loop than the coordinator's; the endpoint stays registered.

        When degraded:
            Tries for 2 s, which it shares with all that is closed in a row while an outage is declared; a key that
            cannot be deleted goes with its lease: within its ttl and a second and a half, counted from when etcd
            has a leader again.
        """
        self._home.check(self)
        await self._deregister()

    def begin_deregistering(self) -> None:
        """Deregister in the background: for callbacks of the event loop, such as at a signal.

        Raises:
            Closed: This is a forked child.
            WrongLoop: This is another event loop than the coordinator's; the endpoint stays registered.
        """
        self._home.check(self)
        _ = self._here
        self._begin_deregistering()

    async def _wait(self, condition: Callable[[], bool]) -> None:
        publisher = self._here
        while True:
            changed = publisher.changed.next()
            if publisher.ended:
                raise Closed(f"{self!r}: {publisher.ended.reason}")
            if condition():
                return
            await changed.wait()

    @property
    def _here(self) -> Publisher:
        why = self._poison()
        if why is not None:
            raise Closed(why)
        return self._publisher


class RegistrationBlock:
    """A registration for the length of an `async with` block; see `Coordinator.register`."""

    def __init__(
        self,
        registration: Registration,
        *,
        home: Home,
        start: Callable[[Registration], Registered],
        patience: float,
    ) -> None:
        self._registration = registration
        self._home = home
        self._start = start
        self._patience = patience
        self._registered: Registered | None = None

    def __repr__(self) -> str:
        """Show the service and its state."""
        return f"<RegistrationBlock {self._registration.name!r} {self._registered or 'not entered'}>"

    async def __aenter__(self) -> Registered:
        """Register; see `Coordinator.register`."""
        self._home.check(self)
        if self._registered is not None:
            raise Closed("a registration is entered only once: call register() again")
        registered = self._registered = self._start(self._registration)
        try:
            with anyio.move_on_after(self._patience):
                await registered._publisher.settled.wait()
        except BaseException:
            await registered.deregister()
            raise
        return registered

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Deregister."""
        if self._registered is not None and self._registered._poison() is None:
            self._home.check(self)
            await self._registered.deregister()
