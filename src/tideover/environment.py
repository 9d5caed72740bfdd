"""Which etcd, as whom, and what a start without it has, as the environment says it: for commands and `connect()`.

The variables are one set. A program reads them for the sake of `TIDEOVER_ENDPOINTS`, and never beside endpoints
that it was given: a password that is meant for one cluster must not go to another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tideover.encryption import Encryption
from tideover.options import check_namespace
from tideover.policies import Password, Tls
from tideover.store.endpoints import parse_endpoints, refuse_user, tls_for

ENDPOINTS = "TIDEOVER_ENDPOINTS"
NAMESPACE = "TIDEOVER_NAMESPACE"
CACERT = "TIDEOVER_CACERT"
CERT = "TIDEOVER_CERT"
KEY = "TIDEOVER_KEY"
SERVER_NAME = "TIDEOVER_SERVER_NAME"
USER = "TIDEOVER_USER"
PASSWORD = "TIDEOVER_PASSWORD"
PASSWORD_FILE = "TIDEOVER_PASSWORD_FILE"
SNAPSHOT_KEYS = "TIDEOVER_SNAPSHOT_KEYS"
SNAPSHOT_KEYS_FILE = "TIDEOVER_SNAPSHOT_KEYS_FILE"
BOOTSTRAP = "TIDEOVER_BOOTSTRAP"

_TLS = (CACERT, CERT, KEY, SERVER_NAME)


@dataclass(frozen=True, slots=True)
class Target:
    """Which etcd, and who asks."""

    endpoints: tuple[str, ...]
    namespace: str
    tls: Tls | None = None
    username: str | None = None
    password: Password | None = field(default=None, repr=False)
    encryption: Encryption | None = None
    bootstrap: str | Path | None = None

    def __str__(self) -> str:
        text = f"endpoints {', '.join(self.endpoints)}, namespace {self.namespace!r}"
        return text if self.username is None else f"{text}, user {self.username!r}"


def split_endpoints(text: str) -> tuple[str, ...]:
    """Return the endpoints in a text that separates them by commas, or white space.

    Raises:
        ValueError: There is none, one is malformed, or they contradict each other.
    """
    refuse_user(text)
    endpoints = tuple(text.replace(",", " ").split())
    tls_for(endpoints, None)
    parse_endpoints(endpoints)
    return endpoints


def check_user(name: str) -> None:
    """Refuse a password behind the name, as etcdctl takes it; without repeating it.

    Raises:
        ValueError: There is one.
    """
    if ":" in name:
        raise ValueError(f"give the name alone; the password is read from {PASSWORD} or {PASSWORD_FILE}")


def find_password(environment: Mapping[str, str], file: Path | None = None) -> str | Path | None:
    """Return the password of the user, or its file; None if there is neither.

    Raises:
        ValueError: Both are given.
    """
    known = environment.get(PASSWORD)
    file = file or (Path(environment[PASSWORD_FILE]) if environment.get(PASSWORD_FILE) else None)
    if file is not None and known is not None:
        raise ValueError(f"both {PASSWORD} and a password file are given: keep one of them")
    return known if file is None else file


def find_encryption(environment: Mapping[str, str], file: Path | None = None) -> Encryption | None:
    """Return how snapshots are encrypted; None if no keys are named.

    Raises:
        ValueError: Both a variable and a file are given.
        ModuleNotFoundError: There are keys, and `cryptography` is not installed.
    """
    named = environment.get(SNAPSHOT_KEYS_FILE)
    file = file or (Path(named) if named else None)
    if not environment.get(SNAPSHOT_KEYS):
        return None if file is None else Encryption(file)
    if file is not None:
        raise ValueError(f"both {SNAPSHOT_KEYS} and a file of keys are given: keep one of them")
    return Encryption.from_environment(SNAPSHOT_KEYS)


def unused_password(environment: Mapping[str, str]) -> str | None:
    """Return, in words, which password is left alone because there is no user; None if there is none."""
    name = next((name for name in (PASSWORD, PASSWORD_FILE) if environment.get(name)), None)
    return name and f"{name} is set and left alone, because {USER} is not set"


@contextmanager
def _named(*variables: str) -> Iterator[None]:
    """Name the variables in an error about their values."""
    try:
        yield
    except ValueError as exc:
        raise ValueError(f"{', '.join(variables)}: {exc}") from exc


def read_target(environment: Mapping[str, str], given: Target, namespace: str | None) -> Target | None:
    """Return which etcd the environment names; None if it names none.

    Args:
        given: What counts instead of its variable, where it is not None.
        namespace: The same.

    Raises:
        ModuleNotFoundError: Keys for snapshots are named, and `cryptography` is not installed.
        ValueError: A variable is of no use; the message names it, and shows no password.
    """
    if not environment.get(ENDPOINTS):
        return None
    with _named(ENDPOINTS):
        endpoints = split_endpoints(environment[ENDPOINTS])
    tls, username, password = given.tls, given.username, given.password
    if namespace is None:
        namespace = environment.get(NAMESPACE, "")
        with _named(NAMESPACE):
            check_namespace(namespace)
    files = [environment.get(name) or None for name in _TLS]
    if tls is None and any(files):
        with _named(*(name for name in _TLS if environment.get(name))):
            tls = Tls(*files)
    if username is None and environment.get(USER):
        username = environment[USER]
        with _named(USER):
            check_user(username)
    if username is not None and password is None:
        password = find_password(environment)
        if password is None:
            raise ValueError(f"no password for user {username!r}: set {PASSWORD} or {PASSWORD_FILE}")
    encryption = given.encryption or find_encryption(environment)
    bootstrap = given.bootstrap or environment.get(BOOTSTRAP) or None
    return Target(endpoints, namespace, tls, username, password, encryption, bootstrap)
