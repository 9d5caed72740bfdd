"""The names of the library whose client is served: its requests, its answers and its errors."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import Any, TypeAlias

from tideover.contrib.rules.locations import Url, read_base
from tideover.contrib.transports.bodies import PassedBody, Receiving, Sending

_BASES = 1000

# Of any library that looks like httpx, with the same names.
Error: TypeAlias = Any
Request: TypeAlias = Any
Response: TypeAlias = Any


# Those that look the same.
_LIBRARIES = ("httpx", "httpx2")


# Makes bodies that the library accepts.
BodyClass: TypeAlias = Callable[[Any, Sending | Receiving], PassedBody]


class Library:
    """A library.

    Attributes:
        never_sent: Errors after which nothing was sent: no connection, or a URL that allows none.
        failures: Errors of the endpoint, as opposed to the caller's own, such as a pool without a free connection.
        no_url: Errors for text that is no URL, of the library, idna and urllib; some are raised only by its parts.
    """

    def __init__(self, module: ModuleType, body: BodyClass) -> None:
        names: Any = module
        self.name = module.__name__
        self.names = names
        self.body = body
        self.never_sent = (names.ConnectError, names.ConnectTimeout, names.UnsupportedProtocol)
        self.failures = (
            names.NetworkError,
            names.ConnectTimeout,
            names.ReadTimeout,
            names.WriteTimeout,
            names.RemoteProtocolError,
            names.UnsupportedProtocol,
        )
        self.no_url: tuple[type[Exception], ...] = (names.InvalidURL, ValueError)
        self.read_base: Callable[[str], Url | str] = lru_cache(maxsize=_BASES)(self._read_base)

    def check(self, what: str, given: object) -> None:
        """Refuse an object of the other library, which looks the same and shares no class with this one.

        Raises:
            TypeError: It belongs to the other library; the message names both.
        """
        other = _origin(given)
        if other not in ("", self.name):
            raise TypeError(
                f"{what} is for {self.name}, and was given {type(given).__name__} of {other}, which shares no "
                f"class with it: tideover.contrib.{other} has the same for {other}"
            )

    def _read_base(self, text: str) -> Url | str:
        return read_base(text, self.names.URL, self.no_url)


def _origin(given: object) -> str:
    """Return the library of an object; empty for none."""
    modules = (each.__module__.partition(".")[0] for each in type(given).__mro__)
    return next((module for module in modules if module in _LIBRARIES), "")
