"""A refusal: why a value is not of a type, in words that never show the value.

Somebody else's code may quote what it refuses: pydantic does, `enum.Flag` does, and so does many a
`raise ValueError(f"not {value}")`. Of such an exception the class is told, and of pydantic's the place and the
kind of each error; an `InvalidValue` is told in its own words. The exception itself travels beside the refusal,
never as its cause or context, from where it would get into every traceback that is logged or recorded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from tideover.errors import InvalidValue

P = ParamSpec("P")
T = TypeVar("T")

# Kinds of errors of pydantic's whose place is a name that there is no field for.
_UNKNOWN = frozenset({"extra_forbidden", "unexpected_keyword_argument"})
# How many errors of one value are told.
_MOST_ERRORS = 5
# Names of fields in the code of this process: none of them tells anything of a value.
field_names: set[str] = set()


class Refusal(ValueError):
    """Raised when a value is not of a type; the text may be logged.

    Attributes:
        exception: What somebody else's code has raised; None if tideover has refused by itself.
    """

    def __init__(self, text: str, exception: Exception | None = None) -> None:
        super().__init__(text)
        self.exception = exception

    def at(self, place: str) -> Refusal:
        """Return it as the refusal of something that contains the value."""
        return type(self)(f"{place}: {self}", self.exception)


def asking(who: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call somebody else's code, which may refuse a value by raising whatever it likes.

    Args:
        who: The type or the validator.
        function: What to call.
        *args: What with.
        **kwargs: What with.

    Returns:
        What it returns.

    Raises:
        Refusal: It has raised something.
    """
    try:
        return function(*args, **kwargs)
    except Refusal:
        raise
    except RecursionError:
        refusal = Refusal("nested too deeply")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as exc:  # noqa: BLE001  # that is how it refuses: nothing here waits, or may be cancelled
        told = str(exc) if isinstance(exc, InvalidValue) else f"{who} refuses it: {_told(exc)}"
        refusal = Refusal(told, exc if isinstance(exc, Exception) else None)
    # Not within the block: the exception would become its context.
    raise refusal


def blamed(refusal: Refusal) -> frozenset[str]:
    """Return the fields that a record's own checks have refused, by name; none if they do not say, or mean all."""
    pydantic = sys.modules.get("pydantic_core")
    if pydantic is None or not isinstance(refusal.exception, pydantic.ValidationError):
        return frozenset()
    places = [error["loc"] for error in refusal.exception.errors(include_input=False, include_url=False)]
    return frozenset(str(place[0]) for place in places) if all(places) else frozenset()


def _told(exc: BaseException) -> str:
    if isinstance(exc, InvalidValue):
        return str(exc)
    if isinstance(exc, BaseExceptionGroup):
        return "; ".join(map(_told, exc.exceptions))
    name = type(exc).__name__
    pydantic = sys.modules.get("pydantic_core")
    if pydantic is None or not isinstance(exc, pydantic.ValidationError):
        return name
    # What is checked by itself has a type for a title, such as `dict[str,int]`, and no fields.
    has_fields = exc.title.isidentifier()
    errors = exc.errors(include_input=False, include_url=False)
    told = [_told_of_pydantic(error, has_fields) for error in errors[:_MOST_ERRORS]]
    more = [f"and {len(errors) - len(told)} more"] if len(errors) > len(told) else []
    return f"{name}: {'; '.join(told + more)}"


def _told_of_pydantic(error: dict[str, Any], has_fields: bool) -> str:
    """Return where and what kind an error is: its message quotes what a validator has raised.

    Of the place names of fields and indices are told; what else is text may be the key of a dict.
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
