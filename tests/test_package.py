"""The package as a whole: what importing costs, what is public, and what its documentation promises."""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import json
import pkgutil
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import tideover
from tideover.testing import FaultyStore, MemoryStore

ROOT = Path(tideover.__file__).parent
MODULES = sorted(found.name for found in pkgutil.walk_packages(tideover.__path__, "tideover."))
PUBLIC: list[tuple[str, Any]] = [(name, getattr(tideover, name)) for name in tideover.__all__]

# What only extras bring, as it is imported.
EXTRAS = {"click", "cryptography", "fastapi", "httpx", "httpx2", "jinja2", "markupsafe", "openfeature", "pydantic"}
EXTRAS |= {"pydantic_core", "pydantic_settings", "sse_starlette"}

# What may be answered differently, or not at all, while etcd is away.
OPERATIONS: list[Callable[..., Any]] = [
    tideover.connect,
    tideover.current,
    tideover.with_config,
    tideover.Config.get,
    tideover.Config.read,
    tideover.Config.fetch,
    tideover.Config.put,
    tideover.Config.delete,
    tideover.Config.bind,
    tideover.Config.changes,
    tideover.ClusterHealth.wait_for,
    tideover.Coordinator.lock,
    tideover.lock,
    tideover.locked,
    tideover.Held.check,
    tideover.Held.guard,
    tideover.Coordinator.session,
    tideover.Session.check,
    tideover.Session.put,
    tideover.Session.delete,
    tideover.Session.orphan,
]
operations = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda found: found.__qualname__)
public = pytest.mark.parametrize(("name", "found"), PUBLIC, ids=[name for name, _ in PUBLIC])


def _run(code: str, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *args], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_loads_nothing_heavy() -> None:
    """`tideover.connect` loads no grpc, no aetcd, no web framework, no command line and nothing of an extra."""
    loaded = json.loads(_run("import tideover, sys, json; tideover.connect; print(json.dumps([*sys.modules]))"))
    heavy = {"grpc", "aetcd", "starlette", "trio", "pytest"} | EXTRAS
    assert not heavy & {name.partition(".")[0] for name in loaded}


def test_importing_the_package_alone_loads_next_to_nothing() -> None:
    """`import tideover` loads no dataclass, no event loop and no vendor: each name comes when it is asked for."""
    loaded = json.loads(_run("import sys, tideover; print(str([*sys.modules]).replace(chr(39), chr(34)))"))
    assert {name for name in loaded if name.startswith("tideover.")} == {"tideover.public_names"}
    assert not {"anyio", "asyncio", "dataclasses", "opentelemetry"} & set(loaded)


def _public_imports() -> dict[str, str]:
    """Return the module of each public name, as type checkers see it."""
    found: dict[str, str] = {}
    for node in ast.parse((ROOT / "__init__.py").read_text()).body:
        for inner in node.body if isinstance(node, ast.If) else ():
            if isinstance(inner, ast.ImportFrom):
                found |= {alias.name: inner.module or "" for alias in inner.names}
    return found


def test_the_public_names_are_sorted_and_complete() -> None:
    """`__all__` holds exactly what type checkers see, in order, and at run time each name is that one."""
    seen = _public_imports()
    assert tideover.__all__ == sorted(set(tideover.__all__))
    assert set(tideover.__all__) == set(seen)
    for name, module in seen.items():
        assert getattr(tideover, name) is getattr(importlib.import_module(module), name)


def test_the_root_holds_imports_only() -> None:
    """`__init__` has a docstring, `__all__`, imports for type checkers and the old names, and no code."""
    tree = ast.parse((ROOT / "__init__.py").read_text())
    assert ast.get_docstring(tree)
    *before, imports = tree.body[1:]
    assert [type(node) for node in before] == [ast.ImportFrom, ast.Assign]
    assert isinstance(imports, ast.If)
    assert {type(node) for node in imports.body} == {ast.ImportFrom, ast.Assign}
    assert {type(node) for node in imports.orelse} == {ast.ImportFrom}


_LAZILY = """
import inspect, pickle, sys, tideover
assert set(tideover.__all__) <= set(dir(tideover))
assert "tideover.errors" not in sys.modules
assert tideover.errors.Closed is tideover.Closed, "a module of the package, without an import of it"
assert pickle.loads(pickle.dumps(tideover.CachePolicy(ttl=3.0))) == tideover.CachePolicy(ttl=3.0)
assert "connect" in vars(tideover) or tideover.connect is vars(tideover)["connect"], "asked for once"
members = dict(inspect.getmembers(tideover))
assert set(tideover.__all__) <= set(members)
names = {}
exec("from tideover import *", names)
assert set(tideover.__all__) <= set(names)
for absent in ("no_such_name", "__no_such_name__", "no such.name"):
    assert not hasattr(tideover, absent)
"""


def test_names_that_are_imported_later_are_names_like_others() -> None:
    """`dir`, `inspect`, pickle, `import *`, modules as attributes and names that do not exist are as ever."""
    _run(_LAZILY)


@public
def test_every_public_name_has_a_docstring(name: str, found: Any) -> None:
    """Each public name says what it is, in its own words."""
    assert (found.__doc__ or "").strip(), name
    assert not found.__doc__.startswith(f"{name}("), "the docstring a dataclass gets by itself"


@public
def test_every_public_member_has_a_docstring(name: str, found: Any) -> None:
    """Each public method and property of a public class says what it does."""
    if not inspect.isclass(found):
        return
    for member in vars(found).values():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if inspect.isfunction(function) and not function.__name__.startswith("_"):
            assert (function.__doc__ or "").strip(), f"{name}.{function.__name__}"


