"""Sessions of their own: what stands under a lease, and whether it may be relied upon."""

from __future__ import annotations

import logging
from collections.abc import Collection

from tideover.shown import quoted
from tideover.telemetry.events import event
from tideover.telemetry.scope import Attributes

# Keys that a line names.
_NAMED = 3


def session_changed(what: str, keys: Collection[str], *, level: int = logging.INFO) -> None:
    """Report that a session of the application's own may not be relied upon any more, or may be again.

    Args:
        what: Which session, and what has happened to it.
        keys: Its keys.
        level: The `logging` level.
    """
    attributes: Attributes = {"tideover.component": "session"}
    event("tideover.session.change", f"{what} ({_named(keys)})", attributes, level=level)


def session_left(lease_id: int, keys: Collection[str], why: str, *, component: str, within: float) -> None:
    """Report that the keys of a session that was closed are still in etcd.

    Args:
        lease_id: Its lease.
        keys: Its keys.
        why: Why they could not be deleted.
        component: Whose session it is.
        within: Seconds within which etcd deletes them by itself.
    """
    attributes: Attributes = {"tideover.component": component}
    text = f"{_named(keys)} may stay in etcd for {within:.0f} s, until session {lease_id:x} ends: {why}"
    event("tideover.session.left", text, attributes)


def _named(keys: Collection[str]) -> str:
    if not keys:
        return "without keys"
    shown = ", ".join(quoted(key) for key in list(keys)[:_NAMED])
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return f"{'key' if len(keys) == 1 else 'keys'} {shown}{more}"
