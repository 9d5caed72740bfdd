"""A certificate made on the spot, by the openssl of the machine or the `cryptography` of the environment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib import import_module
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from benchmarks.harness import NotMeasured
from tideover import Tls


def self_signed(folder: Path) -> Tls:
    """Make a certificate for 127.0.0.1 that is its own CA.

    Args:
        folder: Where its files go.

    Returns:
        The options of a server that shows it.

    Raises:
        NotMeasured: `cryptography` is not installed.
    """
    if find_spec("cryptography") is None:
        raise NotMeasured("TLS needs certificates, which cryptography makes: pip install cryptography")
    x509: Any = import_module("cryptography.x509")
    hazmat = "cryptography.hazmat.primitives"
    hashes, serialization = import_module(f"{hazmat}.hashes"), import_module(f"{hazmat}.serialization")
    key: Any = import_module(f"{hazmat}.asymmetric.ec").generate_private_key(
        import_module(f"{hazmat}.asymmetric.ec").SECP256R1()
    )
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert, private = folder / "etcd.crt", folder / "etcd.key"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    private.chmod(0o600)
    return Tls(cert=cert, key=private)
