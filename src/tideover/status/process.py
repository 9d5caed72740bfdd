"""The records of this process: who it is, and what it keeps on disk."""

from __future__ import annotations

from datetime import datetime

from tideover.records import UnknownAge, record
from tideover.status.bounded import BoundedRecord
from tideover.types import Component


@record
class ProcessStatus(BoundedRecord):
    """The process that this is the report of: other workers of the same service have reports of their own.

    Attributes:
        pid: Its process id.
        host: The name of its machine.
        name: Its name, as others see it in etcd: `host:pid`, with the URL that it has registered or advertises in
            brackets.
        started: When its coordinator was entered.
        seconds: Seconds since then.
        version: The version of tideover.
        python: The version of Python.
    """

    pid: int
    host: str
    name: str
    started: datetime
    seconds: float
    version: str
    python: str

    @property
    def host_pid(self) -> str:
        """Its name without the URL."""
        return f"{self.host}:{self.pid}"

    def is_named(self, holder: str) -> bool:
        """Whether a holder, as others see it in etcd, is this process: with or without a URL in brackets."""
        return holder == self.host_pid or holder.startswith(f"{self.host_pid} ")


@record
class SnapshotStatus(BoundedRecord):
    """One snapshot on disk: what the next process starts with if etcd is away then.

    Attributes:
        component: Whose it is.
        prefix: The prefix it is of, as etcd has it.
        keys: How many keys are followed there, of which all but the excluded ones are saved.
        size: Bytes on disk; 0 if nothing is there.
        age: Seconds since what is on disk was last proven in sync; infinite if unknown, and null in JSON.
        saved_ago: Seconds since this process has written it; None if it has not.
        error: Why the last one could not be written; None if it could.
    """

    component: Component
    prefix: str
    keys: int
    size: int
    age: UnknownAge | float
    saved_ago: float | None
    error: str | None
