"""Which imports point up, which form circles, and how many go from one top-level folder to another."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import grimp

# The place of each layer, counted from the top: the full name of a module or folder to its number.
Floors = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Imports:
    """The imports within a package.

    Attributes:
        upward: Imports from a lower layer into a higher one, each as `importer -> imported`.
        circles: Modules and folders that import each other, directly or through the others of the same circle;
            folders are compared with what lies beside them, each as a whole.
        between_folders: Imports from a module of one top-level folder to a module of another.
        arrows: Pairs of top-level folders that have such an import.
        between_children: The same imports, with every module of the root counted as a folder of its own.
        child_arrows: The pairs of those.
    """

    upward: tuple[str, ...]
    circles: tuple[tuple[str, ...], ...]
    between_folders: int
    arrows: int
    between_children: int
    child_arrows: int


def graph_of(package: str) -> grimp.ImportGraph:
    """Return the imports of a package that can be imported."""
    return grimp.build_graph(package, cache_dir=None)


def imports(graph: grimp.ImportGraph, package: str, floors: Floors) -> Imports:
    """Count the imports of a graph."""
    pairs = _pairs(graph)
    children = graph.find_children(package)
    folders = {child for child in children if graph.find_children(child)}
    among_folders = _between(pairs, folders)
    among_children = _between(pairs, children)
    return Imports(
        upward=tuple(f"{importer} -> {imported}" for importer, imported in upward(pairs, floors)),
        circles=tuple(circles(graph)),
        between_folders=len(among_folders),
        arrows=len(set(among_folders)),
        between_children=len(among_children),
        child_arrows=len(set(among_children)),
    )


def read_floors(pyproject: Path) -> Floors:
    """Return the layers of every import-linter contract of that type that has containers.

    Args:
        pyproject: The pyproject.toml with the contracts.
    """
    contracts = tomllib.loads(pyproject.read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    return {
        f"{container}.{name.strip(' ()')}": number
        for contract in contracts
        if contract["type"] == "layers"
        for container in contract.get("containers", ())
        for number, layer in enumerate(contract["layers"])
        for name in layer.replace("|", ":").split(":")
    }


def upward(pairs: Iterable[tuple[str, str]], floors: Floors) -> list[tuple[str, str]]:
    """Return the imports that point up, among pairs of importer and imported."""

    def rises(importer: str, imported: str) -> bool:
        ours = {_parent(name): floors[name] for name in _lineage(importer) if name in floors}
        theirs = {_parent(name): floors[name] for name in _lineage(imported) if name in floors}
        # Layers are compared within one container only.
        return any(ours[container] > theirs[container] for container in ours.keys() & theirs.keys())

    return [pair for pair in pairs if rises(*pair)]


def circles(graph: grimp.ImportGraph) -> list[tuple[str, ...]]:
    """Return the circles among modules, and in each folder those among what lies in it."""
    pairs = _pairs(graph)
    found = _circles(pairs)
    for folder in graph.modules:
        found |= _circles(_between(pairs, graph.find_children(folder)))
    return sorted(found)


def _circles(pairs: Iterable[tuple[str, str]]) -> set[tuple[str, ...]]:
    arrows: defaultdict[str, set[str]] = defaultdict(set)
    for importer, imported in pairs:
        arrows[importer].add(imported)
    reached = {name: _reached(arrows, name) for name in list(arrows)}
    # A name that reaches itself is on a circle, with all that it reaches and that reach it.
    return {
        tuple(sorted(other for other in others if name in reached.get(other, ())))
        for name, others in reached.items()
        if name in others
    }


def _reached(arrows: Mapping[str, set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        new = arrows.get(waiting.pop(), set()) - reached
        reached |= new
        waiting += new
    return reached


def _pairs(graph: grimp.ImportGraph) -> list[tuple[str, str]]:
    return sorted(
        (importer, imported)
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
    )


def _between(pairs: Iterable[tuple[str, str]], names: set[str]) -> list[tuple[str, str]]:
    """Return the imports that go from within one name to within another, as pairs of those names."""

    def around(module: str) -> str | None:
        return next((name for name in _lineage(module) if name in names), None)

    ends = ((around(importer), around(imported)) for importer, imported in pairs)
    return [(ours, theirs) for ours, theirs in ends if ours and theirs and ours != theirs]


def _lineage(module: str) -> list[str]:
    """Return a module and the folders around it, the innermost first."""
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]


def _parent(module: str) -> str:
    return module.rpartition(".")[0]
