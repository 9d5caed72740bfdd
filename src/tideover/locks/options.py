"""The options of a lock, and its name: checked before anything is asked of etcd."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, cast

from tideover.sessions.rules import LeaseRules
from tideover.shown import quoted

OnOutage = Literal["fail", "wait", "local"]


@dataclass(frozen=True, slots=True)
class LockOptions:
    """The options of one lock, made in the public method and handed down whole; `Coordinator.lock` documents them.

    Raises `TypeError` for an option of the wrong type, `ValueError` for one that is out of range.
    """

    ttl: int
    timeout: float | None
    on_outage: OnOutage | None
    handover: bool
    lock_delay: float

    def __post_init__(self) -> None:
        """Reject what cannot work."""
        LeaseRules(self.ttl)
        if self.timeout is not None:
            _check_seconds("timeout", self.timeout)
        _check_seconds("lock_delay", self.lock_delay)
        if self.on_outage not in ("fail", "wait", "local", None):
            raise ValueError(f"on_outage must be 'fail', 'wait' or 'local', not {quoted(self.on_outage)}")
        if not isinstance(self.handover, bool):
            raise TypeError(f"handover must be True or False, not {quoted(self.handover)}")


# Most locks of a process have one of a few combinations. `typed`, because True is no number of seconds.
lock_options = cast("type[LockOptions]", lru_cache(maxsize=256, typed=True)(LockOptions))


def _check_seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {quoted(value)}")
    # An `int` may be finite and yet no time that can be computed with.
    if not 0 <= value <= sys.float_info.max:
        raise ValueError(f"{name} must be 0 seconds or more, and finite, not {quoted(value)}")


@lru_cache(maxsize=4096)
def check_name(name: str) -> str:
    """Return a lock's name if it can be one.

    Raises:
        TypeError: It is not text.
        ValueError: It is empty, holds NUL, begins or ends with a slash, or cannot be encoded.
    """
    if not isinstance(name, str):
        raise TypeError(f"a lock's name must be text, not {quoted(name)}")
    if not name or "\0" in name or name.startswith("/") or name.endswith("/"):
        raise ValueError(
            f"a lock's name must not be empty, hold NUL, or begin or end with a slash, not {quoted(name)}"
        )
    try:
        name.encode()
    except UnicodeEncodeError as exc:
        raise ValueError(f"a lock's name must be Unicode text, not {quoted(name)}") from exc
    return name
