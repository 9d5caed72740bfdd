"""The encryption of what is kept on disk: the keys, where they come from, and nothing that shows one.

The cipher is Fernet of `cryptography` (https://github.com/fernet/spec): AES-128-CBC under HMAC-SHA256, so that
what was altered cannot be opened. Fernet knows no additional data; what a message belongs to is inside the message
(`prefixes.snapshots.sealing`). `cryptography` is the extra `crypto`, imported when the first `Encryption` is made.

A source that gives no keys refuses no start: a service without snapshots is worth more than no service.
Its problem is reported whenever keys are needed, and it is asked again then.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path

from tideover import telemetry
from tideover.extras import importing
from tideover.secret_files import is_read_once, open_to_all, read_secret

# Bytes of a file of keys: a thousand of them.
_LARGEST = 65_536
# As Fernet has it: 32 bytes in URL-safe base64.
_KEY = re.compile(rb"[A-Za-z0-9_-]{43}=")
_COMMENT = re.compile(rb"#[^\r\n]*")
_MAKE_ONE = "python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"
_NO_KEY = f"no key: it takes 32 bytes in URL-safe base64, as `{_MAKE_ONE}` prints them"


class KeysUnusable(ValueError):
    """Raised when a source gives no keys; the message names the source and shows nothing of a key."""


class NotOurs(Exception):
    """Raised when none of the keys opens a message: it is of another key, or was altered."""


class Ring:
    """The keys at one moment.

    Attributes:
        names: What each key is called where people read it: eight digits of its hash.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        from cryptography.fernet import Fernet, MultiFernet

        self.names = tuple(hashlib.sha256(b"tideover key\0" + key).hexdigest()[:8] for key in keys)
        named: dict[str, list[Fernet]] = {}
        for name, key in zip(self.names, keys, strict=True):
            named.setdefault(name, []).append(Fernet(key))
        # By name, so that of a thousand keys one is tried: each holds the GIL. Two may have one name, by chance.
        self._fernets = {name: MultiFernet(fernets) for name, fernets in named.items()}

    def seal(self, message: bytes) -> bytes:
        """Return a message as a token of the first key."""
        return self._fernets[self.names[0]].encrypt(message)

    def open(self, token: bytes, name: str) -> bytes:
        """Return the message in a token.

        Raises:
            NotOurs: There is no such key, or it does not open the token.
        """
        from cryptography.fernet import InvalidToken

        try:
            message = self._fernets[name].decrypt(token)
        except (KeyError, InvalidToken):
            raise NotOurs from None
        # Fernet reads over what is no base64, such as a quote that was put in between.
        if base64.urlsafe_b64encode(base64.urlsafe_b64decode(token)) != token:
            raise NotOurs
        return message


class Encryption:
    """How what is kept on disk is encrypted: `connect(..., encryption=Encryption(Path("/run/secrets/keys")))`.

    A key is 32 random bytes in URL-safe base64, as `cryptography.fernet.Fernet.generate_key()` makes one. To
    rotate keys, put the new one before the old one everywhere: the first one seals, all of them open. When each
    service has written its snapshots, take the old one away.

    Args:
        keys: The keys: a text with one or several of them, separated by white space or commas, or a sequence of
            keys; or a `pathlib.Path`, whose file holds such a text, with comments behind a `#`. The file is read
            whenever keys are needed, so that they are rotated without a restart.

    Raises:
        TypeError: `keys` is of another type.
        ValueError: One of them is no key, or there is none.
        ModuleNotFoundError: `cryptography` is not installed; the message has the command.

    When degraded:
        Needs no etcd. A file that cannot be read, or holds no keys, is no error here: the service starts without
        snapshots, writes none, and says so until the file is there.
    """

    def __init__(self, keys: str | bytes | Sequence[str | bytes] | Path) -> None:
        _require_cryptography()
        self._source: _Given | _File = _File(keys) if isinstance(keys, Path) else _Given("text", _ring_of(keys))

    @classmethod
    def from_environment(cls, name: str = "TIDEOVER_SNAPSHOT_KEYS") -> Encryption:
        """Return the encryption with the keys that an environment variable holds now.

        Args:
            name: The variable; it holds one or several keys, separated by white space or commas.

        Raises:
            ModuleNotFoundError: `cryptography` is not installed; the message has the command.

        When degraded:
            Needs no etcd. A variable that is not set, or holds no keys, is no error: the service starts without
            snapshots, writes none, and says so.
        """
        _require_cryptography()
        made = cls.__new__(cls)
        try:
            made._source = _Given(f"the variable {name}", _parse(_raw(os.environ.get(name, ""))))
        except KeysUnusable as exc:
            made._source = _Given(f"the variable {name}", None, f"the variable {name} {exc}")
        return made

    def __repr__(self) -> str:
        """Name the source, and nothing of the keys."""
        return f"<Encryption with keys of {self._source!r}>"

    def ring(self) -> Ring:
        """Return the keys, as they are now. May block: for up to 5 s where the file is a FIFO.

        Raises:
            KeysUnusable: The source gives none.
        """
        return self._source.ring()


