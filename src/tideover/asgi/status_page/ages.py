"""Ages on the page: text that the browser counts up by itself, so that a grown age is no change.

Contexts that differ in ages alone are equal: their markup is sent to a browser once, and its ages are then
corrected as bare numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from tideover.status import duration

# How the seconds are worded; the last three count towards zero. `assets/status.js` words them alike.
Form = Literal["for", "old", "ago", "so far", "in", "left", "due"]
_SPACE = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class Age:
    """Seconds, in words, on the page, and a meter beside them that ends at `limit` seconds."""

    key: int
    form: Form
    known: bool
    limit: float | None = None
    tone: str = "ok"
    seconds: float = field(default=0.0, compare=False)

    @property
    def text(self) -> str:
        """The age in words."""
        return worded(self.seconds, self.form) if self.known else "of unknown age"

    def __html__(self) -> str:
        """Return the markup, which consists of numbers and of words of this module alone."""
        if not self.known:
            return f'<span class="age">{self.text.replace(" ", _SPACE)}</span>'
        return (
            f'<span class="age" data-key="{self.key}" data-age="{self.seconds:.1f}" data-form="{self.form}">'
            + (f"{self.text}</span>{self._meter()}")
        )

    def _meter(self) -> str:
        if self.limit is None:
            return ""
        return (
            '<svg class="meter" aria-hidden="true" focusable="false">'
            '<rect class="rail" x="0.5" y="0.5" width="99%" height="7"/>'
            f'<rect class="{self.tone}" x="0.5" y="0.5" data-limit="{self.limit:.1f}" '
            f'width="{share(self.seconds, self.limit):.0f}%" height="7"/></svg>'
        )


class Ages:
    """The ages of one fragment, in the order in which they are made."""

    def __init__(self) -> None:
        self.seconds: list[float | None] = []

    def __call__(self, seconds: float, form: Form = "for", *, limit: float | None = None, tone: str = "ok") -> Age:
        """Return the next age."""
        known = math.isfinite(seconds)
        self.seconds.append(round(seconds, 1) if known else None)
        bounded = limit if limit is not None and 0 < limit < math.inf else None
        return Age(len(self.seconds) - 1, form, known, bounded, tone, seconds if known else 0.0)


def share(seconds: float, limit: float) -> float:
    """Return which per cent of a meter is full; 99 at the most, for its frame is drawn beside it."""
    return max(0.0, min(99.0, 99.0 * seconds / limit))


def worded(seconds: float, form: Form = "for") -> str:
    """Return seconds in the words of a form, joined so that no line breaks within."""
    if form == "due":
        return worded(seconds, "in") if seconds >= 0 else f"{_span(-seconds)}{_SPACE}past"
    text = _span(max(0.0, seconds))
    if form == "in":
        return f"in{_SPACE}{text}" if seconds >= 1 else "now"
    return text if form == "for" else f"{text}{_SPACE}{form.replace(' ', _SPACE)}"


def _span(seconds: float) -> str:
    text = "under 1 s" if seconds < 1 else duration(seconds)
    return text.replace(" ", _SPACE)
