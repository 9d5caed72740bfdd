"""Endpoints: as users write them, and as members advertise them."""

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
        endpoint: Its `host:port`.
        server_name: The name its certificate must bear; None means the host.
    """

    endpoint: str
    server_name: str | None = None


def parse_endpoint(text: str) -> str:
    """Return an endpoint as `host:port`.

    Args:
        text: `host:port`, `[ipv6]:port`, or either behind `http://` or `https://`.

    Returns:
        The endpoint without its scheme; an IPv6 address keeps its brackets.

    Raises:
        ValueError: It is none of these; the message says what is wrong with it.
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
    """Refuse endpoints with a user in them, as URLs have it, without repeating what may be the password.

    Args:
        text: One endpoint, or several that are still to be separated: a password may have commas in it.

    Raises:
        ValueError: There is one.
    """
    # Also where the sign itself is percent-encoded, so that it stands in no error of another kind.
    found = _AFTER_USER.fullmatch(text)
    if found:
        raise ValueError(
            f"endpoint '...@{shown(found[1])}': no user or password stands in an endpoint, they are given apart"
        )


def parse_endpoints(texts: Iterable[str]) -> tuple[str, ...]:
    """Return endpoints as `host:port`, without repetitions.

    Args:
        texts: The endpoints.

    Returns:
        Them, in the order given.

    Raises:
        ValueError: There is none, or one is malformed.
    """
    endpoints = tuple(dict.fromkeys(parse_endpoint(text) for text in texts))
    if not endpoints:
        raise ValueError("give at least one endpoint, such as connect('127.0.0.1:2379')")
    return endpoints


def tls_for(texts: Iterable[str], tls: Tls | None) -> Tls | None:
    """Return how to connect to endpoints: with TLS if it is asked for, by an option or by `https://`.

    Args:
        texts: The endpoints; one without a scheme goes with the others.
        tls: The option.

    Returns:
        The option; where only the endpoints ask for it, TLS with the system's CAs.

    Raises:
        ValueError: Some ask for TLS and others for none.
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
    """Whether a `host:port` means the machine it is used on."""
    host = host_of(endpoint).lower()
    return host.rstrip(".") == "localhost" or (not is_name(endpoint) and ip_address(host).is_loopback)


def advertised(url: str, *, secure: bool, here: bool) -> str:
    """Return the endpoint behind a URL at which a member says that clients reach it.

    Args:
        url: The URL, as the member list has it.
        secure: Whether this client connects with TLS.
        here: Whether etcd runs on this machine, as far as is known.

    Returns:
        Its `host:port`.

    Raises:
        ValueError: It is of no use to this client; the message says why.
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
