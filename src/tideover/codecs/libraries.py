"""Types of other libraries, which read and write their values themselves.

A library is known once its module of `tideover.contrib` is imported. From then on each class or note in
`Annotated` that the library claims is read by the library, anywhere in a type. Nothing here imports a library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, get_args, get_origin

PYDANTIC = "tideover.contrib.pydantic"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a dataclass, a `TypedDict`, or a record of another library's."""

    name: str
    form: object
    required: bool


class Library(Protocol):
    """Reads and writes the types of one library."""

    def claims(self, part: object) -> bool:
        """Whether a class, or a note in `Annotated`, is the library's."""

    def is_scalar(self, form: object) -> bool:
        """Whether the values of one of its types are stored as plain text."""

    def converter(self, form: object) -> Callable[[object], object]:
        """Return the converter of one of its types, or of a union with one; raise as `structures.converter`."""

    def plain(self, value: object) -> object:
        """Return the JSON form of one of its values, which reads back as the same; else raise `ValueError`."""

    def is_record(self, form: type) -> bool:
        """Whether one of its types has fields."""

    def fields(self, form: type) -> tuple[Field, ...]:
        """Return the fields of one of its records, by their stored names."""

    def construct(self, form: type, fields: Mapping[str, object]) -> object:
        """Make one of its records from fields; any exception refuses them."""


class ImportNeeded(TypeError):
    """Raised when a type cannot be decoded before a module of `tideover.contrib` is imported."""


# Filled by `decoding.add_library`.
libraries: list[Library] = []


def library_of(form: object) -> Library | None:
    """Return the library that claims a type's class or note; None for any other type."""
    if not libraries:
        return None
    origin = get_origin(form)
    parts: tuple[Any, ...] = get_args(form)[1:] if origin is Annotated else (origin or form,)
    return next((library for library in libraries if any(map(library.claims, parts))), None)


def module_for(form: object) -> str | None:
    """Return the module to import so that a type can be decoded; None if there is none."""
    made = get_origin(form) or form
    if isinstance(made, type) and hasattr(made, "__get_pydantic_core_schema__"):
        return PYDANTIC
    return None


def how_to_import(module: str) -> str:
    """Return the advice for a type that needs a module of `tideover.contrib`."""
    return f"import {module} first (pip install 'tideover[{module.rpartition('.')[2]}]')"
