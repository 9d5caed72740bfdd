"""Validated options: what the user may tune, checked when it is given rather than when it is used."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Literal

from tideover.addresses import is_wildcard

OnStale = Literal["serve", "default", "raise"]
# What calls to etcd go over: gRPC's library, or the HTTP/2 of tideover's own.
Transport = Literal["grpc", "http2"]
# A password, the file that it is read from at each login, or a function that is asked at each.
Password = str | Path | Callable[[], str | Awaitable[str]]


class Profile(StrEnum):
    """Defaults for an outage in one word.

    Attributes:
        SAFETY: Locks are refused, leaders step down.
        AVAILABILITY: Locks become local, leaders stay; every such answer is labelled.
    """

    SAFETY = "safety"
    AVAILABILITY = "availability"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a failed call to etcd is tried again.

    The delay before attempt n+1 is drawn uniformly from [0, min(wait_max, wait_initial * wait_exp_base**(n-1))]:
    "full jitter" (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

    Attributes:
        attempts: How often to try at the most; 1 means no retry.
        timeout: Seconds for all attempts and waits of a call together.
        wait_initial: Upper bound in seconds of the first delay.
        wait_max: Upper bound in seconds of any delay.
        wait_exp_base: Growth of the upper bound per attempt.

    Raises:
        ValueError: A number is out of range or two of them contradict each other.
    """

    attempts: int = 3
    timeout: float = 5.0
    wait_initial: float = 0.1
    wait_max: float = 0.4
    wait_exp_base: float = 2.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts must be at least 1, not {self.attempts}")
        if not self.timeout > 0:
            raise ValueError(f"timeout must be more than 0 seconds, not {self.timeout}")
        if not 0 <= self.wait_initial <= self.wait_max:
            raise ValueError(
                f"need 0 <= wait_initial <= wait_max, not wait_initial={self.wait_initial}, "
                f"wait_max={self.wait_max}"
            )
        if not self.wait_exp_base >= 1:
            raise ValueError(f"wait_exp_base must be at least 1, not {self.wait_exp_base}")

    def within(self, timeout: float) -> RetryPolicy:
        """Return the same policy with another timeout, in seconds."""
        return replace(self, timeout=timeout)


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """How answers to `fetch` for keys outside the followed prefixes are kept.

    Attributes:
        ttl: Seconds for which an answer is served without asking again. 0 asks every time.
        stale_if_error: Seconds for which an answer may be served when etcd cannot be asked (the name is
            RFC 5861's).
        max_entries: How many keys are kept; the least recently used goes first.

    Raises:
        ValueError: A number is negative, or `ttl` exceeds `stale_if_error`.
    """

    ttl: float = 0.0
    stale_if_error: float = 86_400.0
    max_entries: int = 4096

    def __post_init__(self) -> None:
        if not 0 <= self.ttl <= self.stale_if_error:
            raise ValueError(
                f"need 0 <= ttl <= stale_if_error, not ttl={self.ttl}, stale_if_error={self.stale_if_error}"
            )
        if self.max_entries < 1:
            raise ValueError(f"max_entries must be at least 1, not {self.max_entries}")


@dataclass(frozen=True, slots=True)
class StalenessLimit:
    """How old a followed value may be, and what happens beyond that.

    Attributes:
        max_stale: Seconds since the value was last proven in sync.
        on_stale: `"serve"` it all the same, marked stale; serve the caller's `"default"`; or `"raise"`
            `TooStale`. With `"default"`, a read that gave no default raises `TooStale`.

    Raises:
        TypeError: `max_stale` is not a number.
        ValueError: `max_stale` is not positive, or `on_stale` is none of the three words.
    """

    max_stale: float
    on_stale: OnStale = "serve"

    def __post_init__(self) -> None:
        if isinstance(self.max_stale, bool) or not isinstance(self.max_stale, int | float):
            raise TypeError(f"max_stale must be a number of seconds, not {self.max_stale!r}")
        if not self.max_stale > 0:
            raise ValueError(f"max_stale must be more than 0 seconds, not {self.max_stale}")
        if self.on_stale not in ("serve", "default", "raise"):
            raise ValueError(f"on_stale must be 'serve', 'default' or 'raise', not {self.on_stale!r}")


@dataclass(frozen=True, slots=True)
class Tls:
    """How connections to etcd are encrypted, and who is on either end. The files are PEM.

    They are read again when they change: rotating certificates needs no restart.

    Attributes:
        ca: The file with the CAs that etcd's certificate is verified with; None means the system's.
        cert: The file with this client's certificate chain; None if etcd asks for none.
        key: The file with its private key, not encrypted.
        server_name: The name to expect in etcd's certificate; None means the endpoint's host.

    Raises:
        ValueError: A file does not exist, `cert` comes without `key` or `key` without `cert`, or a name is empty.
    """

    ca: str | os.PathLike[str] | None = None
    cert: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ValueError(f"need both cert and key or neither, not cert={self.cert!r}, key={self.key!r}")
        for name in ("ca", "cert", "key"):
            path = getattr(self, name)
            if path is not None and not os.path.isfile(path):
                raise ValueError(f"{name}: there is no file {os.fspath(path)!r}")
        if self.server_name == "":
            raise ValueError("server_name must be a name, or None for the endpoint's host, not ''")


