"""Configuration: the calls that ask etcd, the values refused."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager

from tideover.shown import shown
from tideover.telemetry.events import Attributes, event
from tideover.telemetry.scope import meter, waiting

_rejections = meter.create_counter(
    "tideover.config.rejections", unit="{rejection}", description="Configuration values refused."
)


def fetching(namespace: str, key: str | None) -> AbstractContextManager[object]:
    """Record a `config.fetch`; served by a fallback it is no error.

    Args:
        namespace: The coordinator's namespace.
        key: The key, if keys may be recorded.
    """
    attributes = {"db.namespace": namespace, "tideover.component": "config"}
    if key is not None:
        attributes["tideover.config.key"] = key
    # Messages of errors name keys, and a value that cannot be decoded.
    return waiting("tideover.config.fetch", attributes, record_exception=key is not None)


def config_applied(keys: int, revision: int, *, first: bool) -> None:
    """Report that what is served has changed.

    Args:
        keys: How many keys.
        revision: The revision it is of now.
        first: Whether nothing was served before.
    """
    attributes: Attributes = {"tideover.component": "config", "tideover.revision": revision}
    counted = f"{keys} key" if keys == 1 else f"{keys} keys"
    text = f"{counted} {'read' if first else 'changed'}, as of revision {revision}"
    event("tideover.config.applied", text, attributes, about="read" if first else "changed")


def config_rejected(key: str, revision: int, why: str) -> None:
    """Report a value that could not be decoded or was not valid; the last good one stays.

    Args:
        key: The key.
        revision: The revision refused.
        why: What is wrong with it.
    """
    _rejections.add(1)
    attributes: Attributes = {"tideover.component": "config", "tideover.revision": revision}
    event(
        "tideover.config.rejected",
        f"'{shown(key)}' at revision {revision}: {why}",
        attributes,
        level=logging.ERROR,
        about=key,
    )
