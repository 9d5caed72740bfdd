"""An endpoint to register, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from tideover.addresses import is_wildcard
from tideover.discovery.endpoint import Endpoint, check_name
from tideover.holders import process_name
from tideover.sessions.rules import LeaseRules
from tideover.shown import quoted, shown

# Bytes: every follower of the service holds the endpoint in memory.
_MAX_VALUE = 65_536


@dataclass(frozen=True, slots=True)
class Registration:
    """An endpoint to register: for `TideoverMiddleware(..., register=Registration(...))`.

    Attributes:
        name: The service, such as `"api"`; a slash in it has no meaning of its own.
        url: Where *others* reach this instance, with the port: `"http://10.0.0.7:8000"`.
        metadata: Further facts about the instance, text to text, such as `{"zone": "a"}`; 64 KiB at the most.
        weight: The instance's share of the traffic, compared with the others' weights. 0 means none.
        ttl: Whole seconds after which the key is gone when its process has died; 5 at the least.
        instance: The name of the instance, the same after a restart of the process, so that the successor takes
            its place at once. None means host and port of the URL.

    Raises:
        TypeError: A field is of the wrong type.
        ValueError: A field is out of range, or others could not reach that URL.
    """

    name: str
    url: str
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
    weight: float = 1.0
    ttl: int = 15
    instance: str | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        check_url(self.url)
        LeaseRules(self.ttl)
        if self.instance is not None:
            check_name(self.instance, "an instance")
        endpoint = self.endpoint("0")
        object.__setattr__(self, "metadata", endpoint.metadata)
        check_size(endpoint)

    def endpoint(self, incarnation: str) -> Endpoint:
        """Return the endpoint to publish."""
        instance = self.instance or _authority(urlsplit(self.url))
        return Endpoint(
            self.url, self.weight, self.metadata, instance, incarnation, self.name, process=process_name()
        )


def check_size(endpoint: Endpoint) -> Endpoint:
    """Return an endpoint, unless it is too large for its followers' memory (`ValueError`)."""
    size = len(endpoint.encode())
    if size > _MAX_VALUE:
        raise ValueError(f"url and metadata must have at most {_MAX_VALUE} bytes together, not {size}")
    return endpoint


def check_url(url: str) -> None:
    """Return if others would find this instance at a URL; else raise `TypeError` or `ValueError`."""
    if not isinstance(url, str):
        raise TypeError(f"url must be text such as 'http://10.0.0.7:8000', not {quoted(url)}")
    authority = url.partition("://")[2] or url
    if "@" in authority.partition("/")[0] or "%40" in authority.partition("/")[0]:
        # First, because every other message repeats the URL.
        raise ValueError("url: it must hold no user and no password, because everybody can read the registry")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise ValueError(
            f"url must be like 'http://10.0.0.7:8000', not {quoted(url)}: {shown(str(exc))}"
        ) from None
    if not parts.scheme or not parts.hostname or any(not 32 < ord(c) < 127 for c in url):
        raise ValueError(f"url must be like 'http://10.0.0.7:8000', not {quoted(url)}")
    if is_wildcard(parts.hostname):
        raise ValueError(
            f"url: nobody can reach {quoted(url)}. {parts.hostname} is what a server listens on, all of its "
            "addresses; say the one at which others find this instance (in Kubernetes the pod's, by the downward "
            "API)"
        )
    if not port:
        raise ValueError(
            f"url: say the port, as in '{shown(parts.scheme)}://{shown(parts.hostname)}:8000', not {quoted(url)}: "
            "an application cannot know at which one its server listens, and a guess would send others elsewhere"
        )
    if parts.query or parts.fragment:
        raise ValueError(f"url: a base address has no '?' and no '#': {quoted(url)}")


def _authority(parts: SplitResult) -> str:
    return parts.netloc.lower()
