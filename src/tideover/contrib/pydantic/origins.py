"""Where a source of pydantic-settings reads its keys: never from the network."""

from __future__ import annotations

import math
from collections.abc import Collection
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

from tideover.codecs import Refusal
from tideover.config.decoded import decoder_for, refused
from tideover.config.reader import Reader
from tideover.coordinator.coordinator import Coordinator
from tideover.types import Reading, Source


class Origin(Protocol):
    """Where values come from."""

    def read(self, key: str, form: object) -> Reading[Any]:
        """Return a key's value.

        Raises:
            ConfigValueError: It is refused.
        """

    def below(self, prefix: str) -> Collection[str]:
        """Return the keys there are that begin with a prefix."""


class FromMemory:
    """What a coordinator has in memory, read as `config.read` reads.

    Args:
        reader: The coordinator's configuration.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __repr__(self) -> str:
        """Show where."""
        return f"<FromMemory of {self._reader!r}>"

    def read(self, key: str, form: Any) -> Reading[Any]:
        """Return a key's value; see `Origin`."""
        return self._reader.read(key, form)

    def below(self, prefix: str) -> list[str]:
        """Return the keys there are that begin with a prefix."""
        return self._reader.keys_below(prefix)


class Quietly(FromMemory):
    """The same, but nothing is counted or marked, and a refused value is an error whatever was before."""

    def read(self, key: str, form: Any) -> Reading[Any]:
        """Return a key's value; see `Origin`."""
        return self._reader.read_quietly(key, form)


class FromDisk:
    """What an earlier process has left on disk, for a coordinator that has not been entered yet.

    Args:
        coordinator: The coordinator.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        self._entries = coordinator.config_on_disk()

    def __repr__(self) -> str:
        """Count the keys."""
        return f"<FromDisk {len(self._entries)} keys>"

    def read(self, key: str, form: Any) -> Reading[Any]:
        """Return a key's value; see `Origin`."""
        entry, decode = self._entries.get(key), decoder_for(key, form)
        if entry is None:
            return Reading(key, None, False, Source.DISK, 0, math.inf, True)
        try:
            value = decode(entry.value)
        except Refusal as exc:
            raise refused(key, entry.mod_revision, exc, decode.name) from exc
        return Reading(key, value, True, Source.DISK, entry.mod_revision, math.inf, True)

    def below(self, prefix: str) -> list[str]:
        """Return the keys there are that begin with a prefix."""
        return [key for key in self._entries if key.startswith(prefix)]


@dataclass
class Building:
    """The building of one settings object that follows its keys.

    Attributes:
        origin: Where its sources read.
        prefixes: The prefixes of the sources that were asked.
        revision: The newest revision of what they have read.
    """

    origin: Origin
    prefixes: list[str] = field(default_factory=list)
    revision: int = 0


# Set while a settings object is built that follows its keys.
present_building: ContextVar[Building | None] = ContextVar("present_building", default=None)
