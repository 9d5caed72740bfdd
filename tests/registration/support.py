"""What the tests of registrations see in a cluster in memory."""

from __future__ import annotations

import anyio

from tideover import Endpoint
from tideover.discovery.endpoint import decode
from tideover.testing import MemoryStore

URL = "http://10.0.0.7:8000"


def published(store: MemoryStore, service: str = "api") -> list[Endpoint]:
    """Return the endpoints of a service that are in etcd now, whoever put them there."""
    _ = store.leases  # lets those that are over end
    found = [
        (entry.create_revision, decode(key.decode().removeprefix("/"), entry.value))
        for key, entry in store._newest.items()
        if key.startswith(f"/services/{service}/".encode())
    ]
    return [endpoint for _, endpoint in sorted(found, key=lambda pair: pair[0])]


async def back_within(store: MemoryStore, seconds: float, count: int = 1) -> float:
    """Wait until there are as many endpoints as there should be; return how long that took."""
    began = anyio.current_time()
    while len(published(store)) != count:
        assert anyio.current_time() - began <= seconds, f"{len(published(store))} after {seconds} s"
        await anyio.sleep(0.05)
    return anyio.current_time() - began


def lose_all(store: MemoryStore) -> None:
    """Let every member refuse connections."""
    store.down = set(store.members)
    store.touch()


def heal(store: MemoryStore) -> None:
    """Let every member be well."""
    store.down, store.frozen, store.electing = set(), set(), False
    store.touch()
