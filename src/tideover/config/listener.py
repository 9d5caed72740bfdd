"""The port for callbacks about a configuration, called in the event loop, at once."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol


class Listener(Protocol):
    """Hears of changes; its methods neither wait nor raise."""

    def changed(self, keys: Collection[str]) -> None:
        """Called with the keys that have changed together, once reads show the change."""

    def refreshed(self) -> None:
        """Called when health, freshness or trouble has changed, or the configuration was closed."""
