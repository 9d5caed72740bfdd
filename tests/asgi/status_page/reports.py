"""A report with one of everything, made of the records' types, so that a new field is filled as well."""

from __future__ import annotations

import dataclasses
import types
import typing
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Literal, Union

from tideover.status import StatusReport
from tideover.types import HealthState

NOW = datetime(2026, 3, 14, 3, 12, 7, tzinfo=UTC)


def with_text(text: str, state: HealthState = HealthState.DEGRADED) -> StatusReport:
    """Return a report in which every text that is not one of tideover's own words is this one."""
    report: StatusReport = _made(StatusReport, text)
    return dataclasses.replace(report, state=state)


def _made(kind: Any, text: str) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return _made(next(each for each in reversed(inner) if each is not type(None)), text)
    if origin is Literal:
        return inner[0]
    if origin is tuple:
        return tuple(_made(each, text) for each in inner if each is not Ellipsis)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return list(kind)[-1]
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{field.name: _made(hints[field.name], text) for field in dataclasses.fields(kind)})
    return {str: text, int: 3, float: 42.5, bool: True, datetime: NOW}[kind]
