"""Guards: conditions that fence writes to etcd by a held lock or a term, and the count of writes under way.

Guarantee: the compare and the write are one transaction, so a process that stops between a check and a write does
no harm. Not guaranteed: an end to a write without an answer, which etcd may apply ten seconds later. Until then
the lock must not be handed to a holder that satisfies the same condition.

Prior art: the sequencers of Burrows, "The Chubby lock service" (OSDI 2006).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tideover.errors import OutcomeUnknown, TideoverError
from tideover.store.transactions import Compare


@dataclass(slots=True)
class Pending:
    """Guarded writes whose outcome is not known.

    Attributes:
        running: Writes under way.
        unknown: Whether a write got no answer.
    """

    running: int = 0
    unknown: bool = False

    @property
    def unresolved(self) -> bool:
        """Whether etcd may still apply a write."""
        return self.unknown or self.running > 0


class Guard:
    """Fences writes to etcd; given by `held.guard()` and `term.guard()`, taken by `tide.config.put(..., guard=)`.

    For a transaction made with another client: compare the `key`'s create or mod revision, whichever is not None.

    Attributes:
        compare: The condition.
        key: The key in etcd that is compared.
        create_revision: What its create revision must be, with a lock; None with a term. The lock must be opened
            with `handover=False`: two holders of one process may otherwise satisfy the same condition.
        mod_revision: What its mod revision must be, with a term; None with a lock.
    """

    def __init__(
        self,
        compare: Compare,
        *,
        check: Callable[[], None],
        pending: Pending,
        lose: Callable[[str], TideoverError],
    ) -> None:
        self.compare = compare
        self._check = check
        self._pending = pending
        self._lose = lose

    def __repr__(self) -> str:
        """Show what is compared."""
        what = "created" if self.mod_revision is None else "written"
        return f"<Guard {self.key!r} {what} {self.create_revision or self.mod_revision}>"

    @property
    def key(self) -> bytes:
        """The key whose revision is compared."""
        return self.compare.key

    @property
    def create_revision(self) -> int | None:
        """The create revision that the key must have; None if another revision is compared."""
        return self.compare.create_revision

    @property
    def mod_revision(self) -> int | None:
        """The mod revision that the key must have; None if another revision is compared."""
        return self.compare.mod_revision

    @contextmanager
    def writing(self) -> Iterator[Compare]:
        """Make a guarded write within the block.

        Raises:
            TideoverError: The lock or the term is lost.
        """
        self._check()
        self._pending.running += 1
        try:
            yield self.compare
        except TideoverError as exc:
            self._pending.unknown |= isinstance(exc, OutcomeUnknown)
            raise
        except BaseException:
            # Cancelled, for one: the outcome stays unknown.
            self._pending.unknown = True
            raise
        finally:
            self._pending.running -= 1

    def refused(self) -> TideoverError:
        """Report a failed condition, which is a definite no; return the error to raise."""
        gone = "was not there" if self.mod_revision is None else "had changed"
        return self._lose(f"its key {self.key.decode(errors='replace')!r} {gone} at a guarded write")
