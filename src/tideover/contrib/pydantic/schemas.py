"""What pydantic's schema of a type tells: the names of its fields, and what validating a value may cost.

That is paid from the value's budget before pydantic sees the value. pydantic bounds neither the items of one hash
in a set nor the work of a union of types that contain themselves: 16 objects in one another of `A | B`, where each
may be in each, take a second. See `tideover.codecs.one_value`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tideover.codecs.one_value import require_spread, spend

# Points for asking pydantic, and for each part: that much because it may be an error.
_CALL, _PART = 4, 2
# Points for each way through the members of unions that contain one another.
_WAY = 4
# What numbers, UUIDs and networks are written with.
_NUMERIC = "0123456789abcdefABCDEF+-_.:/{} urnid"
# Characters that numbers with the hash of another one have at the least.
_LONG = 16
# What is deeper has more ways than any budget.
_MOST_LEVELS = 20


def charging(schema: Any) -> Callable[[object], None]:
    """Return what pays for validating a part of a value, as JSON has it, and refuses one that is too dear."""
    nodes = list(_nodes(schema))
    has_hashes = any(map(_is_hashed, nodes))
    is_recursive = any(node.get("type") == "definition-ref" for node in nodes)
    forks = max((len(node["choices"]) for node in nodes if node.get("type") == "union"), default=1)

    def charge(part: object) -> None:
        count, depth, stack = 0, 0, [(part, 1)]
        while stack:
            value, level = stack.pop()
            count += 1
            if isinstance(value, dict | list):
                depth = max(depth, level)
                items = list(value if isinstance(value, list) else value.values())
                if has_hashes:
                    _charge_hashes(items if isinstance(value, list) else list(value))
                stack.extend((item, level + isinstance(value, dict)) for item in items)
        spend(_CALL + _PART * count)
        if is_recursive and forks > 1:
            spend(_WAY * forks ** min(depth, _MOST_LEVELS))

    return charge


def names_in(schema: Any) -> Iterator[str]:
    """Return the names that the fields in a schema have, aliases included."""
    for node in _nodes(schema):
        fields = node.get("fields", {})
        for field in fields if isinstance(fields, list) else fields.values():
            if isinstance(field, dict):
                yield from _texts([field.get("name"), field.get("validation_alias")])
        if isinstance(fields, dict):
            yield from fields


def _texts(alias: Any) -> Iterator[str]:
    if isinstance(alias, str):
        yield alias
    elif isinstance(alias, list):
        for each in alias:
            yield from _texts(each)


def _charge_hashes(items: list[object]) -> None:
    """Pay for items of which each may be compared with each: what a long text becomes may have any hash."""
    numbers: list[object] = [item for item in items if isinstance(item, int | float)]
    texts = sum(isinstance(item, str) and len(item) >= _LONG and not item.strip(_NUMERIC) for item in items)
    require_spread(numbers)
    spend(texts * texts // 10)


def _is_hashed(node: Mapping[str, Any]) -> bool:
    """Whether a schema is of a set or dict whose items' hashes can be foreseen."""
    kind = {"set": "items_schema", "frozenset": "items_schema", "dict": "keys_schema"}.get(node.get("type", ""))
    if kind is None:
        return False
    inner = node.get(kind)
    if inner is None:  # anything; of an object the keys are text
        return kind != "keys_schema"
    is_text: bool = inner.get("type") == "str"
    return not is_text


def _nodes(schema: Any) -> Iterator[Mapping[str, Any]]:
    # Those of pydantic 2.7 may contain themselves.
    seen: set[int] = set()
    stack = [schema]
    while stack:
        part = stack.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        # Of a class that is not fully defined yet it is a mapping that says so when it is looked into.
        if isinstance(part, Mapping):
            if isinstance(part.get("type"), str):
                yield part
            stack.extend(inner for name, inner in part.items() if name != "metadata")
        elif isinstance(part, list | tuple):
            stack.extend(part)
