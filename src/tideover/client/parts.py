"""What a coordinator opens, tells and closes: one small set of methods for all of its parts."""

from __future__ import annotations


class Part:
    """A part of a coordinator; each overrides what concerns it. Nothing here waits."""

    def begin(self) -> None:
        """Serve: the coordinator is open, and in its event loop."""

    def health_changed(self) -> None:
        """Follow a change of etcd's health, in the very moment."""

    def reset(self, why: str, revision: int) -> None:
        """Drop what belongs to the history before `revision`: etcd is in another one, as `why` proves."""

    def poison(self, why: str) -> None:
        """Serve nothing: this is a forked child."""
