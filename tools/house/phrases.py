"""How often docstrings use stock phrases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.house.source import Source, span

LIST = Path(__file__).with_name("phrases.txt")


@dataclass(frozen=True, slots=True)
class Phrases:
    """The stock phrases of a tree.

    Attributes:
        docstring_lines: Lines of docstrings, blank ones included.
        counts: How often each regular expression was found.
    """

    docstring_lines: int
    counts: dict[str, int]

    @property
    def per_1000_lines(self) -> float:
        """How many phrases there are in 1,000 docstring lines; 0 where there are no docstrings."""
        return 1000 * sum(self.counts.values()) / max(1, self.docstring_lines)


def expressions(text: str) -> list[str]:
    """Return the regular expressions of a list, one a line; empty lines and those that begin with `#` are none."""
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def phrases(sources: Sequence[Source], patterns: Sequence[str]) -> Phrases:
    """Count what regular expressions match in docstrings, whatever the case.

    A phrase is found where a line is broken within it: every run of white space counts as one space.
    """
    docstrings = [found for source in sources for found in source.docstrings]
    texts = [" ".join(str(found.value).split()) for found in docstrings]
    return Phrases(
        docstring_lines=sum(len(span(found)) for found in docstrings),
        counts={
            pattern: sum(len(re.findall(pattern, text, re.IGNORECASE)) for text in texts) for pattern in patterns
        },
    )
