"""Who holds something, as it is written into etcd for people: a name, and since when.

`host:pid`, with the address where the process can be reached if it has one. For people only: nothing is decided
by it, it counts only beside what it belongs to, and other clients' keys have something else there, or nothing.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from datetime import UTC, datetime

from tideover.shown import shown

_SINCE = " since "
_WRITTEN = re.compile(r"(.*) since (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)", re.DOTALL)


def process_name(address: str = "") -> str:
    """Return the name of this process."""
    name = f"{socket.gethostname()}:{os.getpid()}"
    return f"{name} ({shown(address)})" if address else name


class ProcessName:
    """Returns the name of this process, for people, with an address where others reach it once that is known.

    Attributes:
        registered: The URL of the first registration that this process has; empty if it has none.
        advertised: What this process advertises to other candidates; empty if nothing.
    """

    def __init__(self) -> None:
        self.registered = ""
        self.advertised = ""

    def __call__(self) -> str:
        """Return the name; a fork has another one."""
        return process_name(self.registered or self.advertised)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds something.

    Attributes:
        name: The name; empty if that is not known.
        since: Since when, such as `"2026-11-30T03:12:52Z"`, on the holder's own clock; empty if that is not known.
    """

    name: str = ""
    since: str = ""

    @classmethod
    def now(cls, name: str, wall: float) -> Holder:
        """Return a holder from now on."""
        return cls(name, datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))

    @classmethod
    def read(cls, raw: bytes) -> Holder:
        """Read what a process has written; of other clients' values, all of it is the name."""
        text = shown(raw)
        found = _WRITTEN.fullmatch(text)
        return cls(*found.groups()) if found else cls(text)

    def encode(self) -> bytes:
        """Return what is written into etcd."""
        return f"{self.name}{_SINCE}{self.since}".encode()

    def __str__(self) -> str:
        return f"{shown(self.name)}{_SINCE}{shown(self.since)}" if self.since else shown(self.name)


NOBODY = Holder()
