"""A process that watches at every member, and records when each shows a key of the trials as deleted.

Run as: python session_observer.py HISTORY NAME PREFIX ENDPOINT...
"""

from __future__ import annotations

import sys

import anyio

from tests.history.recorder import Recorder
from tideover.etcd.adapter import EtcdStore
from tideover.store.faults import StoreFault
from tideover.store.operations import prefix_end


async def observe(store: EtcdStore, member: str, prefix: bytes, recorder: Recorder) -> None:
    """Watch at one member, again and again, without a gap."""
    following = 1
    while True:
        try:
            watching = store.watch(
                prefix, prefix_end(prefix), start_revision=following, member=member, timeout=1.0
            )
            async with watching as watch:
                while True:
                    batch = await watch.receive()
                    for event in batch.events:
                        following = event.revision + 1
                        if event.entry is None:
                            key = event.key.decode()
                            recorder.record("key_deleted", key=key, revision=event.revision, member=member)
        except StoreFault:
            store.renew(member)
            await anyio.sleep(0.1)


async def main(*arguments: str) -> None:
    """Observe until killed."""
    history, name, prefix, *endpoints = arguments
    with Recorder(history, name) as recorder:
        store = EtcdStore(endpoints)
        recorder.record("observing")
        async with anyio.create_task_group() as tasks:
            for member in endpoints:
                tasks.start_soon(observe, store, member, prefix.encode(), recorder)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
