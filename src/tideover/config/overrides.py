"""Values that stand in for what etcd has: tests lay them over it, one layer upon the other."""

from __future__ import annotations

from collections.abc import Mapping

from tideover import telemetry
from tideover.config.decoded import Values
from tideover.config.keys import Keys
from tideover.types import Entry

# What one block lays over: keys as etcd has them.
Layer = Mapping[bytes, Entry]


class Overrides:
    """What all layers together say, the newest of each key. Never changed: another one replaces it.

    What is decoded is kept here, apart from what is known of etcd: when a layer is lifted, that is as if there had
    been none.
    """

    def __init__(self, keys: Keys, layers: tuple[Layer, ...] = ()) -> None:
        self.layers = layers
        self.entries: Layer = {full: entry for layer in layers for full, entry in layer.items()}
        self.values = Values(
            entry_of=lambda key: self.entries.get(keys.full(key)), on_rejected=telemetry.config_rejected
        )

    def __repr__(self) -> str:
        """Count the keys."""
        return f"<Overrides {len(self.layers)} layers, {len(self.entries)} keys>"
