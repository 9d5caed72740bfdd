"""The findings of `tideover doctor`, one a line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from tideover.cli.printer import Styled, print_json, print_line

_MARKS: dict[bool | None, str | Styled] = {
    True: Styled("ok  ", "green"),
    False: Styled("BAD ", "red", bold=True),
    None: "-   ",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding."""

    what: str
    ok: bool | None
    text: str


def print_findings(findings: Iterable[Finding], *, as_json: bool) -> None:
    """Print findings."""
    for finding in findings:
        if as_json:
            print_json(asdict(finding))
        else:
            print_line(_MARKS[finding.ok], f"  {finding.what:<10}  {finding.text}")
