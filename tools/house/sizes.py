"""How large modules, functions and constructors are, and what the lines consist of."""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tools.house.source import Function, Source, docstring, span

# From these on, a module, a function or a class is named or counted as long or wide.
LONG_MODULE = 350
LONG_FUNCTION = 40
WIDE_CLASS = 15


@dataclass(frozen=True, slots=True)
class Spread:
    """How numbers are spread; all 0 if there are none."""

    p50: int
    p90: int
    p95: int
    max: int


@dataclass(frozen=True, slots=True)
class Folder:
    """One top-level folder."""

    modules: int
    lines: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a tree.

    Attributes:
        modules: How many there are.
        lines: All lines, each of one of the four kinds that follow.
        code: Lines of code.
        docstrings: Lines of docstrings, blank ones included.
        comments: Lines that hold a comment only.
        blank: Blank lines outside docstrings.
        module_lines: Lines of a module.
        functions: How many there are; methods and nested functions count.
        function_lines: Lines of a function from `def` on, without its docstring.
        long_functions: Functions of more than 40 such lines.
        constructor_parameters: Parameters of a class's own `__init__` besides `self`, or of the one a dataclass
            gets; 0 for a class with neither.
        wide_classes: Classes whose constructor sets 15 attributes or more: name to how many.
        long_modules: Modules of more than 350 lines: path to lines.
        folders: The top-level folders; `.` for the modules of the root.
    """

    modules: int
    lines: int
    code: int
    docstrings: int
    comments: int
    blank: int
    module_lines: Spread
    functions: int
    function_lines: Spread
    long_functions: int
    constructor_parameters: Spread
    wide_classes: dict[str, int]
    long_modules: dict[str, int]
    folders: dict[str, Folder]


def sizes(sources: Sequence[Source]) -> Sizes:
    """Measure modules."""
    kinds = sum((_kinds(source) for source in sources), Counter[str]())
    lengths = {source.path: len(source.lines) for source in sources}
    functions = [_length(node) for source in sources for node in source.nodes if isinstance(node, Function)]
    classes = [(source, node) for source in sources for node in source.nodes if isinstance(node, ast.ClassDef)]
    attributes = {f"{source.path}:{node.name}": len(_attributes(node)) for source, node in classes}
    folders: dict[str, Folder] = {}
    for source in sources:
        before = folders.get(source.folder, Folder(0, 0))
        folders[source.folder] = Folder(before.modules + 1, before.lines + len(source.lines))
    return Sizes(
        modules=len(sources),
        lines=sum(lengths.values()),
        code=kinds["code"],
        docstrings=kinds["docstring"],
        comments=kinds["comment"],
        blank=kinds["blank"],
        module_lines=spread(lengths.values()),
        functions=len(functions),
        function_lines=spread(functions),
        long_functions=sum(length > LONG_FUNCTION for length in functions),
        constructor_parameters=spread(_parameters(node) for _, node in classes),
        wide_classes=_largest_first(attributes, WIDE_CLASS),
        long_modules=_largest_first(lengths, LONG_MODULE + 1),
        folders=dict(sorted(folders.items())),
    )


def spread(numbers: Iterable[int]) -> Spread:
    """Return how numbers are spread: each quantile is one of them, the upper one where two are as near."""
    ordered = sorted(numbers) or [0]
    p50, p90, p95 = (ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] for percent in (50, 90, 95))
    return Spread(p50, p90, p95, ordered[-1])


def _kinds(source: Source) -> Counter[str]:
    """Count the lines of each kind; a docstring's blank lines are the docstring's."""
    documented = {line for found in source.docstrings for line in span(found)}
    tokens = tokenize.generate_tokens(io.StringIO("\n".join(source.lines)).readline)
    # A line that begins with "#" may belong to a string: the tokens tell.
    comments = {token.start[0] for token in tokens if token.type == tokenize.COMMENT}

    def kind(number: int, line: str) -> str:
        if number in documented:
            return "docstring"
        if not line.strip():
            return "blank"
        return "comment" if number in comments and line.lstrip().startswith("#") else "code"

    return Counter(kind(number, line) for number, line in enumerate(source.lines, 1))


def _length(function: Function) -> int:
    found = docstring(function)
    return len(span(function)) - (len(span(found)) if found else 0)


def _parameters(node: ast.ClassDef) -> int:
    init = _init(node)
    if init is None:
        return len(_fields(node, of_init=True))
    given = init.args
    return len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs) - 1


def _attributes(node: ast.ClassDef) -> set[str]:
    init = _init(node)
    if init is None:
        return _fields(node, of_init=False)
    return {
        target.attr
        for target in ast.walk(init)
        if isinstance(target, ast.Attribute)
        and isinstance(target.ctx, ast.Store)
        and isinstance(target.value, ast.Name)
        and target.value.id == "self"
    }


def _init(node: ast.ClassDef) -> Function | None:
    return next((item for item in node.body if isinstance(item, Function) and item.name == "__init__"), None)


def _fields(node: ast.ClassDef, *, of_init: bool) -> set[str]:
    """Return the fields of a dataclass, all or those its `__init__` takes; none for another class."""
    if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return set()
    return {
        ast.unparse(item.target)
        for item in node.body
        if isinstance(item, ast.AnnAssign)
        and "ClassVar" not in ast.unparse(item.annotation)
        and not (of_init and item.value is not None and "init=False" in ast.unparse(item.value))
    }


def _largest_first(found: dict[str, int], least: int) -> dict[str, int]:
    large = [(name, size) for name, size in found.items() if size >= least]
    return dict(sorted(large, key=lambda item: (-item[1], item[0])))