# Bytes: a shorter secret could be guessed from one recorded message.
_MIN_SECRET = 16
# Seconds: a limit below this would end a leader that etcd could be back for.
_MIN_CONFIRM_LIMIT = 5.0


@dataclass(frozen=True, slots=True)
class Failsafe:
    """How leaders are confirmed by the other candidates when etcd is away: the ground of `on_outage="peers"`.

    Each process listens on a port of its own, where the leader asks it, in an outage, not to take over.

    Attributes:
        secret: What all processes share and no other program knows, at least 16 bytes: it signs what they say. A
            sequence of secrets lets them be changed without a stop: the first signs, all are accepted.
        listen: Where to listen, `"host:port"`. Port 0 takes any that is free; worker processes of one server
            each need their own, so a fixed port is for a single process.
        advertise: Where the others reach this process: a host, or `"host:port"` where the port is mapped to
            another one. None means the host of `listen`, or if that is a wildcard, this machine's address on its
            way to etcd.
        confirm_limit: Seconds without a renewal in etcd after which a leader steps down, confirmed or not. A
            candidate that the leader does not know waits for longer than this before it takes over from one
            that has vanished.
        alone: What a leader does that has never had another candidate to ask: `"step_down"`, or `"stay"` until
            `confirm_limit`.

    Raises:
        TypeError: An option is of the wrong type.
        ValueError: One is out of range.
    """

    secret: str | bytes | Sequence[str | bytes] = field(repr=False)
    listen: str = "0.0.0.0:0"  # messages are signed, and the others are elsewhere
    advertise: str | None = None
    confirm_limit: float = 3600.0
    alone: Literal["step_down", "stay"] = "step_down"

    def __post_init__(self) -> None:
        """Reject what cannot work, without showing the secret."""
        _secrets(self.secret)
        _address("listen", self.listen, port_needed=True)
        host = None if self.advertise is None else _address("advertise", self.advertise, port_needed=False)
        if host is not None and is_wildcard(host):
            raise ValueError(f"advertise={self.advertise!r} is no address that others could reach; leave it out")
        limit = self.confirm_limit
        if isinstance(limit, bool) or not isinstance(limit, int | float):
            raise TypeError(f"confirm_limit must be a number of seconds, not {limit!r}")
        if not _MIN_CONFIRM_LIMIT <= limit <= sys.float_info.max:
            raise ValueError(f"confirm_limit must be at least {_MIN_CONFIRM_LIMIT:g} seconds, not {limit}")
        if self.alone not in ("step_down", "stay"):
            raise ValueError(f"alone must be 'step_down' or 'stay', not {self.alone!r}")

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The secrets as bytes; the first signs."""
        return _secrets(self.secret)


def _secrets(secret: str | bytes | Sequence[str | bytes]) -> tuple[bytes, ...]:
    given = (secret,) if isinstance(secret, str | bytes) else secret
    if not isinstance(given, Sequence):
        raise TypeError(f"secret must be text, bytes, or a sequence of these, not a {type(secret).__name__}")
    if not given:
        raise ValueError("secret must not be an empty sequence")
    found = []
    for number, one in enumerate(given):
        which = "secret" if isinstance(secret, str | bytes) else f"secret[{number}]"
        if not isinstance(one, str | bytes):
            raise TypeError(f"{which} must be text or bytes, not a {type(one).__name__}")
        raw = one.encode(errors="surrogatepass") if isinstance(one, str) else one
        if len(raw) < _MIN_SECRET:
            raise ValueError(
                f"{which} must have at least {_MIN_SECRET} bytes, not {len(raw)}; "
                "`python -c 'import secrets; print(secrets.token_hex(32))'` makes a good one"
            )
        found.append(raw)
    return tuple(found)


def _address(name: str, text: str, *, port_needed: bool) -> str:
    """Return the host of an address, without brackets."""
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a string, not {text!r}")
    host, colon, port = text.rpartition(":")
    if not colon or (text.startswith("[") and text.endswith("]")):
        host, port = text, "" if port_needed else "1"
    bare = host.removeprefix("[").removesuffix("]")
    good_host = bool(bare) and bare.isascii() and not any(c.isspace() or c in "/@,?#[]\0" for c in bare)
    if not good_host or (":" in bare and not (host.startswith("[") and host.endswith("]"))):
        raise ValueError(f"{name}={text!r}: need a host such as '10.0.0.7' or '[::1]'{_port_hint(port_needed)}")
    least = 0 if port_needed else 1
    if not (port.isascii() and port.isdigit() and len(port) < 6 and least <= int(port) < 65_536):
        raise ValueError(f"{name}={text!r}: need a port from {least} to 65535{_port_hint(port_needed)}")
    return bare


def _port_hint(port_needed: bool) -> str:
    return ", and a port: 'host:port', where port 0 means any that is free" if port_needed else ""
