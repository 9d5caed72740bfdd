"""Public names that were changed: the old ones work for one release, with a warning."""

from __future__ import annotations

import warnings

from tideover.sessions.key import LeasedKey

_FORMER = {"OwnKey": LeasedKey}


def __getattr__(name: str) -> object:
    """Return what an old name of the package stands for now."""
    now = _FORMER.get(name)
    if now is None:
        raise AttributeError(f"module 'tideover' has no attribute {name!r}")
    warnings.warn(f"tideover.{name} is now tideover.{now.__name__}", DeprecationWarning, stacklevel=2)
    return now
