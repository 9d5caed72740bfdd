"""Which etcd, and which namespace there: where that was said, and whether it is the one that was meant."""

from __future__ import annotations

import logging

from tideover.telemetry.events import event
from tideover.types import Component


def environment_read(target: str, unused: str | None) -> None:
    """Report that endpoints and all that goes with them are those of the environment.

    Args:
        target: What they are, in words.
        unused: Which variable is left alone though it is set, in words; None if none is.
    """
    text = f"from the environment: {target}" + (f"; {unused}" if unused else "")
    level = logging.INFO if unused is None else logging.WARNING
    event("tideover.environment.read", text, {"tideover.component": "config"}, level=level)


def secret_exposed(problem: str) -> None:
    """Report a file of a password or a key that everybody on this machine can read.

    Args:
        problem: Which one, in words.
    """
    event("tideover.secret.exposed", problem, {"tideover.component": "config"}, level=logging.WARNING)


def namespace_misspelled(component: Component, prefix: str, found: str, other: str) -> None:
    """Report that etcd has nothing for us, but something under the other spelling of our namespace.

    Args:
        component: For whom something was looked for.
        prefix: Where there is nothing.
        found: A key of the other namespace.
        other: That namespace.
    """
    text = f"etcd has no key under {prefix!r}, but it has {found!r}: is namespace={other!r} meant?"
    attributes = {"tideover.component": component}
    event("tideover.namespace.misspelled", text, attributes, level=logging.WARNING, about=other)
