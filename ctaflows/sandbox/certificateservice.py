"""The platform's certificate service as observed: it keeps proxies for the download service.

``POST certificate`` and ``POST main-certificate``; cta-epfl/certificateservice, app.py. The chain's
signatures are not followed to a root here.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509

from ctaflows.sandbox.messages import Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from ctaflows.sandbox.hub import User
    from ctaflows.sandbox.messages import Request

KEYS = ("lst", "cta", "arc")
_MAX_DAYS = 7
_TEXT = {"Content-Type": "text/html; charset=utf-8"}
_TOO_LONG = (
    "certificate validity too long, please generate a short-lived (max 7 day) proxy certificate "
    "for uploading."
)


class CertificateService:
    """Answers requests as the certificate service.

    Parameters
    ----------
    strikes : callable
        Says whether a trouble befalls a key, see `hub.TROUBLES`.

    Attributes
    ----------
    stored : dict
        ``(user, key)`` to certificate; the shared one is at ``("", "")``.
    """

    def __init__(self, strikes: Callable[[str, str], bool]) -> None:
        self.stored: dict[tuple[str, str], str] = {}
        self._strikes = strikes

    def handle(self, request: Request, rest: str, user: User) -> Response:
        """Answer a request of a known user; ``rest`` is the path below the service."""
        if request.method != "POST" or rest not in ("certificate", "main-certificate"):
            return Response(404, _TEXT, b"<!doctype html><h1>Not Found</h1>")
        values = json.loads(b"".join(request.body.blocks()))
        if rest == "main-certificate":
            return self._shared(values, user)
        return self._personal(values, user)

    def _personal(self, values: dict[str, Any], user: User) -> Response:
        key = values.get("certificate_key")
        if key not in KEYS:  # a text is raised there, which Python does not do
            return Response(500, _TEXT, b"<!doctype html><h1>Internal Server Error</h1>")
        other = values.get("user")
        if other is not None and not user.admin:
            return Response(500, _TEXT, b"<!doctype html><h1>Internal Server Error</h1>")
        certificate = str(values.get("certificate"))
        problem, until = _verdict(certificate)
        if problem == _TOO_LONG and self._strikes("says_stored", key):
            # observed: not stored, and the refusal stands where the validity should be
            return _json({"message": "Certificate stored", "validity": [problem, 400]})
        if problem is not None:
            return Response(400, _TEXT, problem.encode())
        self.stored[other or user.name, key] = certificate
        return _json({"message": "Certificate stored", "validity": f"{until:%a, %d %b %Y %T GMT}"})

    def _shared(self, values: dict[str, Any], user: User) -> Response:
        if not user.admin:
            return Response(401, _TEXT, b"access denied")
        problem, _ = _verdict(str(values.get("certificate")))
        if problem is not None:
            return Response(400, _TEXT, problem.encode())
        self.stored["", ""] = str(values["certificate"])
        return _json({"message": "Shared certificate stored", "certificateUploaded": True})


def _verdict(text: str) -> tuple[str | None, datetime]:
    """Say why a certificate is not taken, or None, and the end of its life."""
    now = datetime.now(UTC)
    if "-----BEGIN CERTIFICATE-----" not in text:
        return "no valid certificate provided", now
    try:
        first = x509.load_pem_x509_certificates(text.encode())[0]
    except ValueError as why:
        return f"invalid certificate : {why}", now
    until = first.not_valid_after_utc
    if until <= now:
        return "certificate expired", until
    if until.date() > now.date() + timedelta(days=_MAX_DAYS):
        return _TOO_LONG, until
    return None, until


def _json(values: dict[str, Any]) -> Response:
    return Response(200, {"Content-Type": "application/json"}, json.dumps(values).encode())
