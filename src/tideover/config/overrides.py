"""Values of tests that override those of etcd, one layer upon the other."""

from __future__ import annotations

from collections.abc import Mapping

from tideover import telemetry
from tideover.config.decoded import Values
from tideover.config.keys import Keys
from tideover.types import Entry

# The values of one block, by the keys as etcd has them.
Layer = Mapping[bytes, Entry]


class Overrides:
    """All layers together, the newest value of each key; immutable.

    Decoded values are kept here, apart from etcd's: a lifted layer leaves no trace.
    """

    def __init__(self, keys: Keys, layers: tuple[Layer, ...] = ()) -> None:
        self.layers = layers
        self.entries: Layer = {full: entry for layer in layers for full, entry in layer.items()}
        self.values = Values(
            entry_of=lambda key: self.entries.get(keys.full(key)), on_rejected=telemetry.config_rejected
        )
