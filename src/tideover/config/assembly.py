"""Makes a settings object of its keys: each field is a key, and a field that is a record may be several.

A record is a dataclass or another type whose fields `codecs.fields_of` knows. A record within another is JSON
under the key of its field, or a key for each of its own fields below that: `db`, or `db/host` and `db/port`. Both
at the same time are refused, because neither has precedence.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from typing import Any, Final, Generic, Protocol, TypeVar, cast

from tideover.codecs import Field, Refusal, asking, blamed, construct, fields_of, name_of, options_of, record_of
from tideover.config.live import Made
from tideover.errors import ConfigKeyError, ConfigValueError, NotSynced
from tideover.foreign_bytes import DEPTH
from tideover.types import Reading

T = TypeVar("T")

# The part of an annotation's text that differs between processes.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


_ABSENT: Final = object()


class Origin(Protocol):
    """A source of the keys' values."""

    def read(self, key: str, form: object) -> Reading[Any]:
        """Return a key's value; raise `ConfigValueError` if the value is refused."""

    def synced(self, key: str) -> bool:
        """Return whether an absent key is known to be absent."""

    def below(self, prefix: str) -> Collection[str]:
        """Return the present keys that begin with a prefix."""


class Record:
    """A type with fields, which may be records themselves; `made` is the class of its objects."""

    def __init__(self, form: object, made: type) -> None:
        self.form = form
        self.made = made

    @cached_property
    def fields(self) -> dict[str, tuple[Field, Record | None]]:
        """The fields by name, each with its record if it may be one; computed on demand, because types nest."""
        return {field.name: (field, _record_within(field.form)) for field in fields_of(self.form) or ()}

    def has(self, path: str, levels: int) -> bool:
        """Return whether a path of names, at most `levels` deep, leads to a field."""
        record: Record | None = self
        names = path.split("/", levels)
        for name in names:
            if record is None or name not in record.fields:
                return False
            _, record = record.fields[name]
        return len(names) <= levels

    def construct(self, fields: dict[str, object]) -> object:
        """Make an object; raise `Refusal` if the object's own checks refuse the fields."""
        return construct(self.made, fields)

    def shape(self, within: tuple[object, ...] = ()) -> Iterator[object]:
        """Yield facts in which versions of the type differ."""
        for field, record in self.fields.values():
            yield field.name, _ADDRESS.sub("", name_of(field.form)), field.required
            if record is not None and record.form not in within:
                yield list(record.shape((*within, self.form)))


def _record_within(form: object) -> Record | None:
    """Return the record of a field's type, which may be optional; None for any other type."""
    options = [option for option in options_of(form) if option not in (None, type(None))]
    made = record_of(options[0]) if len(options) == 1 else None
    return None if made is None else Record(options[0], made)


