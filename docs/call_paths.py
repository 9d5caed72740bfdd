"""The picture of five calls: `python docs/call_paths.py` draws it from `docs/explanation/architecture.md`.

The page is the source: what it lists for each call stands on the layers of `pyproject.toml`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "architecture.md"
PICTURE = ROOT / "docs" / "assets" / "call-paths.svg"

# Pixels: a column and the space after it, what is left of, above and below all boxes.
_COLUMN, _GAP = 138, 8
_LEFT, _TOP, _BOTTOM = 22, 54, 14
# A box: the folder's name, a module's line, and the space around them; then the space between boxes.
_NAME, _LINE, _PAD = 18, 16, 4
_SPACE = 9


@dataclass(frozen=True, slots=True)
class Call:
    """One call and its path.

    Attributes:
        name: Its heading on the page.
        modules: The modules it passes, in order, such as `config/reader`.
    """

    name: str
    modules: tuple[str, ...]

    @property
    def rises(self) -> bool:
        """Whether it comes up from etcd, instead of going down."""
        return self.modules[0].startswith("etcd/")


@dataclass(frozen=True, slots=True)
class Box:
    """What one call passes of one folder, or a root module.

    Attributes:
        title: The folder with its slash, or the root module.
        lines: Each module's number in its call, and its name.
    """

    title: str
    lines: tuple[tuple[int, str], ...]

    @property
    def height(self) -> int:
        """Pixels."""
        return (_NAME if self.title else 0) + _LINE * len(self.lines) + _PAD

    @property
    def first(self) -> int:
        """The number of its first module."""
        return self.lines[0][0]


def calls(page: str) -> list[Call]:
    """Return the calls of the page: each heading below "Five calls", with its numbered list."""
    section = page.partition("\n## Five calls\n")[2].partition("\n## ")[0]
    parts = (part.partition("\n") for part in section.split("\n### ")[1:])
    return [Call(name, tuple(re.findall(r"^\d+\. `([\w/]+)`", text, re.M))) for name, _, text in parts]


def layers(pyproject: str) -> list[tuple[str, ...]]:
    """Return the folders and root modules of each layer, top to bottom, as the contract on imports has them."""
    contracts = tomllib.loads(pyproject)["tool"]["importlinter"]["contracts"]
    (contract,) = (each for each in contracts if each["name"] == "Imports point down only")
    return [tuple(re.findall(r"\w+", layer)) for layer in contract["layers"]]


def draw(paths: Sequence[Call], order: Sequence[Sequence[str]]) -> str:
    """Draw calls side by side on the layers they pass.

    Args:
        paths: The calls, one for each column.
        order: The layers, top to bottom.

    Returns:
        The SVG document.
    """
    rows = [row for layer in order if any(row := [_boxes(call, layer) for call in paths])]
    heights = [max(sum(box.height + _SPACE for box in boxes) for boxes in row) + _SPACE for row in rows]
    tops = [_TOP + sum(heights[:number]) for number in range(len(rows) + 1)]
    width, height = _LEFT + len(paths) * (_COLUMN + _GAP), tops[-1] + _BOTTOM
    words = "; ".join(f"{call.name}: {', '.join(call.modules)}" for call in paths)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'aria-labelledby="title desc">',
        '<title id="title">Five calls on the layers of tideover</title>',
        f'<desc id="desc">The modules of each call, in order. {escape(words)}.</desc>',
        _STYLE,
        f'<rect class="paper" width="{width}" height="{height}" rx="6"/>',
        *(f'<path class="layer" d="M{_LEFT} {top}H{width - _GAP}"/>' for top in tops),
        f'<path class="down" d="M11 {tops[0]}V{tops[-1]}m-4 -7l4 7l4 -7"/>',
        f'<text class="small" x="2" y="{_TOP - 8}">imports</text>',
    ]
    for number, call in enumerate(paths):
        lines += _column(call, [row[number] for row in rows], tops, _LEFT + number * (_COLUMN + _GAP))
    return "\n  ".join(lines) + "\n</svg>\n"


def _boxes(call: Call, layer: Sequence[str]) -> list[Box]:
    found: dict[str, list[tuple[int, str]]] = {}
    for number, module in enumerate(call.modules, 1):
        folder, slash, name = module.partition("/")
        if folder in layer:
            found.setdefault(folder + slash if slash else "", []).append((number, name or folder))
    return [Box(title, tuple(lines)) for title, lines in found.items()]


def _column(call: Call, boxes: Sequence[Sequence[Box]], tops: Sequence[int], x: int) -> list[str]:
    """Draw one call: its name, its boxes, and the line between them, which shows its direction."""
    middle = x + _COLUMN // 2
    placed: list[tuple[int, Box]] = []
    for row, top in zip(boxes, tops, strict=False):
        y = top + _SPACE
        for box in row:
            placed.append((y, box))
            y += box.height + _SPACE
    lines = [f'<text class="call" text-anchor="middle" x="{middle}" y="24">{escape(call.name)}</text>']
    for (y, upper), (below, lower) in pairwise(placed):
        if (upper.first > lower.first) != call.rises:
            continue  # entered in the other order: the numbers tell
        tail, head, tip = y + upper.height + 1, below - 1, 5
        if call.rises:
            tail, head, tip = head, tail, -tip
        lines.append(
            f'<path class="way" d="M{middle} {tail}V{head - tip}"/>'
            f'<path class="tip" d="M{middle - 4} {head - tip}h8l-4 {tip}z"/>'
        )
    for y, box in placed:
        lines += _box(box, x, y)
    return lines


def _box(box: Box, x: int, y: int) -> list[str]:
    lines = [f'<rect class="box" x="{x}" y="{y}" width="{_COLUMN}" height="{box.height}" rx="4"/>']
    if box.title:
        lines.append(f'<text class="folder" x="{x + 7}" y="{y + 14}">{box.title}</text>')
    y += _NAME if box.title else 0
    for at, (number, name) in enumerate(box.lines):
        line = y + _LINE * at + 13
        lines.append(
            f'<text class="number" text-anchor="end" x="{x + 21}" y="{line}">{number}</text>'
            f'<text class="module" x="{x + 27}" y="{line}">{name}</text>'
        )
    return lines


_STYLE = """<style>
    .paper { fill: #fff } .layer, .down { fill: none; stroke: #b9bec6; stroke-width: 1 }
    .box { fill: #eef3fa; stroke: #9fb6d3; stroke-width: 1 }
    .way { stroke: #2b5f9e; stroke-width: 1.5 } .tip { fill: #2b5f9e }
    text { font: 12px system-ui, sans-serif; fill: #333 } .call { font-size: 13px; font-weight: 600 }
    .small, .number { font-size: 11px } .folder { font-weight: 600; fill: #2b5f9e } .number { fill: #5b6470 }
    .module { font: 11.5px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace }
    @media (prefers-color-scheme: dark) {
      .paper { fill: #1e2129 } .layer, .down { stroke: #4a505c } .box { fill: #262d3a; stroke: #4b617e }
      .way { stroke: #6ea3e0 } .tip { fill: #6ea3e0 } text { fill: #ddd } .folder { fill: #8fbaf0 }
      .number { fill: #a3abb8 }
    }
  </style>"""


if __name__ == "__main__":
    PICTURE.write_text(draw(calls(PAGE.read_text()), layers((ROOT / "pyproject.toml").read_text())))
