"""The counters count rightly on small trees with known numbers; the house's own numbers are `nox -s house`."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tools.house import report
from tools.house.__main__ import PYPROJECT, measure
from tools.house.hops import Trace
from tools.house.imports import circles, graph_of, imports, read_floors
from tools.house.phrases import LIST, expressions, phrases
from tools.house.sizes import Folder, Spread, sizes, spread
from tools.house.source import read

Planter = Callable[[Mapping[str, str]], str]

_names = count(1)


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planter:
    """Writes a package whose modules may call it `PACKAGE`, and returns its name, which no other test has."""

    def write(files: Mapping[str, str]) -> str:
        package = f"planted_house_{next(_names)}"
        for path, text in files.items():
            file = Path(package, path)
            tree(tmp_path, {str(folder / "__init__.py"): "" for folder in file.parents if folder.name})
            tree(tmp_path, {str(file): text.replace("PACKAGE", package)})
        return package

    monkeypatch.syspath_prepend(tmp_path)
    return write


def tree(root: Path, files: Mapping[str, str]) -> Path:
    """Write modules below a folder."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def test_every_line_is_of_one_kind(tmp_path: Path) -> None:
    """Code, docstrings, comments and blank lines add up; `#` in a string is code."""
    module = '"""One.\n\nTwo.\n"""\n\n# A comment.\nx = 1  # more\ny = """\n# no comment\n"""\n'
    found = sizes(read(tree(tmp_path, {"a.py": module})))
    assert (found.docstrings, found.blank, found.comments, found.code, found.lines) == (4, 1, 1, 4, 10)


def test_a_function_is_as_long_as_its_lines_without_the_docstring(tmp_path: Path) -> None:
    """Neither decorators nor the docstring count; the line of `def` does."""
    function = '@cache\ndef f():\n    """One.\n\n    Two.\n    """\n    x = 1\n    return x\n'
    found = sizes(read(tree(tmp_path, {"a.py": function})))
    assert (found.functions, found.function_lines) == (1, Spread(3, 3, 3, 3))


def test_a_function_is_long_from_41_lines_on(tmp_path: Path) -> None:
    """Of two functions with 40 and 41 lines, methods and coroutines included, one is long."""
    body = "        pass\n"
    text = "class A:\n    def f(self):\n" + 39 * body + "    async def g(self):\n" + 40 * body
    found = sizes(read(tree(tmp_path, {"a.py": text})))
    assert (found.functions, found.long_functions, found.function_lines.max) == (2, 1, 41)


def test_a_constructor_has_the_parameters_that_are_given_to_it(tmp_path: Path) -> None:
    """`self`, constants of the class and fields that are not given do not count; a class without one has none."""
    text = (
        "class A:\n    def __init__(self, a, /, b, *, c): ...\n"
        "@dataclass(frozen=True)\nclass B:\n    a: int\n    b: ClassVar[int] = 1\n    c: int = field(init=False)\n"
        "class C:\n    a: int\n"
    )
    found = sizes(read(tree(tmp_path, {"a.py": text})))
    assert found.constructor_parameters == Spread(1, 3, 3, 3)


def test_a_class_is_wide_from_15_attributes_on(tmp_path: Path) -> None:
    """An attribute counts once however often it is set, and only on `self`; a dataclass's fields count too."""

    def setting(name: str, many: int) -> str:
        lines = "".join(f"        self.a{n} = self.a{n} = 0\n" for n in range(many))
        return f"class {name}:\n    def __init__(self, other):\n        other.x = 0\n{lines}"

    fields = "@dataclass\nclass Record:\n" + "".join(f"    a{n}: int\n" for n in range(16))
    found = sizes(read(tree(tmp_path, {"a.py": setting("Small", 14) + setting("Wide", 15) + fields})))
    assert found.wide_classes == {"a.py:Record": 16, "a.py:Wide": 15}


