"""What tests of locks share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio

from tests.support import connected
from tideover import Coordinator
from tideover.etcd.store import Delete, Op, Put, Result, Store
from tideover.etcd.transactions import Txn
from tideover.testing import MemoryStore


def lock_keys(store: MemoryStore, name: str = "") -> list[bytes]:
    """Return the keys of locks in etcd, oldest first."""
    found = [(e.create_revision, k) for k, e in store._newest.items() if k.startswith(f"/locks/{name}".encode())]
    return [key for _, key in sorted(found)]


def touches(name: str, kind: type[Put] | type[Delete]) -> Callable[[Op[Result]], bool]:
    """Return whether an operation is a transaction that writes or deletes a key of a lock."""
    prefix = f"/locks/{name}/".encode()

    def matches(op: Op[Result]) -> bool:
        return isinstance(op, Txn) and any(isinstance(s, kind) and s.key.startswith(prefix) for s in op.then)

    return matches


def lose_all(store: MemoryStore) -> None:
    """Let every member refuse connections."""
    store.down = set(store.members)
    store.touch()


def heal(store: MemoryStore) -> None:
    """Let every member be well."""
    store.down = set()
    store.touch()


@asynccontextmanager
async def connected_many(store: Store, count: int, **options: Any) -> AsyncIterator[list[Coordinator]]:
    """Run several coordinators on one store: as if each were a process of its own."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(connected(store, **options)) for _ in range(count)]


async def settle(seconds: float = 0.5) -> None:
    """Let what is under way come to its end."""
    await anyio.sleep(seconds)
