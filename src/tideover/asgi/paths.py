"""Paths of requests as an application sees them: below the place where it is mounted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlparse

from starlette.types import Scope

_SLASHES = re.compile("/+")
_DOTS = re.compile(r"/\.\.?(/|$)")


class Paths:
    """Some paths, each with everything below: `/static` also means `/static/app.css`, but not `/statics`."""

    def __init__(self, what: str, given: Iterable[str]) -> None:
        if isinstance(given, str):
            raise TypeError(f"{what} must be a list, such as [{given!r}], not a string")
        self._given = tuple(check_path(what, path) for path in given)
        # Everything is below the root, also paths without a slash at the beginning.
        self._below = tuple(path and f"{path}/" for path in self._given)

    def __bool__(self) -> bool:
        return bool(self._given)

    def contain(self, scope: Scope) -> bool:
        """Whether a request is for one of them."""
        path = route_path(scope)
        if "//" in path:
            # Some frameworks take several slashes for one.
            path = _SLASHES.sub("/", path)
        return path in self._given or path.startswith(self._below)


def is_plain(scope: Scope) -> bool:
    """Whether every application reads a path as it is written: it begins with a slash, and has no `..` or `.`.

    Some servers pass on the absolute form of a target (`GET http://a/pay`, RFC 9112, 3.2.2) unchanged, and some
    applications follow dots, as for files, or pass them on to a server that does.
    """
    path = _below_root(str(scope["path"]), scope)
    return (path.startswith("/") or not path) and not ("/." in path and _DOTS.search(path))


def check_path(what: str, path: str) -> str:
    """Return a path without the slash at its end.

    Raises:
        TypeError: It is no string.
        ValueError: It does not begin with a slash.
    """
    if not isinstance(path, str):
        raise TypeError(f"{what}: a path must be a string, not {path!r}")
    if not path.startswith("/"):
        raise ValueError(f"{what}: a path must begin with a slash, such as '/static', not {path!r}")
    return path.rstrip("/")


def check_mount(what: str, path: str) -> str:
    """Return the path of a mount in front of an application, without the slash at its end.

    Raises:
        TypeError: It is no string.
        ValueError: It does not begin with a slash, or is the root, where it would hide the application.
    """
    found = check_path(what, path)
    if not found:
        raise ValueError(f"{what}: at {path!r} it would hide the application; give a path such as '/_tideover'")
    return found


def below(path: str, scope: Scope) -> str | None:
    """Return a request's path below another, such as `/livez`; None if the request is for another path."""
    found = route_path(scope)
    return found[len(path) :] if found == path or found.startswith(f"{path}/") else None


def route_path(scope: Scope) -> str:
    """Return the path of a request without the `root_path`, which servers and mounts put in front of it.

    Also understood: servers that give the path alone, as before ASGI 2.4, and servers that leave the absolute form
    of a request's target unchanged.
    """
    path = str(scope["path"])
    return _below_root(path if path.startswith("/") else _path_of_target(path), scope)


def _below_root(path: str, scope: Scope) -> str:
    root = str(scope.get("root_path", "")).rstrip("/")
    return path[len(root) :] if root and (path == root or path.startswith(f"{root}/")) else path


def _path_of_target(target: str) -> str:
    """Return the path of `http://host/path`, read as Quart does, which serves it as `/path`."""
    try:
        return urlparse(target).path or "/"
    except ValueError:
        return target
