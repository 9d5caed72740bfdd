"""Where a source of pydantic-settings reads its keys: never from the network."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from tideover.codecs import Refusal
from tideover.config.decoded import decoder_for, refused
from tideover.config.reader import Reader
from tideover.config.readings import MISSING, absent, found
from tideover.coordinator.coordinator import Coordinator, life_of
from tideover.errors import ConfigKeyError, ConfigValueError
from tideover.prefixes.followed import at_start
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
    """What a coordinator has in memory, read as `config.read` reads."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def read(self, key: str, form: Any) -> Reading[Any]:
        """Return a key's value; see `Origin`."""
        return self._reader.read(key, form)

    def below(self, prefix: str) -> list[str]:
        """Return the keys there are that begin with a prefix."""
        return self._reader.keys_below(prefix)


class FromDisk:
    """What an earlier process has left on disk, for a coordinator that has not been entered yet."""

    def __init__(self, coordinator: Coordinator) -> None:
        parts = life_of(coordinator).parts
        self._entries = at_start(parts.followed, parts.options.base)

    def read(self, key: str, form: Any) -> Reading[Any]:
        """Return a key's value; see `Origin`."""
        entry, decode = self._entries.get(key), decoder_for(key, form)
        if entry is None:
            return absent(key, MISSING, Source.DISK, math.inf, stale=True)
        try:
            value = decode(entry.value)
        except Refusal as exc:
            raise refused(key, entry.mod_revision, exc, decode.name) from exc
        return found(key, value, Source.DISK, entry.mod_revision, math.inf, stale=True)

    def below(self, prefix: str) -> list[str]:
        """Return the keys there are that begin with a prefix."""
        return [key for key in self._entries if key.startswith(prefix)]


@dataclass
class Building:
    """The making of one settings object that follows its keys.

    Attributes:
        defaults: Whether what is refused is left out, so that another source or a default stands in.
        without: Names of fields that are left out, as errors have them; None means all.
        revision: The newest revision of what was read; 0 if there was nothing.
        refusal: Why something was left out; None if nothing was.
    """

    origin: Origin
    defaults: bool = False
    without: Collection[str] | None = ()
    revision: int = 0
    refusal: ConfigValueError | ConfigKeyError | None = None

    def read(self, key: str, form: object) -> Reading[Any]:
        """Return a key's value; one that is refused is absent, if it may be."""
        try:
            reading = self.origin.read(key, form)
        except ConfigValueError as exc:
            if not self.defaults:
                raise
            self.refusal = self.refusal or exc
            return absent(key, MISSING, Source.DEFAULT, 0.0, stale=True)
        self.revision = max(self.revision, reading.revision)
        return reading

    def below(self, prefix: str) -> Collection[str]:
        """Return the keys there are that begin with a prefix."""
        return self.origin.below(prefix)

    def leaves_out(self, names: Iterable[object]) -> bool:
        """Whether a field is left out that goes by these names."""
        return self.without is None or any(name in self.without for name in names)


# Set while a settings object is made that follows its keys.
present_building: ContextVar[Building | None] = ContextVar("present_building", default=None)