def test_modules_are_counted_by_folder_and_named_when_long(tmp_path: Path) -> None:
    """A folder has the lines of all folders in it, the root is `.`, and 350 lines are not yet long."""
    files = {"a.py": "x = 1\n" * 350, "b/c.py": "x = 1\n" * 351, "b/d/e.py": "x = 1\n" * 2}
    found = sizes(read(tree(tmp_path, files)))
    assert found.folders == {".": Folder(1, 350), "b": Folder(2, 353)}
    assert found.long_modules == {"b/c.py": 351}
    assert (found.modules, found.lines) == (3, 703)


def test_quantiles_are_numbers_that_occur() -> None:
    """p50, p90 and p95 of 1 to 100 have so many numbers below them; nothing at all is 0."""
    assert spread(range(1, 101)) == Spread(51, 91, 96, 100)
    assert spread([]) == Spread(0, 0, 0, 0)


def test_phrases_are_counted_in_docstrings_only(tmp_path: Path) -> None:
    """Case does not matter, nor does a line broken within the phrase; comments and other strings do not count."""
    text = '"""In vain.\n\nAnd in\nvain."""\n# in vain\nx = "in vain"\ndef f():\n    """Whoever, whoever."""\n'
    found = phrases(read(tree(tmp_path, {"a.py": text})), [r"\bin vain\b", r"\bwhoever\b", r"\banew\b"])
    assert found.counts == {r"\bin vain\b": 2, r"\bwhoever\b": 2, r"\banew\b": 0}
    assert found.docstring_lines == 5
    assert found.per_1000_lines == 800


def test_a_group_in_an_expression_counts_once(tmp_path: Path) -> None:
    """Alternatives within an expression are one phrase each time."""
    source = read(tree(tmp_path, {"a.py": '"""Is to be, are to be."""\n'}))
    assert phrases(source, [r"\b(is|are) to be\b"]).counts == {r"\b(is|are) to be\b": 2}


def test_the_list_has_an_expression_a_line() -> None:
    """Lines that begin with `#` and empty lines are none; our own list has no expression twice."""
    assert expressions("# said\n\\ba\\b\n\n\\bb\\b\n") == [r"\ba\b", r"\bb\b"]
    ours = expressions(LIST.read_text("utf-8"))
    assert len(ours) == len(set(ours)) > 0


def test_a_planted_circle_of_modules_is_found_once(plant: Planter) -> None:
    """Three modules that import each other in turn are one circle; what only imports them is not on it."""
    package = plant(
        {
            "a.py": "import PACKAGE.b",
            "b.py": "import PACKAGE.c",
            "c.py": "def f():\n    import PACKAGE.a",
            "d.py": "import PACKAGE.a",
        }
    )
    assert circles(graph_of(package)) == [(f"{package}.a", f"{package}.b", f"{package}.c")]


def test_a_circle_of_folders_needs_no_circle_of_modules(plant: Planter) -> None:
    """Two folders are a circle although no module of theirs is on one, at any depth."""
    package = plant(
        {
            "inner/a/x.py": "from PACKAGE.inner.b import x",
            "inner/b/x.py": "",
            "inner/b/y.py": "from PACKAGE.inner.a import z",
            "inner/a/z.py": "",
        }
    )
    assert circles(graph_of(package)) == [(f"{package}.inner.a", f"{package}.inner.b")]


def test_imports_between_folders_and_their_arrows_are_counted(
    plant: Planter,
) -> None:
    """Two imports from one folder to another are one arrow; the wider count has the root's modules too."""
    package = plant(
        {
            "top/x.py": "import PACKAGE.low.x, PACKAGE.low.y, PACKAGE.top.y",
            "top/y.py": "import PACKAGE.errors",
            "low/x.py": "import PACKAGE.errors",
            "low/y.py": "",
            "errors.py": "",
        }
    )
    found = imports(graph_of(package), package, {})
    assert (found.between_folders, found.arrows) == (2, 1)
    assert (found.between_children, found.child_arrows) == (4, 3)
    assert (found.upward, found.circles) == ((), ())


