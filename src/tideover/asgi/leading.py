"""The jobs an application runs while leading: from the end of its startup to the beginning of its shutdown."""

from __future__ import annotations

from collections.abc import Mapping

import anyio

from tideover.coordinator.coordinator import Coordinator
from tideover.elections.jobs import Job
from tideover.elections.leading import Work


class LeadingJobs:
    """The jobs of one run of an application."""

    def __init__(self, coordinator: Coordinator, work: Mapping[str, Work]) -> None:
        self._jobs: list[Job] = [coordinator.job(name, each) for name, each in work.items()]

    def begin(self) -> None:
        """Start all jobs as candidates, without waiting for etcd."""
        for job in self._jobs:
            job.start()

    async def end(self) -> None:
        """Cancel all jobs and wait for their ends, before the application closes what they use."""
        async with anyio.create_task_group() as tasks:
            for job in self._jobs:
                tasks.start_soon(job.stop)
