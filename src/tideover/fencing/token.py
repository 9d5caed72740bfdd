"""Fencing tokens: numbers that grow strictly with every grant of a lock.

etcd's create revision grows from key to key. While a key is handed on inside one process it stays the same, so the
handovers are counted in the low bits. A sink that remembers the largest `(epoch, token)` it has seen, and refuses
smaller ones, is safe even from a holder that was stopped between its last check and its write.

Prior art: Kleppmann, "How to do distributed locking" (2016); Burrows, "The Chubby lock service" (OSDI 2006), where
they are called sequencers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from tideover.foreign_bytes import decimal
from tideover.shown import quoted

HANDOVER_BITS = 16
# After so many handovers the process gives its key back and queues again.
MOST_HANDOVERS = (1 << HANDOVER_BITS) - 1


def fencing_token(create_revision: int, handovers: int) -> int:
    """Return the token of one grant. Raises `ValueError`: a number is out of range."""
    if create_revision < 1 or not 0 <= handovers <= MOST_HANDOVERS:
        raise ValueError(f"no token for create_revision={create_revision}, handovers={handovers}")
    return create_revision << HANDOVER_BITS | handovers


def revision_of(token: int) -> int:
    """Return the create revision in a token."""
    return token >> HANDOVER_BITS


# The field of an HTTP request that carries a token: a dictionary of RFC 9651. The token is a string in it, because
# integers end at 15 digits there.
FENCING_FIELD = "Tideover-Fencing"
_FIELD = re.compile(r'lock="(?P<lock>[!#-\[\]-~]+)", epoch=(?P<epoch>[0-9]{1,15}), token="(?P<token>[0-9]{1,30})"')


@dataclass(frozen=True, slots=True)
class Fence:
    """What a fenced resource is shown.

    Attributes:
        lock: The lock's name.
        epoch: Which history of etcd the token belongs to.
        token: The fencing token.
    """

    lock: str
    epoch: int
    token: int

    def to_field(self) -> str:
        """Return the value of the field."""
        return f'lock="{quote(self.lock)}", epoch={self.epoch}, token="{self.token}"'

    @classmethod
    def from_field(cls, value: str) -> Fence:
        """Return what a field says.

        Raises:
            ValueError: The field is malformed.
        """
        found = _FIELD.fullmatch(value)
        if found is None:
            raise ValueError(f"not a {FENCING_FIELD} field: {quoted(value[:80])}")
        return cls(
            unquote(found["lock"]),
            decimal(found["epoch"], "the epoch"),
            decimal(found["token"], "the token", most=10**30),
        )
