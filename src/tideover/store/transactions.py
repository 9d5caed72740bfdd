"""Transactions: conditions on keys, the steps if all hold, and the steps if one does not.

A transaction is applied at one revision or not at all. That makes compare-and-swap, guarded deletes and fencing
possible: tideover changes every key it owns by a transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tideover.store.operations import Delete, Op, Put, Range, RangeResult, WriteResult
from tideover.types import Header

Step = Put | Delete | Range


@dataclass(frozen=True, slots=True)
class Compare:
    """A condition on one key: every given field must be equal.

    Attributes:
        create_revision: 0 means that the key does not exist.
        mod_revision: 0 means that the key does not exist.
        lease: 0 means none.

    Raises:
        ValueError: Nothing is compared.
    """

    key: bytes
    create_revision: int | None = None
    mod_revision: int | None = None
    lease: int | None = None
    value: bytes | None = None

    def __post_init__(self) -> None:
        """Reject a condition that says nothing."""
        given = (self.create_revision, self.mod_revision, self.lease, self.value)
        if all(part is None for part in given):
            raise ValueError(f"a compare of {self.key!r} needs something to compare")


@dataclass(frozen=True, slots=True)
class TxnResult:
    """The answer to a `Txn`."""

    header: Header
    succeeded: bool
    results: tuple[RangeResult | WriteResult, ...] = ()

    def entries(self, step: int) -> RangeResult:
        """Return the answer to a step that was a `Range`, by its place among the steps that were executed, from 0.

        Raises:
            TypeError: It was not a `Range`.
        """
        found = self.results[step]
        if not isinstance(found, RangeResult):
            raise TypeError(f"step {step} was a write")
        return found

    def written(self, step: int) -> WriteResult:
        """Return the answer to a step that was a write, likewise.

        Raises:
            TypeError: It was a `Range`.
        """
        found = self.results[step]
        if not isinstance(found, WriteResult):
            raise TypeError(f"step {step} was a read")
        return found


@dataclass(frozen=True, slots=True)
class Txn(Op[TxnResult]):
    """Do `then` if all conditions hold, else `otherwise`; linearizable, and at one revision.

    Attributes:
        writes: Computed once, because every layer that passes a transaction on reads it.
    """

    compares: tuple[Compare, ...] = ()
    then: tuple[Step, ...] = ()
    otherwise: tuple[Step, ...] = ()
    writes: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compute `writes`."""
        object.__setattr__(self, "writes", any(step.writes for step in (*self.then, *self.otherwise)))

    @property
    def linearizable(self) -> bool:
        """Whether its answer tells what is current: etcd asks the quorum only if there is something to do."""
        steps = (*self.then, *self.otherwise)
        return self.writes or any(isinstance(step, Range) and not step.serializable for step in steps)

    @property
    def key(self) -> bytes:
        """The first key that is named, for messages."""
        first = next(iter((*self.compares, *self.then, *self.otherwise)), None)
        return b"" if first is None else first.key
