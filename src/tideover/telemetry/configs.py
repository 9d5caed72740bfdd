"""Configuration: the calls that ask etcd, the values refused."""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import AbstractContextManager
from functools import lru_cache

from tideover.shown import shown
from tideover.status.statements import age_in_words, duration
from tideover.telemetry.events import event
from tideover.telemetry.scope import Attributes, begin_wait, bounded, meter
from tideover.types import Component

_rejections = meter.create_counter(
    "tideover.config.rejections", unit="{rejection}", description="Configuration values refused."
)


def fetching(namespace: str, key: str | None) -> AbstractContextManager[object]:
    """Record a `config.fetch`, without the key where keys may not be recorded; a fallback is no error."""
    attributes = _of_fetches(namespace)
    if key is not None:
        attributes = {**attributes, **bounded({"tideover.config.key": key})}
    # Messages of errors name keys.
    return begin_wait("tideover.config.fetch", attributes, record_exception=key is not None)


@lru_cache(maxsize=64)
def _of_fetches(namespace: str) -> Attributes:
    return bounded({"db.namespace": namespace, "tideover.component": "config"})


def config_applied(keys: int, revision: int, *, first: bool) -> None:
    """Report changed keys; `first` for the first read."""
    how = "read" if first else "changed"
    text = f"{_counted(keys)} {how}, as of revision {revision}"
    event("tideover.config.applied", text, "config", {"tideover.revision": revision}, about=how)


def config_unfound(prefix: str, what: str) -> None:
    """Report that etcd has none of a settings object's keys."""
    text = f"etcd has no key of {what} under {prefix!r}: all its values are the defaults"
    event("tideover.config.unfound", text, "config", level=logging.WARNING, about=f"{prefix} {what}")


def config_stood_in(what: str, instead: str, revision: int) -> None:
    """Report a settings object that starts with `default` or `accepted` values, because newer ones are refused."""
    accepted = f"the values of revision {revision}, which it has accepted before"
    values = "its defaults" if instead == "default" else accepted
    text = f"{what} begins with {values}, because newer ones are refused"
    attributes: Attributes = {"tideover.revision": revision}
    event("tideover.config.stood_in", text, "config", attributes, level=logging.WARNING, about=what)


def config_restored(keys: int, age: float, sources: Collection[str], *, away: str | None) -> None:
    """Report a start without etcd, and what is served instead.

    Args:
        age: Seconds; infinite if unknown.
        away: The diagnosis; None if etcd is not known to be away but was not read in time.
    """
    why = "etcd was not read in time" if away is None else f"etcd is away ({away})"
    served = f"{_counted(keys)} served from {' and '.join(sources)}, {age_in_words(age)}"
    text = f"{why}: {served if sources else 'nothing is known of the configuration'}"
    event("tideover.config.restored", text, "config", level=logging.WARNING)


def config_recovered(keys: int, revision: int, seconds: float) -> None:
    """Report that etcd was read again after `seconds`."""
    changed = f"{_counted(keys) if keys else 'no key'} changed meanwhile"
    text = f"read from etcd again after {duration(seconds)}: {changed}, as of revision {revision}"
    event("tideover.config.recovered", text, "config", {"tideover.revision": revision}, level=logging.WARNING)


def _counted(keys: int) -> str:
    return f"{keys} key" if keys == 1 else f"{keys} keys"


def prefix_refused(component: Component, why: str) -> None:
    """Report a followed prefix that cannot be read although etcd answers; the known values stay."""
    event("tideover.prefix.refused", why, component, level=logging.ERROR, about=why)


def config_rejected(key: str, revision: int, why: str) -> None:
    """Report a value that could not be decoded or was not valid; the last good one stays."""
    _rejections.add(1)
    text = f"'{shown(key)}' at revision {revision}: {why}"
    attributes: Attributes = {"tideover.revision": revision}
    event("tideover.config.rejected", text, "config", attributes, level=logging.ERROR, about=key)
