"""Which host of a URL stands for a service or a leader, instead of one that is looked up.

Hosts are in lower case and have no slashes. What a name has of these is percent-encoded, as RFC 3986 (section
3.2.2) lets a registered name be: `http://jobs%2Freaper.leader/` is for the election `jobs/reaper`.
"""

from __future__ import annotations

from urllib.parse import unquote


def check_suffix(what: str, suffix: str) -> str:
    """Return a suffix of hosts that are not looked up.

    Raises:
        ValueError: No host ends with that.
    """
    if not suffix.startswith(".") or suffix != suffix.lower():
        raise ValueError(f"{what} must begin with a dot and be in lower case, not {suffix!r}")
    return suffix


def name_in(host: str, suffix: str) -> str:
    """Return the name in a host; empty if it is an ordinary one."""
    name = host.removesuffix(suffix)
    return "" if name == host else unquote(name, errors="strict")
