"""Keys as a tree, printed while they come: of a hundred thousand only the path of the present one is kept."""

from __future__ import annotations

from tideover.cli.printer import Styled, print_json, print_line
from tideover.cli.words import counted
from tideover.coordinator.catalog import ListedKey
from tideover.shown import shown
from tideover.types import Source


class KeyTree:
    """Prints keys that come in their order; those below `depth` levels are counted, and None shows all."""

    def __init__(self, base: str, prefix: str, *, depth: int | None, as_json: bool) -> None:
        self._base = base
        self._root = prefix[: prefix.rfind("/") + 1]
        self._depth = depth
        self._as_json = as_json
        self._begun = False
        self._open: list[str] = []
        # The folder whose keys are counted, if the last key was in one, and how many there were.
        self._counted: list[str] | None = None
        self._count = 0
        self._source = Source.QUORUM

    def add(self, found: ListedKey) -> None:
        """Print a key, or count it."""
        *folders, name = found.key[len(self._root) :].split("/")
        counted = folders[: self._depth] if self._depth is not None and len(folders) >= self._depth else None
        if counted != self._counted:
            self.close()
        self._source = found.source
        if counted is not None:
            self._counted, self._count = counted, self._count + 1
            return
        self._enter(folders)
        if self._as_json:
            self._record("/".join([*folders, name]), "key", keys=None, revision=found.revision)
        else:
            print_line("  " * (len(folders) + 1), shown(name) or "''")

    def close(self) -> None:
        """Print what was counted."""
        if self._counted is None:
            return
        (*folders, name), count = self._counted, self._count
        self._counted, self._count = None, 0
        self._enter(folders)
        if self._as_json:
            self._record("/".join([*folders, name, ""]), "folder", keys=count, revision=None)
        else:
            print_line("  " * (len(folders) + 1), Styled(f"{shown(name)}/", bold=True), f"  {counted(count)}")

    def _enter(self, folders: list[str]) -> None:
        """Print the folders on the way that have not been printed."""
        if not self._begun and not self._as_json:
            print_line(Styled(shown(self._base + self._root), bold=True))
        self._begun = True
        same = 0
        for one, other in zip(self._open, folders, strict=False):
            if one != other:
                break
            same += 1
        for level in range(same, len(folders)):
            if not self._as_json:
                print_line("  " * (level + 1), Styled(f"{shown(folders[level])}/", bold=True))
        self._open = folders

    def _record(self, path: str, kind: str, *, keys: int | None, revision: int | None) -> None:
        key = self._root + path
        print_json(
            {
                "key": key,
                "etcd_key": self._base + key,
                "kind": kind,
                "keys": keys,
                "revision": revision,
                "source": self._source,
            },
            whole=["key", "etcd_key"],
        )
