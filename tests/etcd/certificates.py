"""Certificates made on the spot: a CA, and what it signs."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.canaries import watch
from tideover import Tls

# From an hour ago until tomorrow.
DAYS = (-1 / 24, 1.0)


@dataclass(frozen=True)
class Signed:
    """A certificate and its private key, as PEM files."""

    cert: Path
    key: Path

    def trusting(self, ca: Path) -> Tls:
        """Return options with this certificate that trust a CA."""
        return Tls(ca=ca, cert=self.cert, key=self.key)


class Authority:
    """A CA that keeps all it makes in one folder.

    Args:
        folder: Where the files go.
        name: Its name, and its file's.
    """

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.cert = folder / f"{name}.pem"
        certificate = _builder(self._name, self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        _write(self.cert, certificate.sign(self._key, hashes.SHA256()))

    def sign(
        self,
        name: str,
        *,
        file: str | None = None,
        also: Sequence[ipaddress.IPv4Address | ipaddress.IPv6Address] = (),
        san: Sequence[x509.GeneralName] | None = None,
        days: tuple[float, float] = DAYS,
    ) -> Signed:
        """Sign a certificate, good for servers and clients.

        Args:
            name: Its common name.
            file: What to call the files; None means the name.
            also: Addresses it is good for, besides the name and 127.0.0.1.
            san: What it is good for; None means those.
            days: From when until when it is valid, in days from now.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        if san is None:
            san = [x509.DNSName(name), *map(x509.IPAddress, (ipaddress.ip_address("127.0.0.1"), *also))]
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = _builder(subject, self._name, key, days)
        if san:
            builder = builder.add_extension(x509.SubjectAlternativeName(san), critical=False)
        signed = Signed(self._folder / f"{file or name}.crt", self._folder / f"{file or name}.key")
        _write(signed.cert, builder.add_extension(usage, critical=False).sign(self._key, hashes.SHA256()))
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        signed.key.touch(mode=0o600)
        signed.key.write_bytes(pem)
        # Not the first line: all keys of a kind begin alike.
        watch(pem.decode().splitlines()[2])
        return signed


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: tuple[float, float] = DAYS
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
    )


def _write(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
