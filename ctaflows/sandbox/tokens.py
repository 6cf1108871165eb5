"""Tokens of the sandbox's issuer: made, checked, used up, revoked."""

from __future__ import annotations

import functools
import secrets
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from authlib.oauth2.rfc6749.errors import InvalidGrantError
from authlib.oauth2.rfc6749.grants import RefreshTokenGrant
from authlib.oauth2.rfc6749.models import ClientMixin
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc8628 import (
    DEVICE_CODE_GRANT_TYPE,
    DeviceAuthorizationEndpoint,
    DeviceCodeGrant,
)
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


# -- what the issuer grants ------------------------------------------------------------------------
#
# What the issuer grants: refresh tokens, device logins, revocation, as Authlib wants it.

AUTH_METHODS = ["client_secret_basic", "client_secret_post"]
_SLOWER_S = 5  # RFC 8628, 3.5


class Client(ClientMixin):  # type: ignore[misc]  # Authlib is untyped
    """The one client that the issuer knows.

    Attributes
    ----------
    client_id, client_secret : str
        Its name and its password.
    """

    def __init__(self, client_id: str, client_secret: str) -> None:
        self.client_id = client_id
        self.client_secret = client_secret

    def get_client_id(self) -> str:
        """Give the name of the client."""
        return self.client_id

    def check_client_secret(self, client_secret: str) -> bool:
        """Compare a password."""
        return secrets.compare_digest(client_secret.encode(), self.client_secret.encode())

    def check_endpoint_auth_method(self, method: str, _endpoint: str) -> bool:
        """Allow a way to authenticate."""
        return method in AUTH_METHODS

    def check_grant_type(self, grant_type: str) -> bool:
        """Allow a grant."""
        return grant_type in ("refresh_token", DEVICE_CODE_GRANT_TYPE)

    def get_allowed_scope(self, scope: str | None) -> str:
        """Allow every scope."""
        return scope or SCOPE


@dataclass
class Login:
    """A device login that somebody may approve.

    Attributes
    ----------
    client_id, scope, device_code, user_code : str
        As handed out.
    expires_at : float
        End of the codes, epoch seconds.
    interval_s : float
        Seconds between polls.
    is_approved : bool or None
        None while nobody has decided.
    """

    client_id: str
    scope: str
    device_code: str
    user_code: str
    expires_at: float
    interval_s: float
    is_approved: bool | None = None
    polled_at: float = field(default=float("-inf"))

    def get_client_id(self) -> str:
        """Give the name of the client."""
        return self.client_id

    def get_scope(self) -> str:
        """Give the scope asked for."""
        return self.scope

    def get_user_code(self) -> str:
        """Give the code a person types."""
        return self.user_code

    def is_expired(self) -> bool:
        """Tell whether the codes are over."""
        return time.time() > self.expires_at


class Credential(Refresh):
    """A refresh token as Authlib wants it."""

    def check_client(self, _client: Client) -> bool:
        """Tell whether it belongs to a client; there is but one."""
        return True

    def get_scope(self) -> str:
        """Give the scope."""
        return self.scope


class RefreshGrant(RefreshTokenGrant):  # type: ignore[misc]
    """Renews tokens, each refresh token once."""

    TOKEN_ENDPOINT_AUTH_METHODS = AUTH_METHODS
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> Credential | None:
        """Use the token up."""
        found = self.server.tokens.hand_in(refresh_token)
        return Credential(found.subject, found.scope, found.session) if found else None

    def authenticate_user(self, refresh_token: Credential) -> Credential:
        """Give whose token it is."""
        return refresh_token

    def revoke_old_credential(self, refresh_token: Credential) -> None:
        """Nothing: `Tokens.hand_in` has done it, so that of two at once only one wins."""


class DeviceGrant(DeviceCodeGrant):  # type: ignore[misc]
    """Waits for a person to approve a device (RFC 8628)."""

    TOKEN_ENDPOINT_AUTH_METHODS = AUTH_METHODS

    def query_device_credential(self, device_code: str) -> Login:
        """Find a login."""
        login: Login | None = self.server.logins.get(device_code)
        if login is None:
            raise InvalidGrantError("Device code not valid")  # as Keycloak 26.7.3, not RFC 8628
        return login

    def query_user_grant(self, user_code: str) -> tuple[Credential, bool] | None:
        """Give the decision, None while there is none; an approved code is used up."""
        login = self.server.issuer.login(user_code)
        if login is None or login.is_approved is None:
            return None
        if login.is_approved and self.server.logins.pop(login.device_code, None) is None:
            raise InvalidGrantError("Device code not valid")
        session = secrets.token_hex(16)
        return Credential(SUBJECT, login.scope, session), login.is_approved

    def should_slow_down(self, credential: Login) -> bool:
        """Note a poll and tell whether it came too early."""
        now = time.monotonic()
        is_early = now - credential.polled_at < credential.interval_s
        credential.polled_at = now
        if is_early:
            credential.interval_s += _SLOWER_S
        return is_early


class DeviceEndpoint(DeviceAuthorizationEndpoint):  # type: ignore[misc]
    """Hands out device codes (RFC 8628)."""

    CLIENT_AUTH_METHODS = AUTH_METHODS

    def get_verification_uri(self) -> str:
        """Give the page where a person logs in."""
        return f"{self.server.tokens.issuer}/device"

    def save_device_credential(self, client_id: str, scope: str, data: dict[str, Any]) -> None:
        """Keep a login."""
        self.server.logins[data["device_code"]] = Login(
            client_id,
            scope or SCOPE,
            data["device_code"],
            data["user_code"],
            time.time() + self.EXPIRES_IN,
            self.INTERVAL,
        )


class Revocation(RevocationEndpoint):  # type: ignore[misc]
    """Revokes tokens (RFC 7009)."""

    CLIENT_AUTH_METHODS = AUTH_METHODS

    def query_token(self, token_string: str, _hint: str | None) -> _Revocable:
        """Accept any token."""
        return _Revocable(token_string)

    def revoke_token(self, token: _Revocable, _request: Any) -> None:
        """Refuse the token from now on."""
        self.server.tokens.revoke(token.text)


@dataclass(frozen=True)
class _Revocable:
    text: str

    def check_client(self, _client: Client) -> bool:
        """Tell whether it belongs to a client; there is but one."""
        return True
