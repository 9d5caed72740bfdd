"""Fencing tokens: numbers that grow strictly with every grant of a lock.

etcd's create revision grows from key to key. While a key is handed on inside one process it stays the same, so the
handovers are counted in the low bits. A sink that remembers the largest `(epoch, token)` it has seen, and refuses
smaller ones, is safe even from a holder that was stopped between its last check and its write.

Prior art: Kleppmann, "How to do distributed locking" (2016); Burrows, "The Chubby lock service" (OSDI 2006), where
they are called sequencers.
"""

from __future__ import annotations

HANDOVER_BITS = 16
# After so many the key is given back and taken anew.
MOST_HANDOVERS = (1 << HANDOVER_BITS) - 1


def fencing_token(create_revision: int, handovers: int) -> int:
    """Return the token of one grant.

    Args:
        create_revision: The revision at which the lock's key came to be.
        handovers: How often that key was handed on inside the process before.

    Raises:
        ValueError: A number is out of range.
    """
    if create_revision < 1 or not 0 <= handovers <= MOST_HANDOVERS:
        raise ValueError(f"no token for create_revision={create_revision}, handovers={handovers}")
    return create_revision << HANDOVER_BITS | handovers


def revision_of(token: int) -> int:
    """Return the create revision in a token."""
    return token >> HANDOVER_BITS
