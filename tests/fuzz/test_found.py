"""What searching has found, as plain tests; see also the folder of each reader."""

from __future__ import annotations

import click
import pytest

from tests.fuzz.command_lines import parse
from tideover import connect
from tideover.elections.rules.candidate import Timing
from tideover.testing import MemoryStore


@pytest.mark.parametrize("line", ["lock --timeout nan a true", "lead --ttl nan a true", "lead --timeout nan a b"])
def test_what_is_no_number_is_no_duration(line: str) -> None:
    """`nan` would be in every range, and be waited for without an end."""
    with pytest.raises(click.BadParameter, match="not a number of seconds"):
        parse(line.encode())


def test_durations_that_no_float_can_hold() -> None:
    """An `int` that is longer than any `float` is refused like infinity, where the option is given."""
    tide = connect(store=MemoryStore())
    for option in ("ttl", "timeout", "lock_delay"):
        with pytest.raises(ValueError, match=option):
            tide.lock("a", **{option: 10**400})  # type: ignore[arg-type]
    for ttl in (10**400, float("inf")):
        with pytest.raises(ValueError, match="at most 1e"):
            Timing(ttl)
