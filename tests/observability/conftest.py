"""What a process exposes in which everything happens once: what a real one is compared with."""

from tests.assets.conftest import exposed

__all__ = ["exposed"]