class _Given:
    """Keys that are what they are."""

    def __init__(self, name: str, ring: Ring | None, problem: str = "") -> None:
        self._name = name
        self._ring = ring
        self._problem = problem

    def __repr__(self) -> str:
        return self._name

    def ring(self) -> Ring:
        if self._ring is None:
            raise KeysUnusable(self._problem)
        return self._ring


class _File:
    """Keys that are read when they are needed."""

    def __init__(self, path: Path) -> None:
        # Absolute, so that a later chdir of the process does not move it.
        self._path = path.absolute()
        self._once: Ring | None = None
        self._looked = False
        # Several prefixes are read at the same time, in a thread each; what a FIFO holds only one of them gets.
        self._reading = threading.Lock()

    def __repr__(self) -> str:
        return str(self._path)

    def ring(self) -> Ring:
        with self._reading:
            return self._once or self._read()

    def _read(self) -> Ring:
        try:
            content = read_secret(self._path, most=_LARGEST + 1)
        except OSError as exc:
            problem = f"cannot be read ({exc.strerror or type(exc).__name__})"
            raise KeysUnusable(f"the key file {problem}: {self._path}") from None
        if not self._looked and (exposed := open_to_all(self._path)):
            telemetry.secret_exposed(exposed)
        self._looked = True
        try:
            ring = _parse(content)
        except KeysUnusable as exc:
            raise KeysUnusable(f"the key file {exc}: {self._path}") from None
        if is_read_once(self._path):
            self._once = ring
        return ring


def _require_cryptography() -> None:
    with importing("encryption of snapshots", extra="crypto"):
        importlib.import_module("cryptography.fernet")


def _ring_of(keys: object) -> Ring:
    if isinstance(keys, str | bytes):
        try:
            return _parse(_raw(keys))
        except KeysUnusable as exc:
            # A path that is handed in as a text is the usual mistake.
            raise ValueError(f"keys {exc}; the file of keys is given as a pathlib.Path") from None
    if not isinstance(keys, Sequence):
        kinds = "text, bytes, a sequence of these or a pathlib.Path"
        raise TypeError(f"keys must be {kinds}, not a {type(keys).__name__}")
    for number, key in enumerate(keys):
        if not isinstance(key, str | bytes):
            raise TypeError(f"keys[{number}] must be text or bytes, not a {type(key).__name__}")
        if not _KEY.fullmatch(_raw(key)):
            raise ValueError(f"keys[{number}] is {_NO_KEY}")
    if not keys:
        raise ValueError("keys must not be an empty sequence")
    return Ring([_raw(key) for key in keys])


def _raw(key: str | bytes) -> bytes:
    return key.encode(errors="surrogatepass") if isinstance(key, str) else key


def _parse(content: bytes) -> Ring:
    """Return the keys in a text.

    Raises:
        KeysUnusable: It holds none, or something else as well; in words that follow the name of the text.
    """
    if len(content) > _LARGEST:
        raise KeysUnusable(f"is larger than {_LARGEST} bytes")
    keys = _COMMENT.sub(b"", content).replace(b",", b" ").split()
    for number, key in enumerate(keys, start=1):
        if not _KEY.fullmatch(key):
            raise KeysUnusable(f"has something in place {number} that is {_NO_KEY}")
    if not keys:
        raise KeysUnusable("holds no key" if content else "is empty")
    return Ring(keys)
