"""Reads and writes of many keys in one transaction each; a refused transaction is split in halves, and so on.

etcd refuses a transaction as a whole if this user may not do one part of it, and does not say which. Among
thousands of keys the few refused ones are found in some tens of transactions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from tideover.client.gateway import Gateway
from tideover.errors import PermissionDenied
from tideover.sessions.key import LeasedKey
from tideover.store.operations import MOST_READS, Delete, Put, Range
from tideover.store.transactions import Compare, Txn

T = TypeVar("T")

# Keys of one transaction: two conditions each.
_AT_ONCE = MOST_READS // 2 - 2
# Bytes of one transaction; etcd's limit is 1.5 MiB.
_MOST_BYTES = 524_288


async def unwritable(gateway: Gateway, keys: Sequence[bytes]) -> dict[bytes, str]:
    """Find the keys that this user may not write, with etcd's words, without writing any.

    etcd checks the permissions of both branches of a transaction, and executes the one with the writes only if the
    compares hold, which they never do.
    """
    refused: dict[bytes, str] = {}

    async def all_writable(some: Sequence[bytes]) -> bool:
        never = (Compare(some[0], mod_revision=0), Compare(some[0], mod_revision=1))
        read = Range(some[0], keys_only=True)
        try:
            await gateway.call(Txn(never, then=tuple(Put(key, b"") for key in some), otherwise=(read,)))
        except PermissionDenied as exc:
            if len(some) == 1:
                refused[some[0]] = str(exc)
            return False
        return True

    for some in portions(keys):
        await _halving(some, all_writable)
    return refused


async def not_as_written(gateway: Gateway, keys: Sequence[LeasedKey], lease: int) -> list[LeasedKey]:
    """Find the keys that have changed since they were written, or are not under the lease."""
    found: list[LeasedKey] = []
    asked = {own: Compare(own.full, mod_revision=own.mod_revision, lease=lease) for own in keys}

    async def all_well(some: Sequence[LeasedKey]) -> bool:
        # Without a read in it, etcd would not ask the quorum.
        read = (Range(some[0].full, keys_only=True),)
        try:
            answered = await gateway.call(Txn(tuple(asked[own] for own in some), then=read, otherwise=read))
        except PermissionDenied:
            return len(some) == 1  # a key that may not be read counts as unchanged
        if not answered.result.succeeded and len(some) == 1:
            found.extend(some)
        return answered.result.succeeded

    for some in portions(keys):
        await _halving(some, all_well)
    return found


async def overwrite(gateway: Gateway, values: dict[LeasedKey, bytes], lease: int) -> dict[LeasedKey, str]:
    """Write keys for the last time, except those that have changed since they were written.

    Returns the keys that this user may not write, and etcd's words. A write of unknown outcome is not tried again.
    """
    refused: dict[LeasedKey, str] = {}

    async def write(some: Sequence[LeasedKey]) -> bool:
        compares = tuple(Compare(own.full, mod_revision=own.mod_revision, lease=lease) for own in some)
        puts = tuple(Put(own.full, values[own], lease) for own in some)
        read = Range(some[0].full, keys_only=True)
        try:
            answered = await gateway.call(Txn(compares, then=puts, otherwise=(read,)))
        except PermissionDenied as exc:
            if len(some) == 1:
                refused[some[0]] = str(exc)
            return False
        return answered.result.succeeded

    for some in portions(list(values), lambda own: len(own.full) + len(values[own])):
        await _halving(some, write)
    return refused


async def delete(gateway: Gateway, keys: Sequence[LeasedKey]) -> dict[LeasedKey, str | None]:
    """Delete keys where a lease cannot be revoked, because this user may not write one of its keys.

    Returns the keys with a known outcome: None where the key is gone, else why it is not.
    """
    ends: dict[LeasedKey, str | None] = {}

    async def remove(some: Sequence[LeasedKey]) -> bool:
        compares = tuple(Compare(own.full, create_revision=own.create_revision) for own in some)
        read = Range(some[0].full, keys_only=True)
        try:
            answered = await gateway.call(
                Txn(compares, then=tuple(Delete(own.full) for own in some), otherwise=(read,))
            )
        except PermissionDenied as exc:
            if len(some) == 1:
                ends[some[0]] = str(exc)
            return False
        if answered.result.succeeded or len(some) == 1:
            ends.update(dict.fromkeys(some))
        return answered.result.succeeded

    for some in portions(keys):
        await _halving(some, remove)
    return ends


async def _halving(items: Sequence[T], do: Callable[[Sequence[T]], Awaitable[bool]]) -> None:
    if await do(items) or len(items) == 1:
        return
    half = len(items) // 2
    await _halving(items[:half], do)
    await _halving(items[half:], do)


def portions(items: Sequence[T], size: Callable[[T], int] = lambda _: 0) -> Iterator[Sequence[T]]:
    """Cut into portions that fit into one transaction each."""
    portion: list[T] = []
    total = 0
    for item in items:
        total += size(item)
        if portion and (len(portion) == _AT_ONCE or total > _MOST_BYTES):
            yield portion
            portion, total = [], size(item)
        portion.append(item)
    if portion:
        yield portion
