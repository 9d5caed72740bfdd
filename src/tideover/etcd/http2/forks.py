"""Forks: a child keeps nothing of its parent's connections, and may make its own.

A child has copies of its parent's sockets. As long as it has them, a connection that the parent closes stays open,
and what the child frees or closes might still be written. So the numbers of these sockets lead to nothing there.
"""

from __future__ import annotations

import os
from contextlib import suppress
from weakref import WeakSet

from tideover.etcd.http2.connection import Connection

_open: WeakSet[Connection] = WeakSet()


def watch(connection: Connection) -> None:
    """Let children have nothing of a connection."""
    _open.add(connection)


def _in_child() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        for connection in _open:
            number = connection.socket_number()
            if number >= 0:
                with suppress(OSError):
                    # In place, so that nothing else gets the number that is still to be closed.
                    os.dup2(nothing, number, inheritable=False)
    finally:
        os.close(nothing)
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
