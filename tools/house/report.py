"""The numbers as text and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from tools.house.hops import Hops
from tools.house.imports import Imports
from tools.house.phrases import Phrases
from tools.house.sizes import LONG_FUNCTION, LONG_MODULE, WIDE_CLASS, Sizes, Spread


@dataclass(frozen=True, slots=True)
class House:
    """All that is counted."""

    sizes: Sizes
    hops: Mapping[str, Hops]
    phrases: Phrases
    imports: Imports


def document(house: House) -> dict[str, object]:
    """Return what is printed as JSON: as in the text, and the names behind `hops`."""
    found = asdict(house)
    for name, hop in house.hops.items():
        found["hops"][name]["depth"] = len(hop.path)
    found["phrases"]["per_1000_lines"] = round(house.phrases.per_1000_lines, 1)
    return found


def text(house: House) -> str:
    """Return what is printed."""
    parts = {
        "Sizes": _sizes(house.sizes),
        "Hops": _hops(house.hops),
        "Phrases": _phrases(house.phrases),
        "Imports": _imports(house.imports),
    }
    shown = [[title, *(f"  {line}".rstrip() for line in lines)] for title, lines in parts.items()]
    return "\n\n".join("\n".join(lines) for lines in shown)


def _sizes(sizes: Sizes) -> list[str]:
    kinds = {"code": sizes.code, "docstrings": sizes.docstrings, "comments": sizes.comments, "blank": sizes.blank}
    shares = ", ".join(f"{kind} {_share(lines, sizes.lines)}" for kind, lines in kinds.items())
    long = f"{sizes.long_functions} of {sizes.functions:,} ({_share(sizes.long_functions, sizes.functions)})"
    return [
        f"{sizes.modules} modules, {sizes.lines:,} lines: {shares}",
        f"lines of a module: median {sizes.module_lines.p50}, p90 {sizes.module_lines.p90}, "
        f"max {sizes.module_lines.max}",
        f"lines of a function without docstring: {_tail(sizes.function_lines)}; over {LONG_FUNCTION}: {long}",
        f"parameters of a constructor: {_tail(sizes.constructor_parameters)}",
        "",
        f"classes with {WIDE_CLASS} attributes or more: {len(sizes.wide_classes)}",
        *_column(sizes.wide_classes),
        f"modules over {LONG_MODULE} lines: {len(sizes.long_modules)}",
        *_column(sizes.long_modules),
        "",
        f"{'folder':<16} {'modules':>7} {'lines':>7}",
        *(f"{name:<16} {folder.modules:>7} {folder.lines:>7,}" for name, folder in sizes.folders.items()),
    ]


def _hops(hops: Mapping[str, Hops]) -> list[str]:
    return [
        f"{'call':<20} {'calls':>7} {'modules':>7} {'depth':>7}",
        *(f"{name:<20} {hop.calls:>7} {len(hop.modules):>7} {len(hop.path):>7}" for name, hop in hops.items()),
    ]


def _phrases(phrases: Phrases) -> list[str]:
    ordered = sorted(phrases.counts.items(), key=lambda item: -item[1])
    return [
        f"{phrases.per_1000_lines:.1f} in 1,000 docstring lines "
        f"({sum(phrases.counts.values())} in {phrases.docstring_lines:,})",
        *_column(dict(ordered)),
    ]


def _imports(imports: Imports) -> list[str]:
    return [
        f"upward: {len(imports.upward)}",
        *(f"  {found}" for found in imports.upward),
        f"circles: {len(imports.circles)}",
        *(f"  {', '.join(circle)}" for circle in imports.circles),
        f"between top-level folders: {imports.between_folders} imports, {imports.arrows} arrows",
        f"and modules of the root: {imports.between_children} imports, {imports.child_arrows} arrows",
    ]


def _column(counts: Mapping[str, int]) -> list[str]:
    return [f"  {count:>5}  {name}" for name, count in counts.items()]


def _tail(spread: Spread) -> str:
    return f"median {spread.p50}, p95 {spread.p95}, max {spread.max}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(1, whole):.1f} %"
