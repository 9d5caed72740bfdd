"""Pictures as SVG that reads in light and dark, without a library: bars over time, ratios beside their goals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

_WIDTH, _HEIGHT = 760, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 16, 44, 44
# Between two bars of `ratios`.
_STEP = 26


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment worth a line.

    Attributes:
        at: Seconds.
        text: What happened.
    """

    at: float
    text: str


def bars(
    title: str, description: str, heights: Sequence[float], *, step: float, marks: Sequence[Mark], unit: str
) -> str:
    """Draw a bar for each step of time.

    Args:
        title: Above it, and for those who cannot see it.
        description: What there is to see, in words.
        heights: One number per step.
        step: Seconds that a bar stands for.
        marks: Moments on the same axis.
        unit: What the numbers count.

    Returns:
        The SVG document.
    """
    top = _round_up(max(heights, default=0.0))
    seconds = len(heights) * step
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(at: float) -> float:
        return _LEFT + wide * at / seconds

    def y(value: float) -> float:
        return _TOP + high * (1 - value / top)

    lines = [*_head(title, description, _HEIGHT), f'<text x="{_LEFT}" y="18">{escape(title)}</text>']
    for part in range(5):
        value = top * part / 4
        lines.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
            f'<text class="small" text-anchor="end" x="{_LEFT - 6}" y="{y(value) + 4:.1f}">{value:,.0f}</text>'
        )
    lines.append(f'<text class="small" x="4" y="{_TOP - 10}">{escape(unit)}</text>')
    bar = wide * step / seconds * 0.86
    lines += [
        f'<rect class="bar" x="{x(number * step):.1f}" y="{y(height):.1f}" width="{bar:.1f}" '
        f'height="{_TOP + high - y(height):.1f}"/>'
        for number, height in enumerate(heights)
        if height > 0
    ]
    every = next(each for each in (1, 2, 5, 10, 20, 60) if seconds / each <= 16)
    lines += [
        f'<text class="small" text-anchor="middle" x="{x(second):.1f}" y="{_HEIGHT - 24}">{second}</text>'
        for second in range(0, int(seconds) + 1, every)
    ]
    lines.append(f'<text class="small" text-anchor="end" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 8}">seconds</text>')
    lines += [
        f'<line class="mark" x1="{x(mark.at):.1f}" x2="{x(mark.at):.1f}" y1="{_TOP - 6}" y2="{_TOP + high}"/>'
        f'<text class="small" x="{x(mark.at) + 4:.1f}" y="{_TOP - 8}">{escape(mark.text)}</text>'
        for mark in marks
    ]
    return "\n  ".join(lines) + "\n</svg>\n"


class Ratio(NamedTuple):
    """One bar of `ratios`.

    Attributes:
        what: What was measured.
        value: How many times its peer.
        goal: The most it may be.
        quartiles: Of the ratios of single rounds; None where there are none.
    """

    what: str
    value: float
    goal: float
    quartiles: Sequence[float] | None = None


def ratios(title: str, shown: Sequence[Ratio]) -> str:
    """Draw a bar for each ratio, from the left, with a line at its goal.

    Args:
        title: Above them, and for those who cannot see them.
        shown: The ratios, from above.

    Returns:
        The SVG document.
    """
    most = _round_up(max((max(one.value, one.goal, *(one.quartiles or ())) for one in shown), default=1.0))
    left, wide = 330, _WIDTH - 330 - 64
    height = _TOP + _STEP * len(shown) + 24

    def x(value: float) -> float:
        return left + wide * value / most

    told = "; ".join(f"{one.what}: {one.value:.3g}, goal {one.goal:.3g}" for one in shown)
    lines = [*_head(title, told, height), f'<text x="8" y="18">{escape(title)}</text>']
    for part in range(5):
        at = x(most * part / 4)
        lines.append(
            f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP - 8}" y2="{height - 22}"/>'
            f'<text class="small" text-anchor="middle" x="{at:.1f}" y="{height - 8}">{most * part / 4:g} x</text>'
        )
    for number, one in enumerate(shown):
        y = _TOP + _STEP * number
        kind = "bar" if one.value <= one.goal else "over"
        lines.append(
            f'<text class="small" text-anchor="end" x="{left - 8}" y="{y + 12}">{escape(one.what)}</text>'
            f'<rect class="{kind}" x="{left}" y="{y}" width="{x(one.value) - left:.1f}" height="16"/>'
        )
        if one.quartiles:
            low, high = (x(min(quartile, most)) for quartile in one.quartiles)
            lines.append(f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{y + 8}" y2="{y + 8}"/>')
        lines.append(
            f'<line class="mark" x1="{x(one.goal):.1f}" x2="{x(one.goal):.1f}" y1="{y - 3}" y2="{y + 19}"/>'
            f'<text class="small" x="{_WIDTH - 58}" y="{y + 12}">{one.value:.3g} x</text>'
        )
    return "\n  ".join(lines) + "\n</svg>\n"


def _head(title: str, description: str, height: int) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        'aria-labelledby="title desc">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="desc">{escape(description)}</desc>',
        _STYLE,
    ]


def _round_up(value: float) -> float:
    """Return a round number that is no less."""
    size = 1.0
    while size * 10 <= value:
        size *= 10
    return next((size * n for n in (1, 2, 4, 6, 8, 10) if size * n >= value), 10 * size) or 1.0


_STYLE = """<style>
    text { font: 13px system-ui, sans-serif; fill: #333 } .small { font-size: 11.5px }
    .grid { stroke: #bbb; stroke-width: .6 } .bar { fill: #2b5f9e } .over { fill: #b8742a }
    .spread { stroke: #111; stroke-width: 1 }
    .mark { stroke: #b3261e; stroke-width: 1.2; stroke-dasharray: 4 3 }
    @media (prefers-color-scheme: dark) {
      text { fill: #ddd } .grid { stroke: #555 } .bar { fill: #6ea3e0 } .mark { stroke: #f2776d }
      .over { fill: #dfa057 } .spread { stroke: #fff }
    }
  </style>"""
