"""Where endpoints are, and where their answers lead. URLs are those of the library: no other parses as it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Self, TypeVar

import idna

from tideover.shown import shown

_SECURE = ("https", "wss")
# Octets that a path may have by RFC 9110, section 4.1; what is longer before the caller's own leads nowhere.
_LONGEST_ROOT = 8000


class Url(Protocol):
    """A URL, as httpx has it."""

    @property
    def scheme(self) -> str:
        """Its scheme, in lower case."""

    @property
    def host(self) -> str:
        """Its host, decoded."""

    @property
    def raw_host(self) -> bytes:
        """Its host, as it is sent."""

    @property
    def port(self) -> int | None:
        """Its port; None if it is the scheme's."""

    @property
    def netloc(self) -> bytes:
        """Host and port."""

    @property
    def raw_path(self) -> bytes:
        """Path and query."""

    @property
    def fragment(self) -> str:
        """What is behind the number sign."""

    def copy_with(self, **parts: Any) -> Self:
        """Return the URL with other parts."""

    def join(self, url: str, /) -> Self:
        """Return where a reference leads from here."""


UrlT = TypeVar("UrlT", bound=Url)


def is_secure(url: Url) -> bool:
    """Return whether a URL asks for TLS."""
    return url.scheme in _SECURE


def read_base(text: str, parse: Callable[[str], UrlT], no_url: tuple[type[Exception], ...]) -> UrlT | str:
    """Return where an endpoint is, or why no request can be sent to it; `no_url` are errors for such text."""
    try:
        url = _checked(parse(text))
    except no_url as exc:
        return shown(str(exc))
    if len(_root(url)) > _LONGEST_ROOT:
        return f"its path is longer than {_LONGEST_ROOT} octets"
    return url


def at_endpoint(called: UrlT, base: UrlT) -> UrlT:
    """Return the URL at an endpoint for what the caller has asked for.

    Raises:
        InvalidURL: The path is too long; it is the library's.
    """
    path = _root(base) + called.raw_path
    return called.copy_with(scheme=base.scheme, host=base.host, port=base.port, raw_path=path)


def as_called(location: str, base: UrlT, called: UrlT, parse: Callable[[str], UrlT]) -> str:
    """Return where an answer leads as the caller would say it, like a reverse proxy (nginx's `proxy_redirect`).

    The endpoint says it in its own terms, and knows neither the service's name nor that callers leave out what its
    paths begin with.

    Raises:
        InvalidURL: It leads nowhere; it is the library's.
        ValueError: Likewise.
    """
    root = _root(base)
    target = _checked(base.copy_with(raw_path=root + called.raw_path).join(location))
    at_first = _checked(called.join(location))
    inside = target.raw_path.removeprefix(root)
    same_origin = (target.scheme, target.host, target.port) == (base.scheme, base.host, base.port)
    if same_origin and target.raw_path.startswith(root) and inside[:1] in (b"", b"/", b"?"):
        path = inside if inside.startswith(b"/") else b"/" + inside
        target = called.copy_with(raw_path=path, fragment=target.fragment or None)
    given = parse(location)
    # What has a scheme without a host, "http:a", httpx would complete in its own way, to what need not be a URL.
    is_whole = not given.scheme or bool(given.host)
    return location if is_whole and at_first == target else str(target)


def _checked(url: UrlT) -> UrlT:
    """Return a URL with a host that can be looked up, at a port that can be; httpx looks at neither before it
    connects.
    """
    if not url.host:  # httpx decodes it only now, and not all punycode means something
        raise ValueError("it names no host")
    host = url.raw_host.decode("ascii")
    # As `socket.getaddrinfo` does it: the labels of a name have from 1 to 63 characters.
    host.encode("idna")
    if "xn--" in host:
        idna.decode(host)  # httpx has done so by now, and httpx2 shows what means nothing as it is
    if url.port is not None and not 0 < url.port < 65536:
        raise ValueError(f"{url.port} is not a port from 1 to 65535")
    return url


def _root(base: Url) -> bytes:
    """Return what the paths of an endpoint begin with."""
    return base.raw_path.partition(b"?")[0].rstrip(b"/")
