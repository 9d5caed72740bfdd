"""Who is told, in the event loop and at once, what becomes of a configuration."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol


class Listener(Protocol):
    """Hears of all that happens; what it does about it neither waits nor raises."""

    def changed(self, keys: Collection[str]) -> None:
        """Hear which keys have changed, together, once reads show it."""

    def refreshed(self) -> None:
        """Hear that health, freshness or trouble has changed, or that the configuration was closed."""
