"""A refusal: why a value is not of a type, in words that never show the value.

Somebody else's code may quote what it refuses: pydantic does, `enum.Flag` does, and so does many a
`raise ValueError(f"not {value}")`. Of such an exception the class is told, and of pydantic's the place and the
kind of each error; an `InvalidValue` is told in its own words. The exception itself travels beside the refusal,
never as its cause or context, from where it would get into every traceback that is logged or recorded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from tideover.errors import InvalidValue

P = ParamSpec("P")
T = TypeVar("T")


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
        return Refusal(f"{place}: {self}", self.exception)


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
    except Exception as exc:  # noqa: BLE001  # that is how it refuses
        refusal = Refusal(str(exc) if isinstance(exc, InvalidValue) else f"{who} refuses it: {_told(exc)}", exc)
    # Not within the block: the exception would become its context.
    raise refusal


def _told(exc: BaseException) -> str:
    if isinstance(exc, InvalidValue):
        return str(exc)
    if isinstance(exc, BaseExceptionGroup):
        return "; ".join(map(_told, exc.exceptions))
    name = type(exc).__name__
    pydantic = sys.modules.get("pydantic_core")
    if pydantic is None or not isinstance(exc, pydantic.ValidationError):
        return name
    return f"{name}: {'; '.join(map(_told_of_pydantic, exc.errors(include_input=False, include_url=False)))}"


def _told_of_pydantic(error: dict[str, object]) -> str:
    """Return where and what kind an error is: its message quotes what a validator has raised."""
    context, place = error.get("ctx"), error["loc"]
    cause = context.get("error") if isinstance(context, dict) else None
    what = str(cause) if isinstance(cause, InvalidValue) else str(error["type"])
    path = ".".join(str(part) if str(part).isidentifier() else repr(part) for part in place)  # type: ignore[attr-defined]
    return f"{path}: {what}" if path else what
