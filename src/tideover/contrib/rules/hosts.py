"""Which host of a URL stands for a service, instead of one that is looked up."""

from __future__ import annotations


def check_suffix(what: str, suffix: str) -> str:
    """Return what the hosts of services may end with.

    Args:
        what: The option's name.
        suffix: Its value.

    Raises:
        ValueError: No host ends with that.
    """
    if not suffix.startswith(".") or suffix != suffix.lower():
        raise ValueError(f"{what} must begin with a dot and be in lower case, not {suffix!r}")
    return suffix


def name_in(host: str, suffix: str) -> str:
    """Return the name in a host; empty if it is an ordinary one.

    Args:
        host: The host of a URL.
        suffix: What it has to end with.
    """
    name = host.removesuffix(suffix)
    return "" if name == host else name
