"""The TLS files: read at the start, and again when they have changed.

A rotation of certificates replaces several files one after the other, and a look in between finds a certificate
and a key that do not match. The last usable contents stay in use until the new files match.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from tideover import telemetry
from tideover.policies import Tls
from tideover.secret_files import open_to_all

# Where the system keeps its CAs, if OpenSSL's own default is not there: Debian, Fedora, Alpine.
_SYSTEM_CAS = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)

_Mark = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True, repr=False)
class Material:
    """The contents of the files, as PEM; None for what was not given, `ca` None for the transport's own list.

    `context` is the same, for Python's `ssl`, with HTTP/2 as the protocol to agree on.
    """

    ca: bytes | None
    cert: bytes | None
    key: bytes | None
    context: ssl.SSLContext = field(compare=False)

    def __repr__(self) -> str:
        """Show which contents there are, but not the contents."""
        return f"<Material ca={self.ca is not None} cert={self.cert is not None}>"


def read_material(tls: Tls) -> Material:
    """Read the files, and check that they match; a `ValueError` names the file that is missing or unusable."""
    ca = tls.ca or _system_cas()
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["h2"])
        if ca is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(cafile=ca)
        if tls.cert is not None:
            # With a password, because OpenSSL would ask the terminal for that of an encrypted key.
            context.load_cert_chain(tls.cert, tls.key, password="")
        known, cert, key = (path and Path(path).read_bytes() for path in (ca, tls.cert, tls.key))
    except (OSError, ValueError) as exc:
        raise ValueError(f"{tls!r}: the files cannot be used: {exc}") from exc
    return Material(known or None, cert or None, key or None, context)


def _system_cas() -> str | None:
    default = ssl.get_default_verify_paths().cafile
    return default or next((path for path in _SYSTEM_CAS if os.path.exists(path)), None)


class TlsFiles:
    """The newest usable contents of the files; raises `ValueError` if they cannot be used."""

    def __init__(self, tls: Tls) -> None:
        self.tls = tls
        self._seen = self._marks()
        self.material = read_material(tls)
        self._complaint = ""
        problem = "" if tls.key is None else open_to_all(Path(tls.key))
        if problem:
            telemetry.secret_exposed(problem)

    def refresh(self) -> bool:
        """Read the files again if they have changed; return whether there are new contents.

        Unusable files are logged once, and read again next time.
        """
        marks = self._marks()
        if marks == self._seen:
            return False
        try:
            material = read_material(self.tls)
        except ValueError as exc:
            if str(exc) != self._complaint:
                telemetry.tls_kept(str(exc))
            self._complaint = str(exc)
            return False
        self._seen, self._complaint = marks, ""
        renewed = material != self.material
        self.material = material
        return renewed

    def _marks(self) -> tuple[_Mark, ...]:
        """Return the files' marks, which change whenever a file does, without reading the files."""
        return tuple(map(_mark, (self.tls.ca or _system_cas(), self.tls.cert, self.tls.key)))


def _mark(path: str | os.PathLike[str] | None) -> _Mark:
    try:
        found = None if path is None else os.stat(path)
    except OSError:
        return None
    return None if found is None else (found.st_mtime_ns, found.st_size, found.st_ino)
