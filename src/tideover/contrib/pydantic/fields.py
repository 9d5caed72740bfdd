"""Fields of models as keys of their own: which keys a field may have, and what pydantic is given of their text.

As with environment variables pydantic gets a text as it is, or what it is as JSON if the field is of more than one
part, and checks everything at once: so validators of all kinds see what they see there. Two things are read as
elsewhere in this package: durations such as `250ms`, besides pydantic's own, and `null` where a field may be None.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

import pydantic
from pydantic.dataclasses import is_pydantic_dataclass
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
from pydantic.fields import FieldInfo

from tideover.codecs import Refusal, record_of
from tideover.codecs.decoding import is_scalar, parse_json
from tideover.codecs.forms import options_of
from tideover.codecs.libraries import Field
from tideover.codecs.scalars import SCALARS, plain
from tideover.contrib.pydantic.schemas import charging

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class ByKey:
    """A note: the type is that of a field with a key of its own; if `parsed`, what is no scalar is JSON."""

    parsed: bool = True


def is_model(form: object) -> bool:
    """Whether a type is a model or a dataclass of pydantic's."""
    return isinstance(form, type) and (issubclass(form, pydantic.BaseModel) or is_pydantic_dataclass(form))


def infos_of(form: Any) -> dict[str, FieldInfo]:
    """Return the fields that a model or dataclass of pydantic's is given, by their names."""
    infos = form.model_fields if issubclass(form, pydantic.BaseModel) else form.__pydantic_fields__
    return {name: info for name, info in infos.items() if getattr(info, "init", None) is not False}


def paths_of(form: Any, name: str, info: FieldInfo) -> tuple[Path, ...]:
    """Return where a field may stand in what is validated: by its aliases, in their order, or by its name."""
    config = getattr(form, "model_config", None) or getattr(form, "__pydantic_config__", None) or {}
    alias = info.validation_alias if config.get("validate_by_alias") is not False else None
    choices = alias.choices if isinstance(alias, pydantic.AliasChoices) else [alias]
    paths = [tuple(each.path) if isinstance(each, pydantic.AliasPath) else (each,) for each in choices if each]
    if not paths or config.get("populate_by_name") or config.get("validate_by_name"):
        paths.append((name,))
    return tuple(paths)


def set_at(fields: dict[str, Any], path: Path, value: object) -> None:
    """Put a value where an alias finds it; what an index is part of has no such place.

    Raises:
        ValueError: There is none.
    """
    names = [each for each in path if isinstance(each, str)]
    if len(names) < len(path):
        raise ValueError("a list has no single items to write")
    for each in names[:-1]:
        fields = fields.setdefault(each, {})
    fields[names[-1]] = value


def is_record(form: type) -> bool:
    """Whether a type is a model with fields."""
    return is_model(form) and not issubclass(form, pydantic.RootModel)


def fields_by_key(form: type) -> tuple[Field, ...]:
    """Return the fields of a model for which there may be keys, as `bind` reads them."""
    found: dict[str, Field] = {}
    for name, info in infos_of(form).items():
        paths = paths_of(form, name, info)
        for path in paths:
            head = str(path[0])
            required = info.is_required() and len(paths) == 1
            if len(path) > 1:
                found[head] = Field(head, Annotated[Any, ByKey()], required)
            elif head not in found:
                found[head] = Field(head, form_of(info), required)
    return tuple(found.values())


def form_of(info: FieldInfo) -> object:
    """Return the type to read a field's key as, which may have keys below it if it is a record."""
    if any(record_of(option) is not None for option in options_of(info.annotation)):
        return info.annotation
    return text_of(info)


def text_of(info: FieldInfo, *, parsed: bool = True) -> object:
    """Return the type to read the text of a field's key as; `Json` parses it itself."""
    return Annotated[info.annotation or Any, ByKey(parsed and not any(map(is_json, info.metadata)))]


def is_json(note: object) -> bool:
    """Whether a note says that pydantic parses a text itself."""
    return isinstance(note, pydantic.Json)


def read_by_key(form: object, note: ByKey) -> Callable[[object], object]:
    """Return what makes of a key's text what pydantic is given for a field."""
    options = options_of(form)
    may_be_none = None in options or type(None) in options
    some = [option for option in options if option not in (None, type(None))]
    is_parsed = note.parsed and not all(is_scalar(option) for option in some)
    is_text = not note.parsed or any(is_scalar(option) or option in (Any, object) for option in some)
    keeps_space = str in some or not all(isinstance(option, type) and is_scalar(option) for option in some)
    secret = next((each for each in some if isinstance(each, type) and issubclass(each, _SECRETS)), None)
    charge = _charging(form)

    def read(value: object) -> object:
        text = str(value)
        if may_be_none and text.strip() == "null":
            return None
        if is_parsed:
            try:
                found = parse_json(text)
            except Refusal:
                if not is_text:
                    raise
            else:
                charge(found)
                return plain(found)
        if timedelta in some:
            try:
                return SCALARS[timedelta](text)
            except Refusal:  # `PT1M` and the like
                return text.strip()
        if secret is not None:
            return secret(text)  # errors quote what pydantic is given
        return text if keeps_space else text.strip()

    return read


_SECRETS = (pydantic.SecretStr,)


def _charging(form: Any) -> Callable[[object], None]:
    try:
        return charging(pydantic.TypeAdapter(form).core_schema)
    except (PydanticUserError, PydanticUndefinedAnnotation):  # only its model can say what it is
        return charging({})
