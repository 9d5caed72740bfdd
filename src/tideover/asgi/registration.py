"""What an application registers: from the end of its startup to the first sign of its end."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from tideover.coordinator.coordinator import Coordinator, life_of
from tideover.registration.registered import Registered
from tideover.registration.registration import Registration


class Announcement:
    """The registrations of one run of an application.

    Args:
        coordinator: Where to register.
        registrations: What.
    """

    def __init__(self, coordinator: Coordinator, registrations: Sequence[Registration]) -> None:
        self._coordinator = coordinator
        self._registrations = registrations
        self._handles: list[Registered] = []

    def __repr__(self) -> str:
        """Show what is registered."""
        return f"<Announcement {self._handles or list(self._registrations)}>"

    def begin(self) -> None:
        """Register: the application has started. Nothing waits for etcd."""
        self._handles = [
            life_of(self._coordinator).parts.registrations.start(each) for each in self._registrations
        ]

    async def end(self) -> None:
        """Take all out of etcd before the application shuts down; bounded in time."""
        handles, self._handles = self._handles, []
        async with anyio.create_task_group() as tasks:
            for handle in handles:
                tasks.start_soon(handle.deregister)

    @property
    def listed(self) -> bool:
        """Whether callers may still find one of them: etcd was not heard to have taken all out."""
        return any(handle in self._coordinator.registrations for handle in self._handles)

    def withdraw(self) -> None:
        """Begin to take all out of etcd: the process will end. Nothing waits for etcd."""
        for handle in self._handles:
            handle.begin_deregistering()
