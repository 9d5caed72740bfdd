"""pydantic's types as configuration: models, its dataclasses, its own types, and notes such as `Field(gt=0)`.

What is pydantic's, pydantic validates, by its own rules and in its lax mode. It is never given the bytes in etcd:
those pass the decoder that all values pass, which refuses what no value may have in it, and counts; what was
decoded is handed on as JSON, so that a type reads the same by itself and within one of our own. A scalar with
notes, such as `Annotated[timedelta, Field(gt=...)]`, is read as the scalar is, and then checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any, get_args, get_origin

import pydantic
from annotated_types import BaseMetadata, GroupedMetadata
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

from tideover.codecs import asking, name_of
from tideover.codecs.decoding import is_scalar
from tideover.codecs.forms import options_of, stripped
from tideover.codecs.libraries import Field, library_of
from tideover.codecs.refusals import field_names
from tideover.codecs.structures import converter
from tideover.contrib.pydantic.dumping import as_json, as_plain
from tideover.contrib.pydantic.fields import ByKey, fields_by_key, is_json, is_model, is_record, read_by_key
from tideover.contrib.pydantic.schemas import charging, names_in
from tideover.shown import shown

# Of a schema: what sees a value before it has become of the type.
_BEFORE = ("function-before", "function-wrap", "function-plain")
# Errors of pydantic's about types that are not there yet.
_UNDEFINED = ("class-not-fully-defined", "undefined-annotation")
_CONTAINERS = (list, tuple, set, frozenset, dict, Mapping)


class Pydantic:
    """What reads and writes pydantic's types; see `tideover.codecs.libraries.Library`."""

    def claims(self, part: object) -> bool:
        """Whether a class or a note is pydantic's, or says itself how pydantic validates it."""
        if isinstance(part, ByKey | BaseMetadata | GroupedMetadata) or is_model(part):
            return True
        is_class = isinstance(part, type)
        made = part if isinstance(part, type) else type(part)
        # Before 2.10 URLs are of pydantic_core, and say nothing of themselves.
        own = made.__module__.partition(".")[0] == ("pydantic_core" if is_class else "pydantic")
        return own or hasattr(made, "__get_pydantic_core_schema__")

    def is_scalar(self, form: object) -> bool:
        """Whether the values of a type are stored as plain text: not if it is a model or has parts."""
        if get_origin(form) is Annotated:
            inner, *notes = get_args(form)
            return any(isinstance(note, ByKey) or is_json(note) for note in notes) or is_scalar(stripped(inner))
        made = get_origin(form) or form
        if isinstance(made, type) and issubclass(made, pydantic.RootModel):
            return is_scalar(stripped(made.model_fields["root"].annotation))
        return not is_model(made) and not (isinstance(made, type) and issubclass(made, _CONTAINERS))

    def converter(self, form: object) -> Callable[[object], object]:
        """Return the converter of a type."""
        if get_origin(form) is Annotated:
            inner, *notes = get_args(form)
            by_key = next((note for note in notes if isinstance(note, ByKey)), None)
            if by_key is not None:
                return read_by_key(inner, by_key)
            if library_of(stripped(inner)) is None and is_scalar(stripped(inner)):
                return self._checked(form, inner)
        adapter = adapter_of(form)
        charge, name = charging(adapter.core_schema), " | ".join(map(name_of, _named(form)))

        def convert(value: object) -> object:
            charge(value)
            return asking(name, lambda: adapter.validate_json(as_json(value)))

        return convert

    def _checked(self, form: object, inner: object) -> Callable[[object], object]:
        """Return the converter of a scalar of our own with notes of pydantic's."""
        adapter, name, read = adapter_of(form, arbitrary=True), name_of(inner), converter(inner)
        if _sees_text(adapter.core_schema):
            return lambda value: asking(name, lambda: adapter.validate_json(as_json(value)))
        return lambda value: asking(name, adapter.validate_python, read(value))

    def plain(self, value: object) -> object:
        """Return a value as JSON would have it, secrets included."""
        return as_plain(adapter_of(type(value)), value)

    def is_record(self, form: type) -> bool:
        """Whether a type is a model with fields."""
        return is_record(form)

    def fields(self, form: type) -> tuple[Field, ...]:
        """Return the fields of a model, as keys name them: by aliases where it has them."""
        return fields_by_key(form)

    def construct(self, form: type, fields: Mapping[str, object]) -> object:
        """Make a model of its fields."""
        return adapter_of(form).validate_python(dict(fields))


def adapter_of(form: Any, *, arbitrary: bool = False) -> pydantic.TypeAdapter[Any]:
    """Return what validates and writes a type.

    Args:
        arbitrary: Whether a class that pydantic does not know may be in it, of which only the class is checked.

    Raises:
        TypeError: pydantic knows no such type.
        NameError: A type that it is made of has not been defined yet.
    """
    try:
        return _adapter_of_class(form) if isinstance(form, type) else _made(form, arbitrary)
    except (PydanticUserError, PydanticUndefinedAnnotation) as exc:
        if exc.code in _UNDEFINED:
            name = f", such as {exc.name!r}" if isinstance(exc, PydanticUndefinedAnnotation) else ""
            text = f"{name_of(form)} is made of what is not defined yet{name}"
            raise NameError(f"{text}: define it, then call model_rebuild()") from None
        raise TypeError(shown(str(exc).partition("\n")[0])) from None


def _made(form: Any, arbitrary: bool) -> pydantic.TypeAdapter[Any]:
    config = pydantic.ConfigDict(arbitrary_types_allowed=True) if arbitrary else None
    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(form, config=config)
    # Which raises if something is not defined yet.
    field_names.update(names_in(adapter.core_schema))
    return adapter


@lru_cache(maxsize=1024)
def _adapter_of_class(form: type) -> pydantic.TypeAdapter[Any]:
    return _made(form, False)


def _named(form: object) -> list[object]:
    """Return what a type is named after: without None, which needs no name."""
    return [option for option in options_of(form) if option not in (None, type(None))]


def _sees_text(schema: Any) -> bool:
    """Whether a validator is asked before a value has become of the type."""
    while schema["type"] not in _BEFORE:
        if "schema" not in schema:
            return False
        schema = schema["schema"]
    return True
