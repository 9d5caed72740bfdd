"""The modules of a tree of Python files, each parsed once."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Source:
    """One module.

    Attributes:
        path: Relative to the tree's root, with slashes.
        lines: Its lines.
        nodes: All nodes of its syntax tree.
    """

    path: str
    lines: tuple[str, ...]
    nodes: tuple[ast.AST, ...]

    @property
    def folder(self) -> str:
        """The top-level folder; `.` for a module of the root."""
        folder, slash, _ = self.path.partition("/")
        return folder if slash else "."

    @property
    def docstrings(self) -> list[ast.Constant]:
        """The docstrings of the module, its classes and its functions."""
        return [found for node in self.nodes if (found := docstring(node))]


def read(root: Path) -> list[Source]:
    """Return the modules below a folder, sorted by path."""
    return [_parse(root, path) for path in sorted(root.rglob("*.py"))]


def docstring(node: ast.AST) -> ast.Constant | None:
    """Return a node's docstring; None if the node has none or can have none."""
    if not isinstance(node, ast.Module | ast.ClassDef | Function) or not node.body:
        return None
    first = node.body[0]
    found = first.value if isinstance(first, ast.Expr) else None
    return found if isinstance(found, ast.Constant) and isinstance(found.value, str) else None


def span(node: ast.stmt | ast.expr) -> range:
    """Return the numbers of the lines that a node covers; a function's begin at `def`, below its decorators."""
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _parse(root: Path, path: Path) -> Source:
    text = path.read_text("utf-8")
    return Source(path.relative_to(root).as_posix(), tuple(text.splitlines()), tuple(ast.walk(ast.parse(text))))
