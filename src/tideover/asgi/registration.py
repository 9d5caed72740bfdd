"""An application's registrations: from the end of its startup to the first sign of its end."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from tideover.coordinator.coordinator import Coordinator, life_of
from tideover.registration.registered import Registered
from tideover.registration.registration import Registration


class Announcement:
    """The registrations of one run of an application."""

    def __init__(self, coordinator: Coordinator, registrations: Sequence[Registration]) -> None:
        self._coordinator = coordinator
        self._registrations = registrations
        self._handles: list[Registered] = []

    def begin(self) -> None:
        """Register, without waiting for etcd."""
        start = life_of(self._coordinator).parts.registrations.start
        self._handles = [start(each) for each in self._registrations]

    async def end(self) -> None:
        """Deregister all before the application shuts down; bounded in time."""
        handles, self._handles = self._handles, []
        async with anyio.create_task_group() as tasks:
            for handle in handles:
                tasks.start_soon(handle.deregister)

    @property
    def listed(self) -> bool:
        """Whether callers may still find an endpoint: etcd has not confirmed all deletions."""
        return any(handle in self._coordinator.registrations for handle in self._handles)

    def withdraw(self) -> None:
        """Start to deregister all, without waiting for etcd: the process will end."""
        for handle in self._handles:
            handle.begin_deregistering()
