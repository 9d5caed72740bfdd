"""A refusal: why a value is not of a type, in words that never show the value.

Foreign code may quote the value it refuses: pydantic does, `enum.Flag` does, and so does many a `raise
ValueError(f"not {value}")`. A refusal names only the class of such an exception, and of pydantic's the place and
the kind of each error; an `InvalidValue` keeps its own words. The exception itself travels beside the refusal,
never as its cause or context, where every logged or recorded traceback would show it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from tideover.errors import InvalidValue

P = ParamSpec("P")
T = TypeVar("T")

# Kinds of pydantic's errors whose place is a name without a field.
_UNKNOWN = frozenset({"extra_forbidden", "unexpected_keyword_argument"})
# The most errors of one value that a refusal names.
_MOST_ERRORS = 5
# Names of fields in this process's code, which show nothing of a value.
field_names: set[str] = set()


class Refusal(ValueError):
    """Raised when a value is not of a type; the text may be logged.

    Attributes:
        exception: The foreign code's; None where tideover itself refuses.
    """

    def __init__(self, text: str, exception: Exception | None = None) -> None:
        super().__init__(text)
        self.exception = exception

    def at(self, place: str) -> Refusal:
        """Return the refusal of the record or list that contains the value at `place`."""
        return type(self)(f"{place}: {self}", self.exception)


def asking(who: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call foreign code named `who`, which may refuse a value by raising anything; raise that as `Refusal`."""
    try:
        return function(*args, **kwargs)
    except Refusal:
        raise
    except RecursionError:
        refusal = Refusal("nested too deeply")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as exc:  # noqa: BLE001  # nothing here waits or may be cancelled
        told = str(exc) if isinstance(exc, InvalidValue) else f"{who} refuses it: {_reason_of(exc)}"
        refusal = Refusal(told, exc if isinstance(exc, Exception) else None)
    # Outside the block, or the exception would become the refusal's context.
    raise refusal


def blamed(refusal: Refusal) -> frozenset[str]:
    """Return the names of the fields that a record's own checks refused; none if unknown, or if all."""
    pydantic = sys.modules.get("pydantic_core")
    if pydantic is None or not isinstance(refusal.exception, pydantic.ValidationError):
        return frozenset()
    places = [error["loc"] for error in refusal.exception.errors(include_input=False, include_url=False)]
    return frozenset(str(place[0]) for place in places) if all(places) else frozenset()


def _reason_of(exc: BaseException) -> str:
    if isinstance(exc, InvalidValue):
        return str(exc)
    if isinstance(exc, BaseExceptionGroup):
        return "; ".join(map(_reason_of, exc.exceptions))
    name = type(exc).__name__
    pydantic = sys.modules.get("pydantic_core")
    if pydantic is None or not isinstance(exc, pydantic.ValidationError):
        return name
    # A type checked by itself, such as `dict[str,int]`, is the title, and has no fields.
    has_fields = exc.title.isidentifier()
    errors = exc.errors(include_input=False, include_url=False)
    told = [_reasons_of_pydantic(error, has_fields) for error in errors[:_MOST_ERRORS]]
    more = [f"and {len(errors) - len(told)} more"] if len(errors) > len(told) else []
    return f"{name}: {'; '.join(told + more)}"


def _reasons_of_pydantic(error: dict[str, Any], has_fields: bool) -> str:
    """Return the place and the kind of an error, without its message, which quotes the validator's.

    The place shows fields and indices only; other text may be the key of a dict.
    """
    context, place = error.get("ctx"), error["loc"]
    cause = context.get("error") if isinstance(context, dict) else None
    what = str(cause) if isinstance(cause, InvalidValue) else str(error["type"])
    named = has_fields and error["type"] not in _UNKNOWN
    path = ".".join(
        str(part) if isinstance(part, int) or part in field_names or (named and at == 0) else "[key]"
        for at, part in enumerate(place)
    )
    return f"{path}: {what}" if path else what
