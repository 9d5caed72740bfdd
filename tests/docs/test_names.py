"""What prose names exists: tests, modules, attributes, and what a folder says of itself.

Prose is the pages and the comments of the project, and the docstrings and comments of its Python.
"""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import tideover
import tideover_pytest as plugin

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "tideover"
FOLDERS = sorted(path.parent for path in SOURCE.rglob("__init__.py") if path.parent != SOURCE)
PYTHON = [
    ROOT / "noxfile.py",
    *(
        path
        for name in ("src", "tests", "benchmarks", "models", "docs", "examples")
        for path in (ROOT / name).rglob("*.py")
    ),
]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/README.md", ".ci/run")),
    *(ROOT / "changelog.d").glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
]
# What speaks of this project's own tests. Other pages show a reader's.
OF_OUR_TESTS = [*PYTHON, *(page for page in PAGES if page.parent.name in ("decisions", "explanation"))]
COMMENT = re.compile(r"(?:^|\s)#\s.*")


@dataclass(frozen=True)
class Line:
    """A line of prose."""

    path: Path
    number: int
    text: str

    def found(self, pattern: str) -> Iterator[tuple[str, str]]:
        """Return what a pattern finds here, each with where it stands."""
        where = f"{self.path.relative_to(ROOT)}:{self.number}"
        return ((where, match[1] if match.re.groups else match[0]) for match in re.finditer(pattern, self.text))


def docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    """Return the docstrings of a module and of all it defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body:
                case [ast.Expr(value=ast.Constant(value=str()) as text), *_]:
                    yield text


@cache
def prose(path: Path) -> tuple[Line, ...]:
    """Return the prose of a file."""
    text = path.read_text()
    if path.suffix != ".py":
        return tuple(Line(path, number, line) for number, line in enumerate(text.splitlines(), 1))
    # Much faster than `tokenize`; what looks like a comment within a string may be read along.
    comments = ((number, COMMENT.search(line)) for number, line in enumerate(text.splitlines(), 1))
    lines = [Line(path, number, found[0]) for number, found in comments if found is not None]
    for found in docstrings(ast.parse(text)):
        said = str(found.value).splitlines()
        lines += [Line(path, number, line) for number, line in enumerate(said, found.lineno)]
    return tuple(lines)


def all_prose(paths: list[Path]) -> Iterator[Line]:
    """Return the prose of files."""
    return (line for path in paths for line in prose(path))


@cache
def resolves(dotted: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


# Tests ---------------------------------------------------------------------------------------------------------


def test_paths_that_are_named_exist() -> None:
    """A path into tests, source, documentation, benchmarks, models or examples leads to a file or folder."""
    named = r"(?<![\w/.-])((?:tests|src|docs|benchmarks|models|examples)/[\w/.-]*[\w/])"
    wrong = [
        f"{where}: {path}"
        for line in all_prose([*PYTHON, *PAGES])
        for where, path in line.found(named)
        # A decision may be named by its number alone.
        if not (ROOT / path).exists() and not list((ROOT / path).parent.glob(f"{Path(path).name}-*.md"))
    ]
    assert wrong == []


def test_tests_that_are_named_exist() -> None:
    """What is called `test_...` in the records, the explanations and the code is a test, or a file of tests."""
    files = [path for path in PYTHON if path.is_relative_to(ROOT / "tests") or path.stem.startswith("test_")]
    known = {path.stem for path in files} | {path.parent.name for path in files}
    for path in files:
        known |= set(re.findall(r"\bdef (test_\w+)", path.read_text()))
    wrong = [
        f"{where}: {name}"
        for line in all_prose(OF_OUR_TESTS)
        for where, name in line.found(r"\btest_\w+(?:\.\.\.)?")
        if name not in known and not (name.endswith("...") and any(k.startswith(name[:-3]) for k in known))
    ]
    assert wrong == []


# Modules and attributes ----------------------------------------------------------------------------------------


def names_of_telemetry() -> set[str]:
    """Return all that is recorded under, as `tideover.telemetry` spells it, and evaluations of flags carry."""
    folders = (SOURCE / "telemetry", SOURCE / "contrib" / "openfeature")
    trees = (ast.parse(path.read_text()) for folder in folders for path in folder.glob("*.py"))
    return {
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_dotted_names_resolve() -> None:
    """A dotted name that begins with the package's is a module, an attribute of one, or something recorded."""
    recorded = names_of_telemetry()
    wrong = [
        f"{where}: {name}"
        for line in all_prose([*PYTHON, *PAGES])
        # A changelog says what a name was.
        for where, name in line.found(r"(?<![\w./@-])(?<!\(was `)tideover(?:\.[A-Za-z_]\w*)+")
        if name not in recorded and not resolves(name)
    ]
    assert wrong == []