class Assembly(Generic[T]):
    """Makes settings objects of one class; raises `TypeError` if `form` has no fields.

    Attributes:
        full_name: The name of the class with its module's, the same in all processes.
        shape: A hash that differs between versions of the class with other fields, or fields of other types.
        nested: The keys whose fields may have keys of their own.
    """

    def __init__(self, form: type[T], prefix: str, validate: Callable[[T], object] | None) -> None:
        made = record_of(form)
        if made is None or not fields_of(form):
            raise TypeError(f"bind() needs a dataclass or a TypedDict with fields, or a model, not {form!r}")
        self._record = Record(form, made)
        self._validate = validate
        self.prefix = prefix
        self.name = name_of(form)
        self.full_name = f"{made.__module__}.{made.__qualname__}"
        self.shape = hashlib.sha256(json.dumps(list(self._record.shape())).encode()).hexdigest()[:16]
        self.keys = tuple(prefix + name for name in self._record.fields)
        self.nested = tuple(prefix + name for name, (_, record) in self._record.fields.items() if record)

    def concerns(self, key: str) -> bool:
        """Return whether a key's change may change the object."""
        return key.startswith(self.prefix) and self._record.has(key[len(self.prefix) :], DEPTH)

    def make(self, origin: Origin, *, defaults: bool = False) -> Made[T]:
        """Make the object; with `defaults` a refused value gives way to a default, if there is one.

        Raises:
            ConfigKeyError: A field without a default has no key.
            NotSynced: The same, and nothing is known of its prefix.
            ConfigValueError: A value is refused, or the object.
        """
        making = _Making(origin, defaults)
        fields = making.fields(self._record, self.prefix, DEPTH)
        try:
            value = self._checked(making.construct(self._record, fields, self.prefix))
        except Refusal as exc:
            text = f"{self.prefix!r}: {exc}"
            error = ConfigValueError(text, key=self.prefix, revision=making.revision, exception=exc.exception)
            if not (defaults and fields):
                raise error from exc
            return Made(self._of_defaults(error), 0, making.refusal or error)
        return Made(value, making.revision, making.refusal)

    def _checked(self, made: object) -> T:
        value = cast("T", made)
        if self._validate is not None:
            asking(getattr(self._validate, "__name__", type(self._validate).__name__), self._validate, value)
        return value

    def _of_defaults(self, error: ConfigValueError) -> T:
        """Return an object of defaults alone, because the one with values is refused."""
        if any(field.required for field, _ in self._record.fields.values()):
            raise error
        try:
            return self._checked(self._record.construct({}))
        except Refusal:
            raise error from None


class _Making:
    """Makes one object, and records the newest revision and the first refusal."""

    def __init__(self, origin: Origin, defaults: bool) -> None:
        self.revision = 0
        self.refusal: ConfigValueError | ConfigKeyError | None = None
        self._origin = origin
        self._defaults = defaults

    def fields(self, record: Record, prefix: str, levels: int) -> dict[str, object]:
        """Return the fields of a record that have values; raise as `Assembly.make`."""
        found = {}
        for field, within in record.fields.values():
            key = prefix + field.name
            try:
                value = self._value(key, field, within, levels)
            except (ConfigValueError, ConfigKeyError) as exc:
                if not self._defaults or field.required:
                    raise
                self.refusal = self.refusal or exc
                continue
            if value is not _ABSENT:
                found[field.name] = value
            elif field.required:
                error = ConfigKeyError if self._origin.synced(key) else NotSynced
                raise error(key, f"no configuration key {key!r}, which {name_of(record.form)} needs")
        return found

    def construct(self, record: Record, fields: dict[str, object], key: str) -> object:
        """Make a record, without refused fields that have defaults; raise `Refusal` if it is still refused."""
        try:
            return record.construct(fields)
        except Refusal as exc:
            names = blamed(exc) & fields.keys()
            if not self._defaults or not names or any(record.fields[name][0].required for name in names):
                raise
            text = f"{key!r}: {exc}"
            error = ConfigValueError(text, key=key, revision=self.revision, exception=exc.exception)
        self.refusal = self.refusal or error
        return record.construct({name: value for name, value in fields.items() if name not in names})

    def _value(self, key: str, field: Field, within: Record | None, levels: int) -> object:
        reading = self._origin.read(key, field.form)
        if reading.present:
            self.revision = max(self.revision, reading.revision)
        below = self._below(key + "/", within, levels - 1)
        if within is None or not below:
            return reading.value if reading.present else _ABSENT
        if reading.present:
            text = f"{key!r} and {below[0]!r} both say what it is: delete one of them"
            raise ConfigValueError(text, key=key, revision=reading.revision)
        fields = self.fields(within, key + "/", levels - 1)
        try:
            return self.construct(within, fields, key)
        except Refusal as exc:
            text = f"{key!r}: {exc}"
            raise ConfigValueError(text, key=key, revision=self.revision, exception=exc.exception) from exc

    def _below(self, prefix: str, record: Record | None, levels: int) -> list[str]:
        """Return the present keys of a record's fields."""
        if record is None:
            return []
        return sorted(key for key in self._origin.below(prefix) if record.has(key[len(prefix) :], levels))
