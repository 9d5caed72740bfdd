"""What an application runs while it leads: from the end of its startup to the beginning of its shutdown."""

from __future__ import annotations

from collections.abc import Mapping

import anyio

from tideover.coordinator.coordinator import Coordinator
from tideover.elections.jobs import Job
from tideover.elections.leading import Work


class LeadingJobs:
    """The jobs of one run of an application.

    Args:
        coordinator: Where to lead.
        work: What to run, by election.
    """

    def __init__(self, coordinator: Coordinator, work: Mapping[str, Work]) -> None:
        self._jobs: list[Job] = [coordinator.job(name, each) for name, each in work.items()]

    def __repr__(self) -> str:
        """Show the jobs."""
        return f"<LeadingJobs {self._jobs}>"

    def begin(self) -> None:
        """Become a candidate for each: the application has started. Nothing waits for etcd."""
        for job in self._jobs:
            job.start()

    async def end(self) -> None:
        """Cancel all, and wait for the end of each: before the application takes away what they work with."""
        async with anyio.create_task_group() as tasks:
            for job in self._jobs:
                tasks.start_soon(job.stop)