def test_an_import_from_a_lower_layer_is_upward(plant: Planter, tmp_path: Path) -> None:
    """The contracts say which layer is lower; an import of a sibling or of a lower layer is not upward."""
    package = plant(
        {
            "face/x.py": "import PACKAGE.left.x",
            "left/x.py": "import PACKAGE.right.x, PACKAGE.low",
            "right/x.py": "",
            "low.py": "import PACKAGE.face.x",
        }
    )
    (tmp_path / "pyproject.toml").write_text(
        f'[[tool.importlinter.contracts]]\ntype = "layers"\ncontainers = ["{package}"]\n'
        'layers = ["(face)", "left : right", "low"]\n'
    )
    floors = read_floors(tmp_path / "pyproject.toml")
    assert floors == {f"{package}.face": 0, f"{package}.left": 1, f"{package}.right": 1, f"{package}.low": 2}
    assert imports(graph_of(package), package, floors).upward == (f"{package}.low -> {package}.face.x",)


def test_the_house_has_no_circle_and_no_upward_import() -> None:
    """No module or folder of tideover is on a circle of imports, and none imports from a layer above its own."""
    found = imports(graph_of("tideover"), "tideover", read_floors(PYPROJECT))
    assert (found.circles, found.upward) == ((), ())
    assert found.between_folders >= found.arrows > 0


SHOP = {
    "desk.py": (
        "from PACKAGE.back import till\n"
        "async def buy(store):\n    greet()\n    await till.pay(store)\n    till.quick(store)\n"
        "def greet(): pass\n"
    ),
    "back/till.py": (
        "async def pay(store):\n    await book(store)\n"
        "async def book(store):\n    store()\n"
        "def quick(store):\n    store()\n"
    ),
}


def test_calls_modules_and_depth_are_those_of_the_walk(plant: Planter, tmp_path: Path) -> None:
    """Five calls enter two modules, and the path is the deepest of the two at the store."""
    package = plant(SHOP)
    desk = importlib.import_module(f"{package}.desk")
    trace = Trace(tmp_path / package)
    found = asyncio.run(trace.run(lambda: desk.buy(trace.reached)))
    assert (found.calls, found.modules) == (5, ("back/till", "desk"))
    assert found.path == ("desk.buy", "back/till.pay", "back/till.book")


def test_a_folder_can_be_left_out(plant: Planter, tmp_path: Path) -> None:
    """What is left out is neither counted nor on the path."""
    package = plant(SHOP)
    desk = importlib.import_module(f"{package}.desk")
    trace = Trace(tmp_path / package, without="back")
    found = asyncio.run(trace.run(lambda: desk.buy(trace.reached)))
    assert (found.calls, found.modules, found.path) == (2, ("desk",), ("desk.buy",))


def test_another_task_counts_at_the_store_only(plant: Planter, tmp_path: Path) -> None:
    """Calls of a background task are not the caller's, but the stack that reaches the store may be that task's."""
    package = plant(SHOP)
    desk = importlib.import_module(f"{package}.desk")
    trace = Trace(tmp_path / package)

    async def body() -> None:
        await asyncio.create_task(desk.buy(trace.reached))

    found = asyncio.run(trace.run(body))
    assert (found.calls, found.modules, len(found.path)) == (0, (), 3)


def test_text_and_json_say_the_same() -> None:
    """Both forms have every part, and the same numbers; a warm `config.get` is one call in one module."""
    house = measure()
    shown = report.text(house)
    found: Any = json.loads(json.dumps(report.document(house)))
    assert list(found) == ["sizes", "hops", "phrases", "imports"]
    assert f"{found['sizes']['modules']} modules, {found['sizes']['lines']:,} lines" in shown
    assert f"{found['phrases']['per_1000_lines']} in 1,000 docstring lines" in shown
    assert f"top-level folders: {found['imports']['between_folders']} imports" in shown
    for name, hop in found["hops"].items():
        assert f"  {name:<20} {hop['calls']:>7} {len(hop['modules']):>7} {hop['depth']:>7}\n" in shown
    warm = found["hops"]["config.get, warm"]
    assert (warm["calls"], warm["modules"], warm["depth"]) == (1, ["config/reader"], 0)
