"""Where a settings object's values come from: the newest ones, or those that its class has last accepted."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

from tideover.codecs import Refusal
from tideover.config.assembly import Assembly
from tideover.config.decoded import decoder_for, refused
from tideover.config.reader import Reader
from tideover.prefixes.accepted_values import AcceptedValues
from tideover.prefixes.snapshot import Accepted, Snapshot
from tideover.types import Reading, Source


class Newest:
    """The newest values, in etcd or as last known.

    Attributes:
        found: Whether there has ever been any.
    """

    def __init__(self, reader: Reader, assembly: Assembly[Any]) -> None:
        self.found = False
        self._reader = reader
        self._nested = tuple(f"{key}/" for key in assembly.nested)
        # Kept up to date by `note`: to look through all that is followed takes long.
        self._below = {key for prefix in self._nested for key in reader.keys_below(prefix)}

    def __repr__(self) -> str:
        """Show where they are read."""
        return f"<Newest of {self._reader!r}>"

    def note(self, key: str) -> None:
        """Note that a key has changed, which may be there or not: it may be below a field that is a record."""
        if key.startswith(self._nested):
            (self._below.add if self._reader.entry(key) is not None else self._below.discard)(key)

    def read(self, key: str, form: object) -> Reading[Any]:
        """Return a key's value; see `Origin`."""
        self.found = self.found or self._reader.entry(key) is not None
        return self._reader.read_quietly(key, form)

    def synced(self, key: str) -> bool:
        """Return whether an absent key is known to be absent."""
        return self._reader.synced(key)

    def below(self, prefix: str) -> list[str]:
        """Return the keys there are that begin with a prefix, which is that of a field."""
        return [key for key in self._below if key.startswith(prefix)]


class LastAccepted:
    """The values that a class has last accepted, and for keys that those do not speak of the newest ones.

    A snapshot speaks neither of keys that must not be on disk nor of fields that its version of the class has not.
    """

    def __init__(
        self, snapshot: Snapshot, newest: Newest, reader: Reader, may_hold: Callable[[bytes], bool]
    ) -> None:
        self._may_hold = may_hold
        self._snapshot = snapshot
        self._newest = newest
        self._reader = reader
        self._keys = [reader.short_name(full) for full in snapshot.entries]

    def __repr__(self) -> str:
        """Show the snapshot."""
        return f"<LastAccepted {self._snapshot!r}>"

    def _speaks_of(self, key: str) -> bool:
        full = self._reader.full_key(key)
        return self._may_hold(full) and self._snapshot.speaks_of(full)

    def read(self, key: str, form: object) -> Reading[Any]:
        """Return a key's value; see `Origin`."""
        if not self._speaks_of(key):
            return self._newest.read(key, form)
        entry = self._snapshot.entries.get(self._reader.full_key(key))
        if entry is None:
            return Reading(key, None, False, Source.DISK, 0, 0.0, True)
        decode = decoder_for(key, form)
        try:
            value = decode(entry.value)
        except Refusal as exc:
            raise refused(key, entry.mod_revision, exc, decode.name) from exc
        return Reading(key, value, True, Source.DISK, entry.mod_revision, 0.0, True)

    def synced(self, key: str) -> bool:
        """Return whether an absent key is known to be absent."""
        return self._speaks_of(key) or self._newest.synced(key)

    def below(self, prefix: str) -> list[str]:
        """Return the keys there are that begin with a prefix, which is that of a field."""
        others = (key for key in self._newest.below(prefix) if not self._speaks_of(key))
        return [*(key for key in self._keys if key.startswith(prefix)), *others]


class Acceptance:
    """What a settings object has accepted before, and what it accepts now."""

    def __init__(self, values: AcceptedValues, reader: Reader, assembly: Assembly[Any]) -> None:
        self._values = values
        self._reader = reader
        self._assembly = assembly
        self._prefix = reader.full_name(assembly.prefix).encode(errors="surrogateescape")

    def __repr__(self) -> str:
        """Show what is made."""
        return f"<Acceptance of {self._assembly!r}>"

    @property
    def why_none(self) -> str:
        """Why there may be none of an earlier process, in words."""
        if self._values.folder is None:
            return "without snapshots (cache_dir) no accepted value outlives its process"
        if not self._values.restored:
            return "what was accepted is still being read from disk"
        return "no value has been accepted before by this class at this prefix"

    def last(self, newest: Newest) -> LastAccepted | None:
        """Return what was last accepted, with the newest values for all else; None if nothing was."""
        snapshot = self._values.last(self._prefix, self._assembly.full_name, self._assembly.shape)
        return None if snapshot is None else LastAccepted(snapshot, newest, self._reader, self._values.may_hold)

    def accept(self, newest: Newest) -> None:
        """Record that the newest values are accepted, unless they are not known, or are a test's."""
        reader, assembly, may_hold = self._reader, self._assembly, self._values.may_hold
        held = [key for key in assembly.keys if may_hold(reader.full_key(key))]
        if reader.overridden or not held or not all(map(newest.synced, held)):
            return
        below = [f"{key}/" for key in assembly.nested]
        entries = {reader.full_key(key): reader.entry(key) for key in chain(held, *map(newest.below, below))}
        spoken_of = frozenset(filter(may_hold, map(reader.full_key, (*held, *below))))
        label = Accepted(assembly.full_name, assembly.shape, spoken_of)
        present = {full: entry for full, entry in entries.items() if entry is not None and may_hold(full)}
        self._values.accept(self._prefix, label, present, reader.view_of(held[0]))