@operations
def test_every_operation_tells_what_it_does_when_degraded(operation: Callable[..., Any]) -> None:
    """Its docstring has a paragraph on what it returns or raises while etcd is away."""
    doc = inspect.getdoc(operation) or ""
    assert re.search(r"^When degraded:\n    \S", doc, re.MULTILINE)


@operations
def test_every_operation_lists_its_errors_and_arguments(operation: Callable[..., Any]) -> None:
    """Its docstring has "Raises:", and names every parameter under "Args:", or says whose parameters they are."""
    doc = inspect.getdoc(operation) or ""
    assert re.search(r"^Raises:\n    \w+: \S", doc, re.MULTILINE)
    first = doc.partition("\n")[0]
    if (same := re.search(r"; see `Coordinator\.(\w+)`\.$", first)) is not None:
        original = inspect.signature(getattr(tideover.Coordinator, same[1])).parameters
        # All but the object itself.
        assert list(inspect.signature(operation).parameters.values()) == list(original.values())[1:]
        return
    parameters = [name for name in inspect.signature(operation).parameters if name != "self"]
    if parameters:
        section = doc.partition("Args:\n")[2].partition("\n\n")[0]
        assert re.findall(r"^    (\w+):", section, re.MULTILINE) == parameters


@operations
def test_every_error_that_is_named_exists(operation: Callable[..., Any]) -> None:
    """What stands under "Raises:" is an error of tideover's or of Python's."""
    section = (inspect.getdoc(operation) or "").partition("Raises:\n")[2].partition("\n\n")[0]
    for name in re.findall(r"^    (\w+):", section, re.MULTILINE):
        found = getattr(tideover, name, None) or __builtins__[name]  # type: ignore[index]
        assert issubclass(found, Exception)


@operations
def test_positional_parameters_are_few(operation: Callable[..., Any]) -> None:
    """At most two parameters may be given by position, besides the object itself."""
    positional = [
        name
        for name, parameter in inspect.signature(operation).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD) and name != "self"
    ]
    assert len(positional) <= 2


def test_no_submodule_bears_a_public_name() -> None:
    """A submodule named like a public function would take its place once it is imported."""
    assert not {name.rpartition(".")[2] for name in MODULES if name.count(".") == 1} & set(tideover.__all__)


def test_every_module_has_a_docstring() -> None:
    """Each file and each folder says what lives there."""
    bare = [path for path in ROOT.rglob("*.py") if not ast.get_docstring(ast.parse(path.read_text()))]
    assert bare == []


_IMPORT_ALL = """
import importlib, inspect, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
import tideover
for name in tideover.__all__:
    assert not inspect.ismodule(getattr(tideover, name)), name
    assert callable(getattr(tideover, name)), name
"""


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_modules_can_be_imported_in_any_order(seed: int | None) -> None:
    """No order of imports fails, and afterwards every public name is still what it was, not a module."""
    names = [name for name in MODULES if not name.endswith("__main__")]
    if seed is None:
        names.reverse()
    else:
        random.Random(seed).shuffle(names)
    _run(_IMPORT_ALL, *names)


@pytest.mark.parametrize("name", MODULES[:: max(1, len(MODULES) // 6)])
def test_a_module_can_be_imported_alone(name: str) -> None:
    """A module imported first, before the package's own order is known, finds what it needs."""
    _run(_IMPORT_ALL, name)


# These live for one attempt, and for one test.
_SHORT_LIVED = {"AttemptSpan", "MemoryWatch", "MemoryGroup"}


def _keeps_something(cls: type) -> bool:
    """Whether a class is neither a record nor an error nor an enumeration nor a port."""
    return (
        "__init__" in vars(cls)
        and cls.__name__ not in _SHORT_LIVED
        and not cls.__name__.startswith("_")
        and not hasattr(cls, "__dataclass_fields__")
        and not issubclass(cls, BaseException | enum.Enum)
        and not getattr(cls, "_is_protocol", False)
        and not inspect.isabstract(cls)
    )


_FACES = (
    "tideover",
    "tideover.asgi",
    "tideover.testing",
    "tideover.contrib.httpx",
    "tideover.contrib.openfeature",
)


@pytest.mark.parametrize("name", _FACES)
def test_every_long_lived_object_that_users_hold_can_be_shown(name: str) -> None:
    """Each public class that keeps state has a `__repr__` of its own, for logs and debuggers."""
    face = importlib.import_module(name)
    classes = [cls for cls in (getattr(face, each) for each in face.__all__) if inspect.isclass(cls)]
    shown = [cls for cls in classes if _keeps_something(cls)]
    assert [cls.__name__ for cls in shown if all("__repr__" not in vars(base) for base in cls.__mro__[:-1])] == []


def test_what_users_hold_is_shown_in_one_line() -> None:
    """The objects of a running coordinator are shown in one line each, open and closed."""

    async def main() -> None:
        store = FaultyStore(MemoryStore())
        async with tideover.connect(store=store, cache_dir=False) as tide:
            shown = [tide, tide.config, tide.health, tide.config.changes(), store, MemoryStore()]
            for held in shown:
                assert repr(held).startswith(f"<{type(held).__name__}")
                assert "\n" not in repr(held)
        assert "\n" not in repr(tide)

    anyio.run(main)


def test_a_changed_name_works_for_one_release() -> None:
    """`OwnKey` is now called `LeasedKey`, and a warning says so; a typo is an AttributeError."""
    with pytest.warns(DeprecationWarning, match="tideover.OwnKey is now tideover.LeasedKey"):
        assert tideover.OwnKey is tideover.LeasedKey
    with pytest.raises(AttributeError, match="Ownkey"):
        _ = getattr(tideover, "Ownkey")  # noqa: B009 - a name that type checkers refuse
