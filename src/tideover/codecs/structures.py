"""Types made of other types: unions, dataclasses, dicts, lists."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args, get_origin

from tideover.codecs.choices import choice, enum_choice
from tideover.codecs.forms import (
    fields_of,
    identity,
    is_alias,
    is_union,
    name_of,
    options_of,
    record_of,
    stripped,
)
from tideover.codecs.libraries import ImportNeeded, Library, how_to_import, library_of, module_for
from tideover.codecs.one_value import REFUSED, TooMuch, once, require_spread, spend
from tideover.codecs.refusals import Refusal, asking
from tideover.codecs.scalars import SCALARS, Convert, Written, plain, scalar, shape_of_address, to_none
from tideover.shown import shown

_SUPPORTED = (
    f"{', '.join(sorted(form.__name__ for form in SCALARS))}, paths, enums, Literal, subclasses of str, int and "
    "float; dataclasses and TypedDicts; list, tuple, set, frozenset, dict and unions of these"
)


def converter(form: object) -> Convert:
    """Return the function that turns text, or a JSON value, into a value of a type, or raises `Refusal`.

    Raises:
        TypeError: The type, or one that it is made of, cannot be decoded.
        NameError: A type that it is made of has not been defined yet.
    """
    try:
        return _Converters(form).of(form)
    except RecursionError:
        raise TypeError(f"cannot decode configuration as {name_of(form)}: it has no end") from None


class _Converters:
    """Makes the converters of all parts of one type, before there is a value."""

    def __init__(self, whole: object) -> None:
        self._whole = whole
        # Converters of types that may contain themselves; those being made; and those that do contain themselves.
        self._named: dict[object, Convert] = {}
        self._begun: set[object] = set()
        self._recursive: set[object] = set()

    def of(self, form: object, where: str = "") -> Convert:
        """Return the converter of a part of the whole type, at `where`."""
        if not is_alias(form) and (record_of(form) is None or library_of(form) is not None):
            return self._make(stripped(form), where)
        name = identity(form)
        if name in self._begun:
            self._recursive.add(name)
            return lambda value: self._named[name](value)
        if name not in self._named:
            self._begun.add(name)
            convert = self._make(stripped(form), where)
            self._named[name] = once(convert, name) if name in self._recursive else convert
            self._begun.discard(name)
        return self._named[name]

    def _make(self, form: object, where: str) -> Convert:
        origin, arguments = get_origin(form), get_args(form)
        if (library := next(filter(None, map(library_of, options_of(form))), None)) is not None:
            return self._library(library, form, where)
        if form is Any or form is object:
            return plain
        if form is None or form is type(None):
            return to_none
        if origin is Literal:
            return choice([(option, option) for option in arguments], map(repr, arguments))
        if is_union(form):
            return _union([(option, self.of(option, where or "the value")) for option in options_of(form)])
        if isinstance(form, type) and issubclass(form, enum.Enum):
            return enum_choice(form)
        if isinstance(form, type) and (convert := scalar(form)) is not None:
            return convert
        if (record := record_of(form)) is not None:
            return self._record(form, record, where or record.__name__)
        container = origin or form
        if isinstance(container, type) and container in _CONTAINERS:
            return self._container(_CONTAINERS[container], arguments, where or "the value")
        if (module := module_for(form)) is not None:
            raise ImportNeeded(f"{self._cannot(form, where)}: {how_to_import(module)}")
        raise TypeError(self._unsupported(form, where))

    def _library(self, library: Library, form: object, where: str) -> Convert:
        try:
            return library.converter(form)
        except TypeError as exc:
            raise TypeError(f"{self._cannot(form, where)}: {exc}") from None

    def _record(self, form: object, record: type, where: str) -> Convert:
        # Tags first: a record that they refuse needs no further look.
        fields = sorted(fields_of(form) or (), key=lambda field: get_origin(stripped(field.form)) is not Literal)
        known = {field.name: self.of(field.form, f"{where}.{field.name}") for field in fields}
        required = frozenset(field.name for field in fields if field.required)
        make = partial(construct, record)
        return lambda value: make(_fields(value, known, required, record.__name__))

    def _container(self, make: type, arguments: tuple[object, ...], where: str) -> Convert:
        if make is dict:
            key, value = arguments or (str, Any)
            return _dict(self.of(key, f"{where}[key]"), self.of(value, f"{where}[value]"))
        if make is tuple and arguments and arguments[-1] is not Ellipsis:
            return _fixed_tuple([self.of(form, f"{where}[{at}]") for at, form in enumerate(arguments)])
        return _items(make, self.of(arguments[0] if arguments else Any, f"{where}[]"))

    def _unsupported(self, form: object, where: str) -> str:
        if not where and not isinstance(form, type) and get_origin(form) is None:
            return f"cannot decode configuration as {form!r}, which is no type; a default is given as default="
        return f"{self._cannot(form, where)}; supported are {_SUPPORTED}"

    def _cannot(self, form: object, where: str) -> str:
        text = f"cannot decode configuration as {name_of(self._whole)}"
        return f"{text}, in which {where} is {name_of(form)}" if where else text


def construct(form: type, fields: Mapping[str, object]) -> object:
    """Make a dataclass or a library's record, whose own checks may refuse the fields, or a `TypedDict`."""
    if (library := library_of(form)) is not None:
        return asking(form.__name__, library.construct, form, fields)
    if not dataclasses.is_dataclass(form):
        return dict(fields)
    return asking(form.__name__, form, **fields)


