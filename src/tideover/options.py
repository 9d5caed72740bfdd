"""What `connect()` was given, checked as a whole before anything is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tideover.encryption import Encryption
from tideover.etcd.password import is_unicode
from tideover.etcd.transports import named
from tideover.policies import (
    CachePolicy,
    Failsafe,
    Password,
    Profile,
    RetryPolicy,
    StalenessLimit,
    Tls,
    Transport,
)
from tideover.store.endpoints import parse_endpoints, tls_for

Require = Literal["etcd", "config"]


@dataclass(frozen=True, slots=True)
class Options:
    """The validated options of a coordinator: as many as `connect` has, which documents them.

    Raises:
        ValueError: One is out of range, or two contradict each other; the message names them.
        TypeError: One is of the wrong type.
    """

    endpoints: Sequence[str]
    namespace: str = ""
    follow: Sequence[str] = ("",)
    discover: Sequence[str] = ()
    cache_dir: str | Path | Literal[False] | None = None
    profile: str = Profile.SAFETY.value
    start_timeout: float = 1.0
    require: Require | None = None
    limits: Mapping[str, StalenessLimit] = field(default_factory=dict)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    cache: CachePolicy = field(default_factory=CachePolicy)
    exclude: Sequence[str] = ()
    record_keys: bool = False
    tls: Tls | None = None
    username: str | None = None
    password: Password | None = field(default=None, repr=False)
    sync_members: bool = True
    failsafe: Failsafe | None = None
    on_stall: Literal["report", "abort"] = "report"
    encryption: Encryption | None = None
    bootstrap: str | Path | None = None
    transport: Transport | None = None
    # Whether anything may be written to etcd, or looked for, unasked; the command line only looks.
    bookkeeping: bool = True

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        _check_tls(self.tls)
        set_(self, "tls", tls_for(self.endpoints, self.tls))
        set_(self, "endpoints", parse_endpoints(self.endpoints))
        set_(self, "transport", named(self.transport))
        _check_login(self.username, self.password)
        check_namespace(self.namespace)
        set_(self, "follow", _prefixes("follow", self.follow, self.base))
        set_(self, "exclude", _prefixes("exclude", self.exclude, self.base))
        _check_sequence("discover", self.discover)
        set_(self, "discover", tuple(dict.fromkeys(self.discover)))
        if not isinstance(self.sync_members, bool):
            raise TypeError(f"sync_members must be True or False, not {self.sync_members!r}")
        if not isinstance(self.failsafe, Failsafe | None):
            # Never shown: it may be the secret itself.
            raise TypeError(
                f"failsafe must be a Failsafe(secret=...) or None, not a {type(self.failsafe).__name__}"
            )
        if not isinstance(self.bootstrap, str | Path | None):
            raise TypeError(f"bootstrap must be the path of a file or None, not {self.bootstrap!r}")
        if not isinstance(self.encryption, Encryption | None):
            # Never shown: it may be a key itself.
            kind = type(self.encryption).__name__
            raise TypeError(f"encryption must be an Encryption(keys) or None, not a {kind}")
        if not isinstance(self.retry, RetryPolicy):
            raise TypeError(f"retry must be a RetryPolicy, not {self.retry!r}")
        if not isinstance(self.cache, CachePolicy):
            raise TypeError(f"cache must be a CachePolicy, not {self.cache!r}")
        if self.profile not in tuple(Profile):
            raise ValueError(f"profile must be 'safety' or 'availability', not {self.profile!r}")
        if self.on_stall not in ("report", "abort"):
            raise ValueError(f"on_stall must be 'report' or 'abort', not {self.on_stall!r}")
        if not self.start_timeout > 0:
            raise ValueError(f"start_timeout must be more than 0 seconds, not {self.start_timeout}")
        if self.require not in (None, "etcd", "config"):
            raise ValueError(f"require must be None, 'etcd' or 'config', not {self.require!r}")
        if not (isinstance(self.cache_dir, str | Path) or self.cache_dir in (None, False)):
            raise TypeError(f"cache_dir must be a path, None for the usual place or False, not {self.cache_dir!r}")
        for prefix, limit in self.limits.items():
            _check_limit(prefix, limit, self.follow, self.base)

    @property
    def base(self) -> str:
        """The etcd prefix of all configuration keys."""
        return f"{self.namespace}/config/"

    @property
    def has_identity(self) -> bool:
        """Whether etcd is told who this is, so that it may refuse what it has allowed before."""
        return self.username is not None or (self.tls is not None and self.tls.cert is not None)

    @property
    def tightest_limit(self) -> float | None:
        """The smallest `max_stale` in seconds; None if there is no limit."""
        return min((limit.max_stale for limit in self.limits.values()), default=None)


def below(base: str, name: str) -> str:
    """Return the name of a configuration key that was given with a slash before it, or as etcd has it."""
    return name.lstrip("/").removeprefix(base.lstrip("/")).lstrip("/")


def _prefixes(name: str, prefixes: Sequence[str], base: str) -> tuple[str, ...]:
    """Return prefixes without those that another one covers."""
    _check_sequence(name, prefixes)
    for prefix in prefixes:
        if not isinstance(prefix, str) or "\0" in prefix:
            raise ValueError(f"{name}: a prefix must be a string without NUL, not {prefix!r}")
        if prefix.startswith("/"):
            raise ValueError(f"{name}: a prefix begins behind {base!r}: {below(base, prefix)!r}, not {prefix!r}")
    ordered = tuple(dict.fromkeys(prefixes))
    return tuple(p for p in ordered if not any(p != other and p.startswith(other) for other in ordered))


def _check_sequence(name: str, given: Sequence[str]) -> None:
    if isinstance(given, str):
        raise TypeError(f"{name} must be a sequence, such as {name}=({given!r},), not a string")


def check_namespace(namespace: str) -> None:
    """Refuse what cannot be a namespace.

    Raises:
        TypeError: It is no text.
        ValueError: It cannot be one.
    """
    if not isinstance(namespace, str):
        raise TypeError(f"namespace must be a string, not {namespace!r}")
    if "\0" in namespace or namespace.endswith("/"):
        raise ValueError(f"namespace must have no NUL and not end in a slash, not {namespace!r}")
    try:
        namespace.encode()
    except UnicodeEncodeError as exc:
        raise ValueError(f"namespace must be Unicode text, not {namespace!r}") from exc


def _check_tls(tls: Tls | None) -> None:
    if not isinstance(tls, Tls | None):
        raise TypeError(f"tls must be a Tls(...) or None, not {tls!r}")


def _check_login(username: str | None, password: Password | None) -> None:
    """Reject half a login, without showing the password."""
    if (username is None) != (password is None):
        given = "username" if password is None else "password"
        raise ValueError(f"need both username and password or neither, not only {given}")
    if not isinstance(username, str | None):
        raise TypeError(f"username must be a string, not a {type(username).__name__}")
    if not isinstance(password, str | Path | None) and not callable(password):
        kinds = "a string, a pathlib.Path or a function that returns a string"
        raise TypeError(f"password must be {kinds}, not a {type(password).__name__}")
    if isinstance(password, str) and not is_unicode(password):
        raise ValueError("password must be Unicode text")
    if username == "":
        raise ValueError("username must not be empty")
    if username is not None and not is_unicode(username):
        raise ValueError(f"username must be Unicode text, not {username!r}")


def _check_limit(prefix: str, limit: StalenessLimit, follow: Sequence[str], base: str) -> None:
    _prefixes("limits", (prefix,), base)
    if not isinstance(limit, StalenessLimit):
        raise TypeError(f"limits[{prefix!r}] must be a StalenessLimit, not {limit!r}")
    if not any(prefix.startswith(followed) or followed.startswith(prefix) for followed in follow):
        raise ValueError(f"limits[{prefix!r}] concerns nothing that is followed: follow={tuple(follow)!r}")