def test_names_of_programs_resolve() -> None:
    """Dotted names of tests and benchmarks, as `python -m` takes them, are files, or folders that can be run."""

    def runs(name: str) -> bool:
        path = ROOT / name.replace(".", "/")
        return path.with_suffix(".py").exists() or (path / "__main__.py").exists()

    wrong = [
        f"{where}: {name}"
        for line in all_prose([*PYTHON, *PAGES])
        for where, name in line.found(r"(?<![\w./])(?:tests|benchmarks)(?:\.[a-z]\w*)+")
        if not runs(name)
    ]
    assert wrong == []


def near(path: Path) -> list[Path]:
    """Return the folders that a short name in a file may begin in: its own, and those above."""
    above = path.relative_to(SOURCE).parents if path.is_relative_to(SOURCE) else [Path()]
    return [SOURCE / folder for folder in above]


def is_in_a_folder(name: str, path: Path) -> bool | None:
    """Whether `folder.module` or `folder/module` resolves where it is said; None if that is no folder there."""
    parts = re.split(r"[./]", name.removesuffix(".py"))
    begins = [folder for folder in near(path) if folder / parts[0] in FOLDERS]
    if not begins:
        return None
    dotted = (".".join([*folder.relative_to(SOURCE.parent).parts, *parts]) for folder in begins)
    # `config.get` is what users write after `tide.`.
    return any(map(resolves, dotted)) or (parts[0] == "config" and hasattr(tideover.Config, parts[1]))


def test_short_names_of_modules_resolve() -> None:
    """`folder.module` and `folder/module` are modules of that folder, or attributes of it."""
    pages = [ROOT / "CONTRIBUTING.md", ROOT / "docs" / "explanation" / "architecture.md"]
    source = [path for path in PYTHON if path.is_relative_to(SOURCE)]
    wrong = [
        f"{where}: {name}"
        for line in all_prose([*source, *pages])
        for where, name in line.found(r"`(\w+[./]\w+(?:[./]\w+)*)`")
        # Files of etcd's own source are prior art.
        if not name.endswith(".go") and is_in_a_folder(name, line.path) is False
    ]
    assert wrong == []


# Folders -------------------------------------------------------------------------------------------------------


def known_beside(folder: Path) -> set[str]:
    """Return the names that a folder's docstring may use: what lies in it and around it, and what users know."""
    places = [place for place in (folder, *folder.parents) if place.is_relative_to(SOURCE)]
    around = {path.stem for place in places for path in place.iterdir()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {*around, *project["scripts"], *project["optional-dependencies"], *tideover.__all__, *vars(plugin)}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(SOURCE)))
def test_a_folder_names_what_lies_beside(folder: Path) -> None:
    """Each single lower-case word that a folder's docstring quotes is a module or folder there, or public."""
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    assert set(re.findall(r"`([a-z_]+)`", text)) <= known_beside(folder)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(SOURCE)))
def test_a_folder_says_what_lives_there(folder: Path) -> None:
    """A folder's docstring is of its own: a dozen words or more in sentences, and no other folder's."""
    said = {place: ast.get_docstring(ast.parse((place / "__init__.py").read_text())) or "" for place in FOLDERS}
    text = said[folder]
    assert len(text.split()) >= 12
    assert re.search(r"[.!:`]\Z", text)
    assert list(said.values()).count(text) == 1
