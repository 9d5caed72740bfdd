"""Decoded values: decoded once per revision, not per read; the last good value if a newer one is refused.

Readable from any thread without a lock. Only the event loop applies changes (`apply`); any thread may be the first
to read a key as some type (`value`), and withdraws its result if the key has changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from tideover.codecs import Decoder, ImportNeeded, Refusal, decoder, is_distinct
from tideover.errors import ConfigValueError
from tideover.status import RejectedValue
from tideover.types import Entry


def decoder_for(key: str, form: object) -> Decoder:
    """Return the decoder of a key's type, whether there is a value or not; raise `TypeError` if it has none."""
    try:
        if form is None:  # a valid type, but surely a default without its keyword
            raise TypeError("None is not a type to decode as; a default is given as default=")
        return decoder(form)
    except TypeError as exc:
        made = ImportNeeded if isinstance(exc, ImportNeeded) else TypeError
        raise made(f"{key!r}: {exc}") from None


def refused(key: str, revision: int, refusal: Refusal, what: str = "") -> ConfigValueError:
    """Return the error for a refused value."""
    is_no = f" is no {what}" if what else ""
    return ConfigValueError(
        f"{key!r} at revision {revision}{is_no}: {refusal}",
        key=key,
        revision=revision,
        exception=refusal.exception,
    )


@dataclass(frozen=True, slots=True)
class _Kept:
    """The decoded values of one type, and their revisions, by key."""

    decoder: Decoder
    values: dict[str, object]
    revisions: dict[str, int]


class Values:
    """The decoded values by key and type.

    A warm read is `warm[type][key]` and no more. Unions whose order counts are not in `warm`, because a union
    equals one of another order.
    """

    def __init__(
        self, *, entry_of: Callable[[str], Entry | None], on_rejected: Callable[[str, int, str], None]
    ) -> None:
        self.warm: dict[object, dict[str, object]] = {}
        self._entry_of = entry_of
        self._on_rejected = on_rejected
        # By the decoders' identities, as `_rejected` is.
        self._kept: dict[object, _Kept] = {}
        self._rejected: dict[tuple[str, object], tuple[int, Refusal]] = {}
        self._reported: dict[str, int] = {}

    def first_rejected(self, most: int | None) -> tuple[tuple[RejectedValue, ...], int]:
        """Return up to `most` refused values that are still in etcd, one per key, and the number of all."""
        found = {key: (identity, at, why) for (key, identity), (at, why) in list(self._rejected.items())}
        first = (
            RejectedValue(key, at, str(why), served=self._served(key, identity))
            for key, (identity, at, why) in islice(found.items(), most)
        )
        return tuple(first), len(found)

    def revision(self, key: str, decode: Decoder) -> int:
        """Return the revision of the served value; 0 if there is none."""
        return self._served(key, decode.identity)

    def _served(self, key: str, identity: object) -> int:
        kept = self._kept.get(identity)
        return 0 if kept is None else kept.revisions.get(key, 0)

    def rejection(self, key: str, decode: Decoder) -> tuple[int, Refusal] | None:
        """Return the revision of a newer, refused value and the refusal; None if there is none."""
        return self._rejected.get((key, decode.identity))

    def value(self, key: str, form: object, decode: Decoder, entry: Entry) -> object:
        """Return a key's value, decoded at the first call, or the last good one if the present one is refused.

        Raises `ConfigValueError` if the value cannot be decoded, and no earlier one could be.
        """
        kept = self._kept.get(decode.identity)
        if kept is not None and key in kept.values:
            try:
                return kept.values[key]
            except KeyError:  # deleted this very moment, by the event loop
                pass
        try:
            value = decode(entry.value)
        except Refusal as exc:
            self._reject(key, decode, entry.mod_revision, exc)
            raise refused(key, entry.mod_revision, exc, decode.name) from exc
        kept = self._kept.setdefault(decode.identity, _Kept(decode, {}, {}))
        if is_distinct(form):
            self.warm.setdefault(form, kept.values)
        # The revision first: a thread that sees the new value sees its revision too.
        kept.revisions[key], kept.values[key] = entry.mod_revision, value
        self._rejected.pop((key, decode.identity), None)
        # The loop changes the entry first and the warm value second: if the entry is still the same here, a later
        # change will find the value just stored; if not, that value must go.
        if self._entry_of(key) is not entry:
            kept.values.pop(key, None)
            kept.revisions.pop(key, None)
        return value

    def apply(self, key: str, entry: Entry | None) -> None:
        """Decode a changed key again, for every type that it was read as."""
        for rejected in [k for k in list(self._rejected) if k[0] == key]:
            del self._rejected[rejected]
        for kept in list(self._kept.values()):
            if key in kept.values:
                self._apply(key, kept, entry)

    def _apply(self, key: str, kept: _Kept, entry: Entry | None) -> None:
        if entry is None:
            kept.values.pop(key, None)
            kept.revisions.pop(key, None)
            return
        try:
            value = kept.decoder(entry.value)
        except Refusal as exc:
            self._reject(key, kept.decoder, entry.mod_revision, exc)
            return
        kept.revisions[key] = entry.mod_revision
        kept.values[key] = value

    def _reject(self, key: str, decode: Decoder, revision: int, why: Refusal) -> None:
        # A copy: the refusal that was raised refers to the frames that it passed.
        self._rejected[key, decode.identity] = revision, Refusal(str(why), why.exception)
        if self._reported.get(key) != revision:
            self._reported[key] = revision
            self._on_rejected(key, revision, str(why))
