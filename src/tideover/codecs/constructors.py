"""Whether a dataclass's constructor takes its fields by name, as stored objects name them."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

from tideover.codecs.libraries import PYDANTIC, ImportNeeded, how_to_import

_BY_NAME = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def check_constructor(record: Any, fields: Collection[str]) -> None:
    """Check that a dataclass takes each of its fields by name, and needs nothing else.

    Raises:
        TypeError: The dataclass does not: values would be refused or, worse, silently left out.
        ImportNeeded: The same, and pydantic would take them by their aliases.
    """
    try:
        parameters = inspect.signature(record).parameters
    except ValueError:  # written in C
        return
    start = f"cannot decode configuration as {record.__name__}:"
    known = getattr(record, "__pydantic_fields__", {})
    for name in fields:
        if name not in known:
            if not _accepts(parameters, name):
                raise TypeError(f"{start} its __init__ takes no {name!r} by name")
        elif not _is_by_name(record) and known[name].validation_alias and name not in _aliases(known[name])[1:]:
            raise ImportNeeded(
                f"{start} {name!r} is taken by its alias alone, and what is stored names the fields: "
                f"set populate_by_name=True in its config, or {how_to_import(PYDANTIC)}"
            )
    # The names that pydantic's signature may show instead of a field's.
    aliases = [alias for name in fields if name in known for alias in _aliases(known[name])]
    for name, parameter in parameters.items():
        variable = parameter.kind in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        if parameter.default is parameter.empty and not variable and name not in fields and name not in aliases:
            raise TypeError(f"{start} it needs {name!r}, which is none of its fields: give it a default")


def _accepts(parameters: Mapping[str, inspect.Parameter], name: str) -> bool:
    if name in parameters:
        return parameters[name].kind in _BY_NAME
    return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())


def _is_by_name(record: Any) -> bool:
    """Whether a pydantic dataclass takes its fields by name, whatever their aliases."""
    config = getattr(record, "__pydantic_config__", {})
    return bool(config.get("populate_by_name") or config.get("validate_by_name"))


def _aliases(field: Any) -> tuple[object, ...]:
    alias = field.validation_alias
    return (field.alias, alias, *getattr(alias, "choices", ()))
