"""What all records that users are handed have in common: frozen, and ready to be sent as JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from datetime import date, timedelta
from enum import Enum
from typing import Any, ClassVar, TypeVar, dataclass_transform

R = TypeVar("R", bound="Record")


class UnknownAge(float, Enum):
    """The age of what was never proven: infinite wherever it is compared or computed with, and null in JSON.

    JSON has no infinity, and a framework that refuses it would answer 500 just when etcd has never been seen. One
    that makes JSON of records by itself, such as FastAPI, takes the value of an enum's member, which is None here.
    Fields are annotated `UnknownAge | float`, in that order: pydantic 2.7 writes a value as the first that fits.
    """

    UNKNOWN = math.inf

    def __new__(cls, seconds: float) -> UnknownAge:
        """Be infinite, and none in JSON."""
        age = float.__new__(cls, seconds)
        age._value_ = None
        return age

    # An enum would show its name.
    __repr__ = float.__repr__
    __str__ = float.__str__
    __format__ = float.__format__  # type: ignore[assignment]
    __hash__ = float.__hash__


class Record:
    """What the records have in common; each is a frozen dataclass.

    Comparing, hashing and showing are here, and not made for each class again: that would be a third of the time
    that it takes to import the records.
    """

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def __post_init__(self) -> None:
        """Let no number be infinite but as an unknown age."""
        # Not by `fields()`, which takes several times as long: a report has dozens of records.
        for name in self.__dataclass_fields__:
            self._mark_unknown(name)

    def __repr__(self) -> str:
        fields = (f"{name}={getattr(self, name)!r}" for name in self.__dataclass_fields__)
        return f"{type(self).__qualname__}({', '.join(fields)})"

    def __eq__(self, other: object) -> bool:
        """Compare all fields of two records of one class, as of a dataclass."""
        if not isinstance(other, Record) or other.__class__ is not self.__class__:
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        """Return what is equal for equal records."""
        return hash(self._values())

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__dataclass_fields__)

    def _mark_unknown(self, name: str) -> None:
        value = getattr(self, name)
        if value.__class__ is float and value == math.inf:
            object.__setattr__(self, name, UnknownAge.UNKNOWN)

    def to_dict(self) -> dict[str, object]:
        """Return the record as JSON-ready values; an unknown (infinite) age becomes null."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}


@dataclass_transform(frozen_default=True)
def record(made: type[R]) -> type[R]:
    """Make a class that is a `Record` a frozen dataclass with slots."""
    return dataclasses.dataclass(frozen=True, slots=True, eq=False, repr=False)(made)


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return str(value)
