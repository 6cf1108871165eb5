"""Certificates for tests: a user's, and proxy certificates signed with it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

#: RFC 3820 §3.8: inherit all, no limit of depth.
_PROXY_INFO = bytes.fromhex("300c300a06082b06010505071501")


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> str:
    cipher = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, cipher).decode()


def certificate_pem(
    key: ec.EllipticCurvePrivateKey,
    *,
    days: float = 365.0,
    proxy_of: ec.EllipticCurvePrivateKey | None = None,
) -> str:
    """Return a certificate that expires in a number of days, or has expired."""
    user = [x509.NameAttribute(NameOID.COMMON_NAME, "Jane Doe")]
    name = x509.Name(user + [x509.NameAttribute(NameOID.COMMON_NAME, "4711")] * bool(proxy_of))
    ends = datetime.now(UTC) + timedelta(days=days)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(x509.Name(user))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(datetime.now(UTC), ends) - timedelta(days=1))
        .not_valid_after(ends)
    )
    if proxy_of is not None:
        info = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14"), _PROXY_INFO)
        builder = builder.add_extension(info, critical=True)
    return builder.sign(proxy_of or key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def proxy_pem(*, days: float = 0.5, own_days: float = 365.0) -> str:
    """Return what voms-proxy-init writes: the proxy, its key, and the certificate of its signer."""
    own, key = new_key(), new_key()
    return (
        certificate_pem(key, days=days, proxy_of=own)
        + key_pem(key)
        + certificate_pem(own, days=own_days)
    )
