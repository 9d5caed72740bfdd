"""Decoded values: once per revision, not per read, and the last good one if a newer one is refused.

Readable from any thread without a lock. Only the event loop changes what is known (`apply`); any thread may be
the first to ask for a key as some type (`decode`), and takes its result back if the key changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

from tideover.codecs import decode
from tideover.errors import ConfigValueError
from tideover.status import RejectedValue
from tideover.types import Entry


class Values:
    """Key and type to decoded value.

    Args:
        entry_of: Returns a key's entry as it is now, or None.
        on_rejected: Called once per refused value with key, revision and reason.

    Attributes:
        warm: Type to key to value: the whole of a warm read is `warm[type][key]`.
    """

    def __init__(
        self, *, entry_of: Callable[[str], Entry | None], on_rejected: Callable[[str, int, str], None]
    ) -> None:
        self.warm: dict[object, dict[str, object]] = {}
        self._entry_of = entry_of
        self._on_rejected = on_rejected
        self._revisions: dict[object, dict[str, int]] = {}
        self._rejected: dict[tuple[str, object], RejectedValue] = {}
        self._reported: dict[str, int] = {}

    def __repr__(self) -> str:
        """Count what is decoded and what is refused."""
        decoded = sum(map(len, self.warm.values()))
        return f"<Values {decoded} decoded as {len(self.warm)} types, {len(self._rejected)} rejected>"

    @property
    def rejected(self) -> tuple[RejectedValue, ...]:
        """The refused values that are still in etcd, one per key."""
        return tuple({value.key: value for value in list(self._rejected.values())}.values())

    def revision(self, key: str, form: object) -> int:
        """Return the revision of the value being served; 0 if none is."""
        return self._revisions.get(form, {}).get(key, 0)

    def rejection(self, key: str, form: object) -> int | None:
        """Return the revision of a newer value that was refused, else None."""
        rejected = self._rejected.get((key, form))
        return None if rejected is None else rejected.revision

    def decode(self, key: str, form: object, entry: Entry) -> object:
        """Decode a key's value and keep it warm.

        Args:
            key: The key.
            form: The type.
            entry: The key's entry.

        Returns:
            The value.

        Raises:
            ConfigValueError: It cannot be decoded, and no earlier value could be.
            TypeError: The type is none that can be decoded.
        """
        try:
            value = decode(entry.value, form)
        except ValueError as exc:
            self._reject(key, form, entry.mod_revision, str(exc))
            raise ConfigValueError(
                f"{key!r} at revision {entry.mod_revision} is no {_name(form)}: {exc}",
                key=key,
                revision=entry.mod_revision,
            ) from exc
        warm = self.warm.setdefault(form, {})
        revisions = self._revisions.setdefault(form, {})
        warm[key], revisions[key] = value, entry.mod_revision
        self._rejected.pop((key, form), None)
        # The loop changes the entry first and the warm value second: if the entry is still the same here, a
        # change that comes later will find what was just stored; if not, it must go.
        if self._entry_of(key) is not entry:
            warm.pop(key, None)
            revisions.pop(key, None)
        return value

    def apply(self, key: str, entry: Entry | None) -> None:
        """Take in a change of a key, for every type it was asked for.

        Args:
            key: The key.
            entry: Its new entry; None if it was deleted.
        """
        for rejected in [k for k in list(self._rejected) if k[0] == key]:
            del self._rejected[rejected]
        for form in list(self.warm):
            if key in self.warm[form]:
                self._apply(key, form, entry)

    def _apply(self, key: str, form: object, entry: Entry | None) -> None:
        if entry is None:
            self.warm[form].pop(key, None)
            self._revisions[form].pop(key, None)
            return
        try:
            value = decode(entry.value, form)
        except ValueError as exc:
            self._reject(key, form, entry.mod_revision, str(exc))
            return
        self.warm[form][key] = value
        self._revisions[form][key] = entry.mod_revision

    def _reject(self, key: str, form: object, revision: int, why: str) -> None:
        self._rejected[key, form] = RejectedValue(key, revision, why)
        if self._reported.get(key) != revision:
            self._reported[key] = revision
            self._on_rejected(key, revision, why)


def _name(form: object) -> str:
    return form.__name__ if isinstance(form, type) else str(form)
