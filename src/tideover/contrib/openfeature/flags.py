"""A value in etcd as a flag, and the types that the flag may be evaluated as.

A value is JSON. An object with the member `variants` names its values, and which of them is served:

    {"variants": {"on": true, "off": false}, "default": "on", "disabled": true}

Anything else is the value itself. That one member decides, and an object with it that is not of this form is
refused: a misspelled `default` would else serve the whole object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openfeature.exception import TypeMismatchError
from openfeature.flag_evaluation import Reason

from tideover.foreign_bytes import Malformed, load_json

if TYPE_CHECKING:
    from openfeature.flag_evaluation import FlagValueType

_MEMBERS = frozenset({"variants", "default", "disabled"})
# A larger `float` may stand for another integer than was written.
_EXACT = 2**53


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag as it is defined in etcd.

    Attributes:
        value: None where the caller's default is served.
        left_to: Why the caller's default is served; None where it is not.
        problem: Why the value is no flag; empty for a flag.
    """

    value: object = None
    variant: str | None = None
    left_to: Reason | None = None
    problem: str = ""


def parse(raw: bytes) -> Flag:
    """Parse a value in etcd; no text shows the value."""
    try:
        found = load_json(raw)
        return _defined(found) if isinstance(found, dict) and "variants" in found else Flag(found)
    except Malformed as exc:
        return Flag(problem=str(exc))


def _defined(definition: Mapping[str, object]) -> Flag:
    variants, default = definition["variants"], definition.get("default")
    disabled = definition.get("disabled", False)
    if not definition.keys() <= _MEMBERS:
        raise Malformed("beside 'variants' it has a member that is neither 'default' nor 'disabled'")
    if not isinstance(variants, dict):
        raise Malformed("its 'variants' are no object")
    if not isinstance(disabled, bool):
        raise Malformed("its 'disabled' is neither true nor false")
    if default is not None and (not isinstance(default, str) or default not in variants):
        raise Malformed("its 'default' is none of its variants")
    if disabled:
        return Flag(left_to=Reason.DISABLED)
    if default is None:
        return Flag(left_to=Reason.DEFAULT)
    return Flag(variants[default], default)


def boolean(value: object) -> bool:
    """Return a flag's value as a boolean.

    Raises:
        TypeMismatchError: The value is of another type, as in all functions here; the text does not show the
            value.
    """
    if isinstance(value, bool):
        return value
    raise _mismatch(value, "a boolean")


def string(value: object) -> str:
    """Return a flag's value as a string."""
    if isinstance(value, str):
        return value
    raise _mismatch(value, "a string")


def integer(value: object) -> int:
    """Return a flag's value as an integer: `1.0` is one, for JSON has one kind of number, and `true` is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    raise _mismatch(value, "an integer")


def floating(value: object) -> float:
    """Return a flag's value as a float: `1` is one, and `true` is none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise _mismatch(value, "a float")


def structure(value: object) -> Sequence[FlagValueType] | Mapping[str, FlagValueType]:
    """Return a flag's value as an object or a list."""
    if isinstance(value, dict | list):
        return value
    raise _mismatch(value, "an object or a list")


_KINDS: Mapping[type, str] = {
    bool: "a boolean",
    str: "a string",
    int: "an integer",
    float: "a float",
    dict: "an object",
    list: "a list",
}


def _mismatch(value: object, wanted: str) -> TypeMismatchError:
    return TypeMismatchError(f"the flag is {_KINDS.get(type(value), 'null')}, not {wanted}")
