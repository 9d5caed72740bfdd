"""Endpoints, as users write them and as members advertise them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from tideover.addresses import is_wildcard
from tideover.foreign_bytes import Malformed, decimal
from tideover.policies import Tls
from tideover.shown import quoted, shown

_AFTER_USER = re.compile(r".*(?:@|%40)(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a member is.

    Attributes:
        server_name: The name in the member's certificate; None for the host.
    """

    endpoint: str
    server_name: str | None = None


def parse_endpoint(text: str) -> str:
    """Return an endpoint as `host:port`, from `host:port` or `[ipv6]:port` with or without `http://` or `https://`.

    Raises `ValueError` for any other text. An IPv6 address keeps its brackets.
    """
    if not isinstance(text, str):
        raise ValueError(
            f"an endpoint must be a string like 'host:2379', not a {type(text).__name__}; "
            "a list is given as connect(*endpoints)"
        )
    refuse_user(text)
    rest = text.strip()
    if "," in rest:
        raise ValueError(
            f"endpoint {quoted(text)}: give each endpoint by itself, such as connect('a:2379', 'b:2379')"
        )
    scheme, separator, after = rest.partition("://")
    if separator:
        if scheme.lower() not in ("http", "https"):
            raise ValueError(
                f"endpoint {quoted(text)}: only http:// and https:// are supported, not {shown(scheme)}://"
            )
        rest = after.rstrip("/")
    host, colon, port = rest.rpartition(":")
    if not colon or not host:
        raise ValueError(f"endpoint {quoted(text)}: need host:port, such as '127.0.0.1:2379'")
    if host.startswith("[") and host.endswith("]"):
        try:
            IPv6Address(host[1:-1])
        except ValueError as exc:
            raise ValueError(
                f"endpoint {quoted(text)}: {quoted(host)} is not an IPv6 address: {shown(str(exc))}"
            ) from exc
    elif ":" in host:
        raise ValueError(f"endpoint {quoted(text)}: write an IPv6 address in brackets, such as '[::1]:2379'")
    elif any(c.isspace() or c in "/@,?#[]\0" or "\ud800" <= c <= "\udfff" for c in host):
        raise ValueError(
            f"endpoint {quoted(text)}: {quoted(host)} is not a host name; give several endpoints separately"
        )
    try:
        return f"{host}:{decimal(port, 'the port', least=1, most=65_535)}"
    except Malformed:
        raise ValueError(f"endpoint {quoted(text)}: {quoted(port)} is not a port from 1 to 65535") from None


def refuse_user(text: str) -> None:
    """Refuse endpoints with a user, as URLs have one; the error does not repeat what may be the password.

    The text may be of several endpoints not yet separated: a password may contain commas.
    """
    # Also where the sign itself is percent-encoded, so that it stands in no error of another kind.
    found = _AFTER_USER.fullmatch(text)
    if found:
        raise ValueError(
            f"endpoint '...@{shown(found[1])}': an endpoint holds no user or password: give them as options"
        )


def parse_endpoints(texts: Iterable[str]) -> tuple[str, ...]:
    """Return endpoints as `host:port`, in the order given, without repetitions; raise `ValueError` for none."""
    endpoints = tuple(dict.fromkeys(parse_endpoint(text) for text in texts))
    if not endpoints:
        raise ValueError("give at least one endpoint, such as connect('127.0.0.1:2379')")
    return endpoints


def tls_for(texts: Iterable[str], tls: Tls | None) -> Tls | None:
    """Return the TLS options for endpoints: `tls`, or TLS with the system's CAs if they begin with `https://`.

    An endpoint without a scheme follows the others; those that differ are refused with `ValueError`.
    """
    texts = [str(text).strip() for text in texts]
    for text in texts:
        refuse_user(text)
    secure = [text for text in texts if text.lower().startswith("https://")]
    plain = [text for text in texts if text.lower().startswith("http://")]
    if plain and (secure or tls is not None):
        other = secure[0] if secure else tls
        raise ValueError(
            f"{quoted(plain[0])} is without TLS, but {quoted(other)} asks for it: all members or none"
        )
    return Tls() if secure and tls is None else tls


def host_of(endpoint: str) -> str:
    """Return the host of a `host:port`, an IPv6 address without its brackets."""
    return endpoint.rpartition(":")[0].strip("[]")


def is_name(endpoint: str) -> bool:
    """Whether the host of a `host:port` is a name, which may stand for several addresses."""
    try:
        ip_address(host_of(endpoint))
    except ValueError:
        return True
    return False


def is_loopback(endpoint: str) -> bool:
    """Whether a `host:port` means this machine."""
    host = host_of(endpoint).lower()
    return host.rstrip(".") == "localhost" or (not is_name(endpoint) and ip_address(host).is_loopback)


def advertised(url: str, *, secure: bool, here: bool) -> str:
    """Return the `host:port` of a member's advertised client URL; raise `ValueError` if it is of no use here.

    An address of the member's own machine is of use if etcd runs `here`.
    """
    scheme = url.partition("://")[0].lower()
    if scheme not in ("http", "https"):
        raise ValueError(f"{url} is not an address in a network")
    endpoint = parse_endpoint(url)
    if (scheme == "https") is not secure:
        raise ValueError(f"{url} is {'with' if scheme == 'https' else 'without'} TLS, unlike this client")
    if is_wildcard(host_of(endpoint)):
        raise ValueError(f"{url} names no host")
    if is_loopback(endpoint) and not here:
        raise ValueError(f"{url} means the member's own machine")
    return endpoint
