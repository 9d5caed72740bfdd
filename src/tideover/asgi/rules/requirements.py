"""The requirements of requests, and whether they are met.

Each requirement looks at a few present facts and returns why it is not met; empty means that it is. Clients see
the text: it names only what the application's own code names, and no member, address or key of etcd's.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from tideover.status.statements import age_in_words, duration
from tideover.types import Standing

# Seconds that a recovery takes after the probe that finds it: two good probes, and what is read again. Seconds
# within which retries are spread. Both for `Retry-After`, as are the bounds, in whole seconds.
_RECOVERY = 1.0
_SPREAD = 2.0
_SOONEST, _LATEST = 1, 30


class Known(Protocol):
    """What is known of a part of etcd."""

    @property
    def known(self) -> bool:
        """Whether anything is known of it."""

    @property
    def denied(self) -> object:
        """Whether a quorum refuses to let this process read it."""

    @property
    def age(self) -> float:
        """Seconds since it was last proven in sync."""


class KnownService(Protocol):
    """A service."""

    @property
    def view(self) -> Known:
        """What is known of its list."""

    @property
    def pickable(self) -> int:
        """How many endpoints can be picked."""


class Facts(Protocol):
    """The coordinator's present state."""

    @property
    def available(self) -> bool:
        """Whether the declared state is that a quorum answers."""

    @property
    def writable(self) -> bool:
        """Whether a quorum answers and accepts writes, as far as is known."""

    @property
    def brief(self) -> str:
        """The diagnosis in words, without names and addresses."""

    def config(self, prefix: str) -> Iterable[Known]:
        """Return what is known of the configuration under a prefix."""

    def service(self, name: str) -> KnownService:
        """Return what is known of a service."""

    def standing(self, election: str) -> Standing | None:
        """Return the standing with which this process leads an election; None if it does not."""


class Need(Protocol):
    """One thing that is required."""

    @property
    def name(self) -> str:
        """The name in answers."""

    def unmet(self, facts: Facts) -> str:
        """Return why it is not met; empty if it is."""


@dataclass(frozen=True, slots=True)
class KnownConfig:
    """The configuration under a prefix was read, is not denied, and is no older than `max_age` seconds."""

    prefix: str = ""
    max_age: float = math.inf
    name: str = "config"

    def unmet(self, facts: Facts) -> str:
        for known in facts.config(self.prefix):
            if why := _unknown(known, self.max_age):
                return f"config {self.prefix!r} {why}" if self.prefix else f"the configuration {why}"
        return ""


@dataclass(frozen=True, slots=True)
class PickableEndpoints:
    """At least `at_least` endpoints of a service can be picked, of a list no older than `max_age` seconds."""

    service: str
    at_least: int = 1
    max_age: float = math.inf

    @property
    def name(self) -> str:
        return f"discovery:{self.service}"

    def unmet(self, facts: Facts) -> str:
        service = facts.service(self.service)
        if why := _unknown(service.view, self.max_age):
            return f"the list of {self.service!r} {why}"
        if (found := service.pickable) < self.at_least:
            return f"{self.service!r} has {found} endpoints that can be picked, and {self.at_least} are required"
        return ""


@dataclass(frozen=True, slots=True)
class Lockable:
    """A lock could be DISTRIBUTED now."""

    name: str = "lock"

    def unmet(self, facts: Facts) -> str:
        return "" if facts.writable else f"no lock can be had across machines: {facts.brief}"


@dataclass(frozen=True, slots=True)
class Available:
    """A quorum of etcd answers."""

    name: str

    def unmet(self, facts: Facts) -> str:
        return "" if facts.available else facts.brief


@dataclass(frozen=True, slots=True)
class Leads:
    """This process leads an election with an accepted standing; with `redirect` the leader serves instead."""

    election: str
    standing: Collection[Standing] = (Standing.HELD, Standing.CONFIRMED)
    redirect: bool = False

    @property
    def name(self) -> str:
        return f"leader:{self.election}"

    def unmet(self, facts: Facts) -> str:
        standing = facts.standing(self.election)
        if standing is None:
            return f"{self.election!r} is not led here"
        return "" if standing in self.standing else f"{self.election!r} is led here, and only {standing}"


def _unknown(known: Known, max_age: float) -> str:
    """Return why a part is not known well enough; empty if it is."""
    if known.denied:
        return "may not be read: etcd denies it"
    if not known.known:
        return "has never been read"
    if max_age != math.inf and (age := known.age) > max_age:
        return f"is {age_in_words(age)}, and may be {duration(max_age)}"
    return ""


def retry_after(next_probe: float, chance: float) -> int:
    """Return the whole seconds after which a request should be tried again.

    If etcd is back by the next probe, the requirement is met by then; the chance spreads the retries.
    """
    return min(_LATEST, max(_SOONEST, math.ceil(next_probe + _RECOVERY + _SPREAD * chance)))
