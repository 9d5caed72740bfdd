"""Which etcd and which namespace are used, and settings that look like mistakes."""

from __future__ import annotations

import logging

from tideover.telemetry.events import event
from tideover.types import Component


def environment_read(target: str, unused: str | None) -> None:
    """Report that the endpoints and their credentials come from the environment; `unused` says which do not."""
    text = f"from the environment: {target}" + (f"; {unused}" if unused else "")
    level = logging.INFO if unused is None else logging.WARNING
    event("tideover.environment.read", text, "config", level=level)


def secret_exposed(problem: str) -> None:
    """Report a file with a password or a key that every user of this machine can read."""
    event("tideover.secret.exposed", problem, "config", level=logging.WARNING)


def namespace_misspelled(component: Component, prefix: str, found: str, other: str) -> None:
    """Report that etcd has no key under the namespace but has one under its other spelling."""
    text = f"etcd has no key under {prefix!r}, but it has {found!r}: is namespace={other!r} meant?"
    event("tideover.namespace.misspelled", text, component, level=logging.WARNING, about=other)
