"""When a registration that is not in etcd is to be put there: pure decisions.

After an outage all clients notice at the same time that etcd is back. Those whose lease has ended, or who could
not begin, would then grant a lease and write their keys, all within a tenth of a second. So each waits for a
share of `SPREAD` that is fixed by the hash of its incarnation: no coordination, and no luck needed. A client that
starts on a good day waits for nothing, and neither does one whose key alone was deleted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import Enum

# Seconds over which those spread that return together. Far below the shortest ttl, because a registration is to be
# there again within its ttl.
SPREAD = 2.25
# Seconds between two tries: at first, at the most, and after a definite no, which only an operator can change.
_FIRST = 0.1
_MOST = 1.0
_REFUSED = 5.0
# A key that has been there for so many seconds was not deleted by somebody who does it again and again.
_STEADY = 10.0


class Failure(Enum):
    """Why a registration is not in etcd, or not as it is to be.

    Attributes:
        OUTAGE: An outage was declared: all others are in it too.
        LOST: Its lease has ended: perhaps the others' too, as after a rebuild.
        DELETED: Its key is gone and its lease is not: an operator, for one.
        FAILED: A try has failed, and may do better the next time.
        REFUSED: etcd has said a definite no.
    """

    OUTAGE = "outage"
    LOST = "lost"
    DELETED = "deleted"
    FAILED = "failed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Comeback:
    """Where a registration stands on its way back.

    Attributes:
        together: Whether others return at the same time.
        refused: Whether the last try was refused.
        failures: How many tries have failed since it was there for long.
    """

    together: bool = False
    refused: bool = False
    failures: int = 0

    def after(self, setback: Failure) -> Comeback:
        """Return where it stands after a setback."""
        if setback in (Failure.OUTAGE, Failure.LOST):
            return Comeback(together=True)
        refused = setback is Failure.REFUSED
        return Comeback(refused=refused, failures=0 if refused else self.failures + 1)

    def there(self) -> Comeback:
        """Return where it stands when it has been put into etcd: that may not last."""
        return replace(self, together=False, refused=False)

    def lasted(self, seconds: float) -> Comeback:
        """Return where it stands when it has been there for a time."""
        return Comeback() if seconds >= _STEADY else self

    def delay(self, *, share: float, chance: float) -> float:
        """Return the seconds to wait before the next try.

        Args:
            share: The share of `SPREAD` that is this one's, in [0, 1); see `share_of`.
            chance: A number drawn uniformly from [0, 1).
        """
        if self.together:
            return SPREAD * share
        if self.refused:
            return _REFUSED * (0.8 + 0.2 * chance)
        if not self.failures:
            return 0.0
        return chance * min(_MOST, _FIRST * 2.0 ** min(self.failures - 1, 16))


def share_of(incarnation: str) -> float:
    """Return the share of the spread that is an incarnation's, in [0, 1): evenly spread over many of them."""
    return int.from_bytes(hashlib.sha256(incarnation.encode()).digest()[:6]) / 2**48
