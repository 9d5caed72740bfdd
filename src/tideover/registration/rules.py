"""When a missing registration is written: pure decisions.

After an outage all clients notice at the same time that etcd is back. Those whose lease has ended, or that could
not begin, would then grant a lease and write their keys, all within a tenth of a second. So each waits for a share
of `SPREAD` that the hash of its incarnation fixes: no coordination, and no luck needed. A client that starts while
etcd is well waits for nothing, and neither does a client whose key alone was deleted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import Enum

# Seconds over which returning registrations spread. Far below the shortest ttl: each returns within its ttl.
SPREAD = 2.25
# Seconds between two tries: at first, at the most, and after a definite no, which only an operator can change.
_FIRST = 0.1
_MOST = 1.0
_REFUSED = 5.0
# Seconds after which a key's deletion starts a new row of failures: nothing deletes that key again and again.
_STEADY = 10.0


class Failure(Enum):
    """Why a registration is not in etcd, or is out of date there.

    Attributes:
        OUTAGE: An outage was declared, which concerns all clients.
        LOST: The lease has ended, perhaps those of other clients too, as after a rebuild.
        DELETED: The key is gone and the lease is not: an operator, for one.
        FAILED: A try has failed, and the next one may succeed.
        REFUSED: etcd has said a definite no.
    """

    OUTAGE = "outage"
    LOST = "lost"
    DELETED = "deleted"
    FAILED = "failed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Comeback:
    """The state of a missing registration.

    Attributes:
        together: Whether other registrations return at the same time.
        refused: Whether etcd refused the last try.
        failures: How many tries have failed in a row.
    """

    together: bool = False
    refused: bool = False
    failures: int = 0

    def after(self, failure: Failure) -> Comeback:
        """Return the state after a failure."""
        if failure in (Failure.OUTAGE, Failure.LOST):
            return Comeback(together=True)
        refused = failure is Failure.REFUSED
        return Comeback(refused=refused, failures=0 if refused else self.failures + 1)

    def there(self) -> Comeback:
        """Return the state after a successful write, which may not last."""
        return replace(self, together=False, refused=False)

    def lasted(self, seconds: float) -> Comeback:
        """Return the state after the key has been in etcd for a time."""
        return Comeback() if seconds >= _STEADY else self

    def delay(self, *, share: float, chance: float) -> float:
        """Return the seconds to wait before the next try, with this registration's `share_of` the `SPREAD`."""
        if self.together:
            return SPREAD * share
        if self.refused:
            return _REFUSED * (0.8 + 0.2 * chance)
        if not self.failures:
            return 0.0
        return chance * min(_MOST, _FIRST * 2.0 ** min(self.failures - 1, 16))


def share_of(incarnation: str) -> float:
    """Return an incarnation's share of the spread, in [0, 1): even over many incarnations."""
    return int.from_bytes(hashlib.sha256(incarnation.encode()).digest()[:6]) / 2**48
