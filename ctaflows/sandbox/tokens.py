"""Tokens of the sandbox's issuer: made, checked, used up, revoked."""

from __future__ import annotations

import functools
import secrets
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

if TYPE_CHECKING:
    from ctaflows.sandbox.quirks import Quirks

SCOPE = "openid offline_access"
SUBJECT = "sandbox-user"
AUDIENCE = "https://wlcg.cern.ch/jwt/v1/any"
_REFRESH_LIFETIME_S = 86400


@functools.cache
def signing_key() -> RSAKey:
    """Make the issuer's key, once in a process: it takes 0.1 s."""
    return RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256", "kid": uuid.uuid4().hex})


@dataclass
class Refresh:
    """A refresh token.

    Attributes
    ----------
    subject, scope, session : str
        Whose it is, for what, and the login it came from.
    is_used : bool
        Was it handed in before?
    """

    subject: str
    scope: str
    session: str
    is_used: bool = False


class Tokens:
    """All tokens of one issuer; safe to use from many threads.

    Parameters
    ----------
    lifetime_s : float
        Life of an access token.
    quirks : Quirks
        Whether refresh tokens rotate.

    Attributes
    ----------
    issuer : str
        Value of ``iss``.
    """

    def __init__(self, lifetime_s: float, quirks: Quirks) -> None:
        self.issuer = ""
        self.lifetime_s = lifetime_s
        self._quirks = quirks
        self._lock = threading.Lock()
        self._refreshes: dict[str, Refresh] = {}
        self._ended: set[str] = set()
        self._revoked: set[str] = set()
        self._claims: dict[str, dict[str, Any]] = {}

    def access(
        self, lifetime_s: float | None = None, scope: str = SCOPE, subject: str = SUBJECT
    ) -> str:
        """Make an access token; a negative lifetime gives one that has expired."""
        now = int(time.time())
        life = self.lifetime_s if lifetime_s is None else lifetime_s
        claims = {
            "iss": self.issuer,
            "sub": subject,
            "aud": AUDIENCE,
            "scope": scope,
            "iat": min(now, int(now + life)),
            "exp": int(now + life),
            "jti": uuid.uuid4().hex,
        }
        key = signing_key()
        header = {"alg": "RS256", "typ": "JWT", "kid": key.kid}
        return jwt.encode(header, claims, key)

    def pair(self, scope: str, subject: str, session: str | None = None) -> dict[str, Any]:
        """Make an access and a refresh token, as the token endpoint answers (Keycloak's keys)."""
        session = session or uuid.uuid4().hex
        refresh = secrets.token_urlsafe(32)
        with self._lock:
            self._refreshes[refresh] = Refresh(subject, scope, session)
        return {
            "access_token": self.access(scope=scope, subject=subject),
            "expires_in": int(self.lifetime_s),
            "refresh_expires_in": _REFRESH_LIFETIME_S,
            "refresh_token": refresh,
            "token_type": "Bearer",
            "not-before-policy": 0,
            "session_state": session,
            "scope": scope,
        }

    def refusal(self, token: str) -> str | None:
        """Say why a token is refused; None if it is good."""
        if token in self._revoked:
            return "Token has been revoked"
        claims = self._claims.get(token)
        if claims is None:
            try:
                claims = jwt.decode(token, signing_key(), algorithms=["RS256"]).claims
            except (JoseError, ValueError, TypeError):
                return "Token is not valid"
            self._claims[token] = claims
        if claims.get("iss") != self.issuer:
            return "Token is not from a trusted issuer"
        if claims.get("exp", 0) <= time.time():
            return "Token has expired"
        return None

    def hand_in(self, refresh: str) -> Refresh | None:
        """Use a refresh token; None where it is none, is over or came before."""
        with self._lock:
            found = self._refreshes.get(refresh)
            if found is None or found.session in self._ended:
                return None
            if found.is_used and self._quirks.rotate:
                if self._quirks.reuse_ends_session:
                    self._ended.add(found.session)
                return None
            found.is_used = True
            return found

    def revoke(self, token: str) -> None:
        """Refuse a token from now on; with a refresh token, its whole login."""
        with self._lock:
            self._revoked.add(token)
            if token in self._refreshes:
                self._ended.add(self._refreshes[token].session)
