"""Types of other libraries, which read and write their values themselves, and which library that is.

A library is known once its module of `tideover.contrib` is imported. What it claims, be it a class or a note in
`Annotated`, is its own from then on, wherever it stands in a type. Nothing here imports any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, get_args, get_origin

PYDANTIC = "tideover.contrib.pydantic"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a dataclass, a `TypedDict`, or a record of another library's.

    Attributes:
        name: Its name.
        form: Its type.
        required: Whether it may not be left out.
    """

    name: str
    form: object
    required: bool


class Library(Protocol):
    """What reads and writes the types of one library."""

    def claims(self, part: object) -> bool:
        """Whether a class, or a note in `Annotated`, is the library's."""

    def is_scalar(self, form: object) -> bool:
        """Whether the values of one of its types are stored as plain text."""

    def converter(self, form: object) -> Callable[[object], object]:
        """Return the converter of one of its types, or of a union with one.

        Raises:
            TypeError: The library cannot decode the type.
            NameError: A type that it is made of has not been defined yet.
        """

    def plain(self, value: object) -> object:
        """Return one of its values as JSON would have it, so that it reads back as the same.

        Raises:
            TypeError: It cannot be stored.
            ValueError: It would not read back as the same.
        """

    def is_record(self, form: type) -> bool:
        """Whether one of its types has fields."""

    def fields(self, form: type) -> tuple[Field, ...]:
        """Return the fields of one of its records, as what is stored names them."""

    def construct(self, form: type, fields: Mapping[str, object]) -> object:
        """Make one of its records of its fields; whatever that raises refuses them."""


class ImportNeeded(TypeError):
    """Raised when a type cannot be decoded before a module of `tideover.contrib` is imported."""


# Filled by `decoding.add_library`.
libraries: list[Library] = []


def library_of(form: object) -> Library | None:
    """Return the library whose a type is, by its class or by a note; None for any other type."""
    if not libraries:
        return None
    origin = get_origin(form)
    parts: tuple[Any, ...] = get_args(form)[1:] if origin is Annotated else (origin or form,)
    return next((library for library in libraries if any(map(library.claims, parts))), None)


def module_for(form: object) -> str | None:
    """Return the module whose import makes a type one that can be decoded; None if there is none."""
    made = get_origin(form) or form
    if isinstance(made, type) and hasattr(made, "__get_pydantic_core_schema__"):
        return PYDANTIC
    return None


def how_to_import(module: str) -> str:
    """Return what a user does about a type that needs a module of `tideover.contrib`."""
    return f"import {module} first (pip install 'tideover[{module.rpartition('.')[2]}]')"
