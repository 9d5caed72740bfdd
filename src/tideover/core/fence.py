"""A guard: the condition that fences writes to etcd by what is held, and the knowledge of which are still under
way.

The write and the look at the key are one transaction, so that no stop between a check and a write can do harm.
A write that got no verdict may be applied ten seconds later; as long as that is so, what is held must not be
handed to anybody who would stand under the same condition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tideover.errors import OutcomeUnknown, TideoverError
from tideover.etcd.transactions import Compare


@dataclass(slots=True)
class Pending:
    """Guarded writes whose outcome is not known.

    Attributes:
        running: How many are under way.
        unknown: Whether one got no verdict.
    """

    running: int = 0
    unknown: bool = False

    @property
    def unresolved(self) -> bool:
        """Whether one may still be applied."""
        return self.unknown or self.running > 0


class Guard:
    """Fences writes to etcd; given by `held.guard()`, taken by `tide.config.put(..., guard=)`.

    Attributes:
        key: The key in etcd that is compared.
        create_revision: What its create revision must be. For a transaction made with another client, of a lock
            opened with `handover=False`: two holders of one process may otherwise stand under the same condition.
    """

    def __init__(
        self,
        key: bytes,
        create_revision: int,
        *,
        check: Callable[[], None],
        pending: Pending,
        lose: Callable[[str], TideoverError],
    ) -> None:
        self.key = key
        self.create_revision = create_revision
        self._check = check
        self._pending = pending
        self._lose = lose

    def __repr__(self) -> str:
        """Show what is compared."""
        return f"<Guard {self.key!r} created {self.create_revision}>"

    @property
    def compare(self) -> Compare:
        """The condition."""
        return Compare(self.key, create_revision=self.create_revision)

    @contextmanager
    def writing(self) -> Iterator[Compare]:
        """Make a guarded write within the block.

        Raises:
            TideoverError: What was held is held no more.
        """
        self._check()
        self._pending.running += 1
        try:
            yield self.compare
        except TideoverError as exc:
            self._pending.unknown |= isinstance(exc, OutcomeUnknown)
            raise
        except BaseException:
            # Cancelled, for one: nobody will ever know.
            self._pending.unknown = True
            raise
        finally:
            self._pending.running -= 1

    def refused(self) -> TideoverError:
        """Take in that the condition did not hold, which is a definite no; return the error to raise."""
        return self._lose(f"its key {self.key.decode(errors='replace')!r} was not there at a guarded write")
