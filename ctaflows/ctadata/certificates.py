"""Proxy certificates, read before they are sent, and the service that keeps them.

The platform's services read the storage with a person's proxy, which is short-lived and therefore
holds its own private key. Observed: cta-epfl/certificateservice, app.py and certificate.py.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from ctaflows.ctadata.errors import CertificateError
from ctaflows.errors import CtaflowsError
from ctaflows.storage.jupyterhub import Service

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: The service takes none that is good for longer (app.py).
MAX_DAYS = 7
_MAX_BYTES = 1 << 20
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s.*?-----END \1-----", re.DOTALL)
_KEYS = ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY")
_MAKE_PROXY = "Make a proxy, such as with voms-proxy-init or arcproxy, and upload that."


@dataclass(frozen=True, slots=True)
class Proxy:
    """A certificate or proxy chain that may be sent.

    Attributes
    ----------
    text : str
        Its blocks of PEM and nothing else; never shown by ``repr``, it may hold a private key.
    subject : str
        Of the first certificate.
    expires_at : datetime
        When the first of the chain's certificates expires, UTC.
    has_key : bool
        Is the first certificate's private key with it, as in a proxy?
    """

    text: str
    subject: str
    expires_at: datetime
    has_key: bool

    def __repr__(self) -> str:
        return f"Proxy({self.subject!r}, {self.expires_at}, has_key={self.has_key})"


def allowed_keys() -> list[str]:
    """Name what certificates are kept for: ``CTACS_ALLOWED_CERT_KEYS``, else cta, lst and arc."""
    named = os.environ.get("CTACS_ALLOWED_CERT_KEYS") or "cta,lst,arc"
    return [key.strip() for key in named.split(",") if key.strip()]


def load(file: Path) -> Proxy:
    """Read a certificate from a file.

    Raises
    ------
    FileNotFoundError
        There is none.
    CertificateError
        It can't be read, or may not be sent; see `read`.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_BYTES)
        return read(content.decode("ascii"))
    except FileNotFoundError:
        raise FileNotFoundError(f"Certificate file not found: {file}") from None
    except OSError as why:
        raise CertificateError(
            "The certificate can't be read", where=str(file), said=why.strerror
        ) from None
    except UnicodeDecodeError:
        raise CertificateError(
            "The certificate is no PEM",
            where=str(file),
            hint="If it is DER: openssl x509 -inform der -in FILE -out FILE.pem",
        ) from None
    except CertificateError as why:
        why.where = str(file)
        why.args = (str(why),)
        raise


def read(text: str, now: datetime | None = None) -> Proxy:
    """Read a certificate or proxy chain, and decide whether it may be sent. Pure.

    Parameters
    ----------
    text : str
        PEM.
    now : datetime, optional
        For tests.

    Raises
    ------
    CertificateError
        It is none, it has expired, or it holds a private key that must not leave this machine:
        one without its certificate, an encrypted one, or one that is good for longer than a proxy.
    """
    now = now or datetime.now(UTC)
    blocks = [(m[1], m[0]) for m in _BLOCK.finditer(text)]
    keys = [block for label, block in blocks if label.endswith("PRIVATE KEY")]
    certificates = [_certificate(block) for label, block in blocks if label == "CERTIFICATE"]
    if not certificates:
        raise CertificateError(
            "A private key without its certificate is never sent"
            if keys
            else "There is no certificate in this",
            hint=_MAKE_PROXY,
        )
    strange = {label for label, _ in blocks} - {"CERTIFICATE", *_KEYS}
    if strange:
        raise CertificateError(
            "There is more in this than a certificate and its key",
            said=", ".join(sorted(strange)),
            hint=_MAKE_PROXY,
        )
    expires_at = min(c.not_valid_after_utc for c in certificates)
    if expires_at <= now:
        raise CertificateError(
            f"The certificate expired on {expires_at:%Y-%m-%d %H:%M} UTC", hint=_MAKE_PROXY
        )
    _check_key(keys, certificates[0], now)
    return Proxy(
        text="".join(f"{block}\n" for _, block in blocks),
        subject=certificates[0].subject.rfc4514_string(),
        expires_at=expires_at,
        has_key=bool(keys),
    )


def _certificate(block: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(block.encode())
    except ValueError as why:
        raise CertificateError(
            "The certificate can't be parsed", said=str(why)[:200], hint=_MAKE_PROXY
        ) from None


def _check_key(keys: Sequence[str], first: x509.Certificate, now: datetime) -> None:
    """Refuse to send a private key that is not a short-lived proxy's own."""
    if not keys:
        return
    try:
        ours = [load_pem_private_key(key.encode(), None).public_key() for key in keys]
        theirs = first.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # the library's own text could repeat what is in the file
        raise CertificateError(
            "The private key can't be used: it is encrypted, or damaged", hint=_MAKE_PROXY
        ) from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if len(ours) > 1 or ours[0].public_bytes(*form) != theirs.public_bytes(*form):
        raise CertificateError(
            "A private key without its certificate is never sent",
            said="the first certificate belongs to another key",
            hint=_MAKE_PROXY,
        )
    days = (first.not_valid_after_utc - now) / timedelta(days=1)
    if days > MAX_DAYS + 1:
        raise CertificateError(
            f"The private key of a certificate that is good for {days:.0f} days is never sent",
            hint=f"{_MAKE_PROXY} The service takes at most {MAX_DAYS} days.",
        )


class CertificateService(Service):
    """The platform's service that keeps certificates for the download service."""

    def store_personal(self, proxy: Proxy, key: str, user: str | None = None) -> dict[str, Any]:
        """Keep a certificate of one's own, or as an administrator of somebody else's.

        Parameters
        ----------
        proxy : Proxy
            What to keep.
        key : str
            What it is for, one of `allowed_keys`.
        user : str, optional
            Somebody else.
        """
        values = {"certificate": proxy.text, "certificate_key": key, "user": user}
        return self._store("certificate", values)

    def store_shared(self, proxy: Proxy) -> dict[str, Any]:
        """Replace the certificate that is used for those who have none; for administrators."""
        return self._store("main-certificate", {"certificate": proxy.text})

    def _store(self, endpoint: str, values: dict[str, Any]) -> dict[str, Any]:
        url = f"{self.url}/{endpoint}"
        try:
            answer = self.ask("POST", url, content=json.dumps(values).encode())
        except CtaflowsError as why:
            said = (why.said or "").partition("-----BEGIN")[0]
            error = CertificateError.of(why)
            error.said = said.strip() or None
            error.args = (str(error),)
            if why.status in (400, 500):
                error.what = "The service does not take the certificate"
                error.hint = _MAKE_PROXY
            raise error from None
        # The service can say 200 and “stored” with its refusal as the validity: its function gives
        # back (text, 400), which the route takes for a time (app.py, upload_certificate).
        validity = answer.get("validity") if isinstance(answer, dict) else [answer]
        if isinstance(validity, list):
            raise CertificateError(
                "The service does not take the certificate",
                where=url,
                said=" ".join(str(part) for part in validity)[:300],
                hint=_MAKE_PROXY,
            )
        stored: dict[str, Any] = answer
        return stored
