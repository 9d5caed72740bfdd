"""Transactions: conditions on keys, and what is done if all of them hold, or if one does not.

The whole of it happens at one revision or not at all. That makes compare-and-swap, guarded deletes and fencing
possible: everything tideover owns in etcd is changed in this way.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tideover.store.operations import Delete, Lane, Op, Put, Range, RangeResult, WriteResult
from tideover.types import Header

Step = Put | Delete | Range


@dataclass(frozen=True, slots=True)
class Compare:
    """A condition on one key: all that is given must be equal.

    Attributes:
        key: The key.
        create_revision: The revision at which it came to be; 0 means that it does not exist.
        mod_revision: The revision that last changed it; 0 means that it does not exist.
        lease: The lease it is attached to; 0 means none.
        value: Its value.

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
    """The answer to a `Txn`.

    Attributes:
        header: Who answered, and at which revision.
        succeeded: Whether all conditions held.
        results: One answer per step that was taken, in their order.
    """

    header: Header
    succeeded: bool
    results: tuple[RangeResult | WriteResult, ...] = ()

    def entries(self, step: int) -> RangeResult:
        """Return the answer to a step that was a `Range`.

        Args:
            step: Its place among the steps that were taken, from 0.

        Raises:
            TypeError: It was not a `Range`.
        """
        found = self.results[step]
        if not isinstance(found, RangeResult):
            raise TypeError(f"step {step} was a write")
        return found

    def written(self, step: int) -> WriteResult:
        """Return the answer to a step that was a write.

        Args:
            step: Its place among the steps that were taken, from 0.

        Raises:
            TypeError: It was a `Range`.
        """
        found = self.results[step]
        if not isinstance(found, WriteResult):
            raise TypeError(f"step {step} was a read")
        return found


@dataclass(frozen=True, slots=True)
class Txn(Op[TxnResult]):
    """Do one thing if all conditions hold, else another; linearizable, and at one revision.

    Attributes:
        compares: The conditions; none always hold.
        then: Done if they hold.
        otherwise: Done if one does not.
        writes: Whether it may change the store; worked out once, for whoever passes it on asks.
    """

    compares: tuple[Compare, ...] = ()
    then: tuple[Step, ...] = ()
    otherwise: tuple[Step, ...] = ()
    writes: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work out whether it writes."""
        object.__setattr__(self, "writes", any(step.writes for step in (*self.then, *self.otherwise)))

    @property
    def lane(self) -> Lane:
        """Which lane it travels in."""
        return Lane.QUORUM

    @property
    def linearizable(self) -> bool:
        """Whether its answer tells what is current: etcd asks the quorum only if there is something to do."""
        steps = (*self.then, *self.otherwise)
        return self.writes or any(isinstance(step, Range) and not step.serializable for step in steps)

    @property
    def key(self) -> bytes:
        """The first key it speaks of, for messages."""
        first = next(iter((*self.compares, *self.then, *self.otherwise)), None)
        return b"" if first is None else first.key