def _union(options: list[tuple[object, Convert]]) -> Convert:
    # A JSON value that is already of a member's type is kept before any conversion.
    exact = [option for option, _ in options if option in (int, float, str, bool, type(None))]
    convert = first_fit([convert for _, convert in options])
    shapes = [(_shape(option), convert) for option, convert in options]

    def convert_inexact(value: object) -> object:
        kind = float if isinstance(value, Written) else type(value)
        if kind in exact:
            return plain(value)
        spend(1 + len(shapes) // 2)
        # An object with other names or another tag cannot be the record, nor a text with a slash an address: no
        # need to try, and fail.
        fitting = [convert for shape, convert in shapes if shape is None or shape(value)]
        return fitting[0](value) if len(fitting) == 1 else (first_fit(fitting) if fitting else convert)(value)

    return convert_inexact


def _shape(form: object) -> Callable[[object], bool] | None:
    """Return the test for a record's names and tags, or an address's colons; else None."""
    fields = fields_of(form)
    if fields is None:
        return shape_of_address(form)
    known = frozenset(field.name for field in fields)
    required = frozenset(field.name for field in fields if field.required)
    tags = [(field.name, options) for field in fields if (options := _tags(field.form))]

    def fits(value: object) -> bool:
        if not isinstance(value, dict):
            return False
        for name, options in tags:
            tag = value.get(name)
            if isinstance(tag, str) and tag.strip() not in options:
                return False
        return required <= value.keys() <= known

    return fits


def _tags(form: object) -> frozenset[str]:
    """Return the texts of a `Literal` of texts; empty for any other type."""
    form = stripped(form)
    options = get_args(form) if get_origin(form) is Literal else ()
    return frozenset(map(str.strip, options)) if all(type(option) is str for option in options) else frozenset()


def first_fit(converters: list[Convert]) -> Convert:
    """Return the converter that uses the first of several that does not refuse."""

    def convert(value: object) -> object:
        refusals = []
        for try_convert in converters:
            try:
                return try_convert(value)
            except TooMuch:
                raise
            except Refusal as exc:
                refusals.append(exc)
                spend(REFUSED)
        exception = next((refusal.exception for refusal in refusals if refusal.exception), None)
        raise Refusal(shown("; ".join(map(str, refusals))), exception)

    return convert


def _fields(value: object, known: Mapping[str, Convert], required: frozenset[str], what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise Refusal(f"not an object, as {what} needs")
    if unknown := value.keys() - known.keys():
        # Not by their names: those are part of the value.
        count = "a name" if len(unknown) == 1 else f"{len(unknown)} names"
        names = ", ".join(sorted(map(repr, known)))
        raise Refusal(f"{what} is given {count} that it does not know; it has {names}")
    if missing := required - value.keys():
        raise Refusal(f"{what} needs {', '.join(sorted(map(repr, missing)))}")
    spend(2 + 2 * len(value))
    converted = {}
    for name in filter(value.__contains__, known):
        try:
            converted[name] = known[name](value[name])
        except Refusal as exc:
            raise exc.at(name) from None
    return converted


_CONTAINERS: dict[type, type] = {
    list: list,
    Sequence: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    dict: dict,
    Mapping: dict,
}


def _items(make: type, item: Convert) -> Convert:
    # The hashes of text are random: no writer can choose equal ones.
    check = make in (set, frozenset) and item is not SCALARS[str]
    cost = 2 if check else 1

    def convert(value: object) -> object:
        if not isinstance(value, list):
            raise Refusal("not a list")
        spend(cost + len(value))
        items = [item(one) for one in value]
        try:
            if check:
                require_spread(items)
            return make(items)
        except TypeError:  # an unhashable item of a set
            raise Refusal(f"not a {make.__name__}: an item is not hashable") from None

    return convert


def _fixed_tuple(items: list[Convert]) -> Convert:
    def convert(value: object) -> object:
        if not isinstance(value, list) or len(value) != len(items):
            raise Refusal(f"not a list of {len(items)}")
        spend(len(value))
        return tuple(to(item) for to, item in zip(items, value, strict=True))

    return convert


def _dict(to_key: Convert, to_value: Convert) -> Convert:
    def convert(value: object) -> object:
        if not isinstance(value, dict):
            raise Refusal("not an object")
        spend(2 * len(value))
        keys = [to_key(key) for key in value]
        try:
            if to_key is not SCALARS[str]:
                require_spread(keys)
            return dict(zip(keys, map(to_value, value.values()), strict=True))
        except TypeError:  # an unhashable key
            raise Refusal("not a dict: a key is not hashable") from None

    return convert
