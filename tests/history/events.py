"""What a recorder writes and the checker reads: one event, at one moment of the machine's monotonic clock.

Kinds, and the fields that the checker needs:

    enter      name, role ("lock", "leader"), token, mode, deadline; optional epoch: the body begins. Where one
               process holds a name more than once, `holder` tells them apart, here and below
    renewed    name, role, deadline: what is held is trusted longer
    turned     name, role, mode: still held, on other grounds
    lost       name, role: the holder was told
    exit       name, role: the body ended, before anything is given back
    died       victim (pid): recorded by whoever killed it
    reading    key, present, revision, age, began; optional epoch; reader, where a process has several
    written    key, present, revision, began: acknowledged by etcd; present is False for a deletion
    registered, deregistered
               name, instance
    settled    from now on whoever looks must see every registration
    disturbed  from now on no more
    discovered name, instances, began
    session_opened
               session, key, deadline, member
    session_renewed
               session, deadline, member: also when only the member changed
    session_believed
               session: what stands under it is relied upon at this moment
    session_lost, session_closed
               session: its holder was told; its holder gives it up
    key_deleted
               key: recorded by an observer at each member that shows it
    hindered, unhindered
               who (a process's name, or a member): paused or cut off, until it is no more
    woken      a member that was paused goes on

Every other kind is a note for people. Record what is believed so that belief looks shorter than it is (enter
after, exit before) and a look longer than it is (`began` before): then no finding comes from recording late.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a history.

    Attributes:
        at: Seconds on the machine's monotonic clock, the same for all its processes.
        pid: Who recorded it.
        process: That process's name.
        kind: See the module.
        fields: What else was recorded.
    """

    at: float
    pid: int
    process: str
    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        """Return a field; KeyError if it was not recorded."""
        return self.fields[name]

    def __str__(self) -> str:
        """Show the event as one line of a report."""
        fields = " ".join(f"{name}={value}" for name, value in self.fields.items())
        return f"{self.at:.3f} {self.process}[{self.pid}] {self.kind} {fields}".rstrip()
