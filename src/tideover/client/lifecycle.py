"""Whether a coordinator serves: not entered, open, or closed and why."""

from __future__ import annotations

from typing import Final

from tideover.errors import Closed

NOT_ENTERED: Final = "the coordinator has not been entered: use it inside `async with connect(...) as tide:`"
CLOSED: Final = "the coordinator is closed"


class Lifecycle:
    """Refuses what is asked of a coordinator that is not open, and says why.

    The coordinator has one, which ends as soon as it closes. Locks and sessions have each their own: the bodies
    that closing ends may still take locks. In a forked child `forked` says why nothing is served at all.
    """

    def __init__(self) -> None:
        self.refusal: str | None = NOT_ENTERED
        self.forked: str | None = None

    def __repr__(self) -> str:
        """Say whether it is open, or why not."""
        return f"<Lifecycle {self.refusal or 'open'}>"

    @property
    def is_open(self) -> bool:
        """Whether new things may begin."""
        return self.refusal is None

    @property
    def is_over(self) -> bool:
        """Whether it was open, and is not any more."""
        return self.refusal is not None and self.refusal != NOT_ENTERED

    def open(self) -> None:
        """Serve from now on."""
        self.refusal = None

    def close(self, why: str = CLOSED) -> None:
        """Begin nothing new; the first reason stays."""
        if not self.is_over:
            self.refusal = why

    def poison(self, why: str) -> None:
        """Serve nothing: this is a forked child."""
        self.refusal = self.forked = why

    def check(self) -> None:
        """Return if it is open; else raise `Closed`."""
        if self.refusal is not None:
            raise Closed(self.refusal)
