"""What is in etcd beside one's own namespace: its other spelling, and other namespaces.

`shop` and `/shop` are two namespaces: locks, elections, tokens and users' rights hang on the bytes of their keys,
which never change. A service that was given the wrong one finds nothing, though all is well with etcd. So it asks
once whether the other spelling has something. That is a courtesy: after a refusal, in an outage or without an
answer nothing is said, and nothing waits for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from tideover.client.gateway import Gateway
from tideover.client.rules.namespaces import TREES, foreign_folder, other_spelling, place_of, start_after
from tideover.errors import TideoverError
from tideover.home import Home
from tideover.policies import RetryPolicy
from tideover.store.operations import Range, prefix_end

# One attempt, for so many seconds.
_COURTESY = RetryPolicy(attempts=1, timeout=2.0)
# How many keys of others a walk looks at before it stops.
_MOST_FOREIGN = 256


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree of keys that a namespace has in etcd, such as `"config"`."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Passed:
    """Keys that a walk did not look at, by their prefix; `rest`: the walk ended there, for there are too many."""

    prefix: str
    rest: bool = False


class Namespaces:
    """What one coordinator can tell of namespaces."""

    def __init__(self, namespace: str, *, gateway: Gateway, home: Home) -> None:
        self.own = namespace
        self.other = other_spelling(namespace)
        self._gateway = gateway
        self._home = home

    def __repr__(self) -> str:
        """Show both spellings."""
        return f"<Namespaces {self.own!r}, not {self.other!r}>"

    async def find_misspelled(self, below: str) -> str | None:
        """Ask whether the other spelling of the namespace has keys. One small read, and no error.

        Args:
            below: What they are, such as `"config/"` or `"services/billing/"`.

        Returns:
            One of them, as etcd has it; None if there is none, or etcd does not say.

        Raises:
            WrongLoop: This is another event loop than the coordinator's.

        When degraded:
            None, at once in a declared outage.
        """
        self._home.check(self)
        if self.other is None:
            return None
        prefix = f"{self.other}/{below}".encode()
        try:
            op = Range(prefix, prefix_end(prefix), limit=1, keys_only=True)
            answered = await self._gateway.call(op, _COURTESY)
        except TideoverError:
            return None
        return next((_text(key) for key in answered.result.entries), None)

    async def walk(self, prefix: str = "") -> AsyncIterator[Tree | Passed]:
        """Go through the namespaces in etcd, in a read of one key for each of their trees.

        A folder of others' keys costs up to six: it may be a namespace all the same.

        Which keys are tideover's is told by their names alone: `{namespace}/config/...` and its like.

        Args:
            prefix: Only keys that begin so.

        Yields:
            What each namespace has, and folders of others' keys that were passed over.

        Raises:
            Unavailable: etcd is away.
            PermissionDenied: This user may not read all keys that begin so.
            AuthenticationFailed: A quorum refuses the credentials.
            WrongLoop: This is another event loop than the coordinator's.

        When degraded:
            Raises; in a declared outage at once and without a packet.
        """
        self._home.check(self)
        within = prefix.encode()
        start: bytes | None = within or b"\0"
        end = prefix_end(within)
        passed: dict[bytes, int] = {}
        while start is not None and (end == b"\0" or start < end):
            op = Range(start, end, limit=1, keys_only=True)
            found = (await self._gateway.call(op)).result.entries
            if not found:
                return
            (key,) = found
            place = place_of(key)
            if place is not None:
                namespace, tree = place
                yield Tree(_text(namespace), tree.rstrip("/"))
                start = start_after(namespace + b"/" + tree.encode())
                continue
            folder = foreign_folder(key, within, passed)
            if sum(passed.values()) > _MOST_FOREIGN:
                yield Passed(_text(key), rest=True)
                return
            if folder is not None:
                for behind in await self._trees_behind(key, folder):
                    yield behind
                yield Passed(_text(folder))
            start = key + b"\0" if folder is None else start_after(folder)

    async def _trees_behind(self, key: bytes, folder: bytes) -> list[Tree]:
        """Return what a folder of others' keys has as a namespace, behind the key that the walk is at."""
        found = []
        for name in TREES:
            prefix = folder + name.encode()
            # What comes before the key has been met already.
            if folder.endswith(b"/") and prefix > key:
                op = Range(prefix, prefix_end(prefix), limit=1, keys_only=True)
                if (await self._gateway.call(op)).result.entries:
                    found.append(Tree(_text(folder[:-1]), name.rstrip("/")))
        return found


def _text(key: bytes) -> str:
    return key.decode(errors="backslashreplace")
