"""Tables under headings, aligned some hundred lines at a time: a long list needs no memory for all of it."""

from __future__ import annotations

from collections.abc import Sequence

from tideover.cli.printer import Styled, print_line

# Lines that are aligned together.
_TOGETHER = 500
# The most columns that one cell may widen its whole column to.
_WIDEST = 60

Cell = str | Styled


class Table:
    """Prints lines under headings. Without a line there are no headings."""

    def __init__(self, *titles: str) -> None:
        self._titles = titles
        self._widths = [len(title) for title in titles]
        self._rows: list[Sequence[Cell]] = []
        self._begun = False

    def add(self, *cells: Cell) -> None:
        """Print a line, at once or with the next lines."""
        self._rows.append(cells)
        if len(self._rows) == _TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Print the lines held back."""
        if not self._rows:
            return
        for row in self._rows:
            lengths = (min(len(_text(cell)), _WIDEST) for cell in row)
            self._widths = [max(pair) for pair in zip(self._widths, lengths, strict=True)]
        if not self._begun:
            self._begun = True
            self._print([Styled(title, bold=True) for title in self._titles])
        for row in self._rows:
            self._print(row)
        self._rows.clear()

    def _print(self, row: Sequence[Cell]) -> None:
        parts: list[Cell] = []
        for number, (cell, width) in enumerate(zip(row, self._widths, strict=True)):
            last = number == len(self._titles) - 1
            parts += [cell] if last else [cell, " " * (max(0, width - len(_text(cell))) + 2)]
        print_line(*parts)


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell.text
