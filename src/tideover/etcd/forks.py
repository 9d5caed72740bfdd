"""Forks, which gRPC does not survive: its threads are gone in the child, and what it has open is the parent's.

*After everything was closed* a fork is healthy if gRPC has ended, which it does with the last of its objects. So
closed objects drop their references to gRPC, and reference cycles of tracebacks, those of grpc's own frames for
example, are collected before the fork. That costs a collection, and only processes that fork.

*While something is open* the child must not use gRPC at all. A new connection there hears nothing, because the
threads that would tell are the parent's; and what the child closes or frees writes to the parent's sockets. So
connecting is refused, and what was open is kept for as long as the child lives.
"""

from __future__ import annotations

import gc
import glob
import os
import time
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from tideover.errors import Closed

# Seconds before a fork for gRPC to end, at the most, and between two looks. Half a millisecond is usual.
_ENDING = 0.5
_MOMENT = 0.001
# What the names of its threads begin with.
_THREADS = (b"grpc", b"event_engine", b"lifeguard", b"timer_manager")

_open: WeakSet[Any] = WeakSet()
_kept: list[object] = []
_uncollected = False
_forked_from = 0


def opened(store: object) -> None:
    """Record an open store; raise `Closed` if this process was forked while a store was open."""
    if _forked_from:
        raise Closed(
            f"this process ({os.getpid()}) was forked from one ({_forked_from}) that was connected to etcd, and "
            "gRPC does not survive that: start processes with multiprocessing's `spawn` or `forkserver`, or fork "
            "before the first connection, and connect in each"
        )
    _open.add(store)


def closed(store: object) -> None:
    """Record that a store has closed everything of gRPC, if it had any."""
    global _uncollected
    _uncollected = _uncollected or store in _open
    _open.discard(store)


def _before() -> None:
    global _uncollected
    if not _uncollected or _open:
        return
    gc.collect()
    _uncollected = False
    # gRPC ends in threads of its own.
    until = time.monotonic() + _ENDING
    while time.monotonic() < until and _is_running():
        time.sleep(_MOMENT)


def _is_running() -> bool:
    """Whether gRPC has threads, as far as the system tells. An application's own channels have some, too."""
    for name in glob.glob("/proc/self/task/*/comm"):
        with suppress(OSError), open(name, "rb") as comm:
            if comm.read().startswith(_THREADS):
                return True
    return False


def _in_child() -> None:
    global _forked_from
    if _open:
        _forked_from = os.getppid()
        _kept.extend(_open)
        # Neither may a collection in the child free what its tracebacks and tasks hold together.
        gc.freeze()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_child=_in_child)
