"""The application's own sessions: whether their keys are still held."""

from __future__ import annotations

import logging
from collections.abc import Collection

from tideover.shown import quoted
from tideover.telemetry.events import event

# Keys that a line names.
_NAMED = 3


def session_changed(what: str, keys: Collection[str], *, level: int = logging.INFO) -> None:
    """Report that one of the application's own sessions is no longer held, or is again."""
    event("tideover.session.change", f"{what} ({_named(keys)})", "session", level=level)


def session_left(lease_id: int, keys: Collection[str], why: str, *, component: str, within: float) -> None:
    """Report keys of a closed session that etcd still has and deletes within `within` seconds."""
    text = f"{_named(keys)} may stay in etcd for {within:.0f} s, until session {lease_id:x} ends: {why}"
    event("tideover.session.left", text, component)


def _named(keys: Collection[str]) -> str:
    if not keys:
        return "without keys"
    shown = ", ".join(quoted(key) for key in list(keys)[:_NAMED])
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return f"{'key' if len(keys) == 1 else 'keys'} {shown}{more}"
