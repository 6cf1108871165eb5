"""The tokens of the sandbox's issuer: issuing, checking, renewing and revoking them."""

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
from joserfc.jwk import KeySet, RSAKey

if TYPE_CHECKING:
    from ctaflows.sandbox.faults import Clock
    from ctaflows.sandbox.quirks import Quirks

SCOPE = "openid offline_access"
SUBJECT = "sandbox-user"
AUDIENCE = "https://wlcg.cern.ch/jwt/v1/any"
_REFRESH_LIFETIME_S = 86400


@functools.cache
def signing_key() -> RSAKey:
    """Return the issuer's key, generated once per process: it takes 0.1 s."""
    return _new_key()


def _new_key() -> RSAKey:
    return RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256", "kid": uuid.uuid4().hex})


@dataclass
class Refresh:
    """A refresh token.

    Attributes
    ----------
    subject, scope, session : str
        User, scope, and id of the login from which it comes.
    is_used : bool
        Whether it was used before.
    """

    subject: str
    scope: str
    session: str
    is_used: bool = False


class Tokens:
    """All tokens of one issuer; thread-safe.

    Parameters
    ----------
    lifetime_s : float
        Lifetime of an access token, seconds.
    quirks : Quirks
        Decides whether refresh tokens rotate.

    Attributes
    ----------
    issuer : str
        Value of the claim ``iss``.
    keys : list of RSAKey
        The published keys; the last one signs.
    """

    def __init__(self, lifetime_s: float, quirks: Quirks) -> None:
        self.issuer = ""
        self.lifetime_s = lifetime_s
        self.keys = [signing_key()]
        self._quirks = quirks
        self._lock = threading.Lock()
        self._refreshes: dict[str, Refresh] = {}
        self._ended: set[str] = set()
        self._revoked: set[str] = set()
        self._claims: dict[str, dict[str, Any]] = {}

    def access(
        self, lifetime_s: float | None = None, scope: str = SCOPE, subject: str = SUBJECT
    ) -> str:
        """Return a new access token; a negative lifetime gives one that has expired."""
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
        key = self.keys[-1]
        header = {"alg": "RS256", "typ": "JWT", "kid": key.kid}
        return jwt.encode(header, claims, key)

    def pair(self, scope: str, subject: str, session: str | None = None) -> dict[str, Any]:
        """Return a new access and refresh token, as the response of Keycloak's token endpoint."""
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

    def change_key(self) -> None:
        """Sign with a new key from now on, and publish only that one."""
        self.keys = [_new_key()]

    def claims(self, token: str) -> dict[str, Any]:
        """Return the claims of a token that was not refused."""
        return self._claims.get(token, {})

    def refusal(self, token: str, keys: list[RSAKey] | None = None) -> str | None:
        """Return why a token is refused, or None if it is valid for who knows these keys."""
        if token in self._revoked:
            return "Token has been revoked"
        claims = self._claims.get(token)
        if claims is None:
            try:
                known = KeySet([*(keys or self.keys)])
                claims = jwt.decode(token, known, algorithms=["RS256"]).claims
            except (JoseError, ValueError, TypeError):
                return "Token is not valid"
            self._claims[token] = claims
        if claims.get("iss") != self.issuer:
            return "Token is not from a trusted issuer"
        if claims.get("exp", 0) <= time.time():
            return "Token has expired"
        return None

    def hand_in(self, refresh: str) -> Refresh | None:
        """Use up a refresh token and return it; None if it is unknown, revoked or already used."""
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
        """Revoke a token; a refresh token also ends its session."""
        with self._lock:
            self._revoked.add(token)
            if token in self._refreshes:
                self._ended.add(self._refreshes[token].session)


class Logins:
    """The logins of a door by token, each remembered for a while; thread-safe.

    Parameters
    ----------
    tokens : Tokens
        The issuer's tokens.
    quirks : Quirks
        Decides how long logins and the issuer's keys are remembered.
    clock : Clock
        The time at the servers.
    """

    def __init__(self, tokens: Tokens, quirks: Quirks, clock: Clock) -> None:
        self._tokens = tokens
        self._quirks = quirks
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, str | None]] = {}
        self._keys: list[RSAKey] = []
        self._keys_until = float("-inf")

    def refusal(self, token: str) -> str | None:
        """Return the reason phrase of the 401 for a token, or None if it is accepted."""
        now = self._clock.now()
        with self._lock:
            until, reason = self._known.get(token, (now, None))
            if now < until:
                return reason
            if now >= self._keys_until:
                self._keys, self._keys_until = self._tokens.keys, now + self._quirks.issuer_keys_s
            keys = self._keys
        reason = "login failed" if self._tokens.refusal(token, keys) else None
        keeps_s = self._quirks.failed_logins_s if reason else self._quirks.logins_s
        with self._lock:
            self._known[token] = (now + keeps_s, reason)
        return reason

    def scopes(self, token: str) -> set[str]:
        """Return the WLCG scopes of a token, without their paths; without any it may do all."""
        scopes = self._tokens.claims(token).get("scope", "").split()
        return {s.partition(":")[0] for s in scopes if s.startswith("storage.")}


# -- grants and endpoints for Authlib --------------------------------------------------------------
#
# Refresh token grant, device authorization grant and revocation, in the interfaces of Authlib.

AUTH_METHODS = ["client_secret_basic", "client_secret_post"]
_SLOWER_S = 5  # RFC 8628, 3.5


class Client(ClientMixin):  # type: ignore[misc]  # Authlib is untyped
    """The only client registered at the issuer.

    Attributes
    ----------
    client_id, client_secret : str
        Its credentials.
    """

    def __init__(self, client_id: str, client_secret: str) -> None:
        self.client_id = client_id
        self.client_secret = client_secret

    def get_client_id(self) -> str:
        """Return the client id."""
        return self.client_id

    def check_client_secret(self, client_secret: str) -> bool:
        """Return whether a secret is the client's."""
        return secrets.compare_digest(client_secret.encode(), self.client_secret.encode())

    def check_endpoint_auth_method(self, method: str, _endpoint: str) -> bool:
        """Return whether a client authentication method is allowed."""
        return method in AUTH_METHODS

    def check_grant_type(self, grant_type: str) -> bool:
        """Return whether a grant type is allowed."""
        return grant_type in ("refresh_token", DEVICE_CODE_GRANT_TYPE)

    def get_allowed_scope(self, scope: str | None) -> str:
        """Return the requested scope: all are allowed."""
        return scope or SCOPE


@dataclass
class Login:
    """A pending device login.

    Attributes
    ----------
    client_id, scope, device_code, user_code : str
        As in the device authorization response.
    expires_at : float
        Expiry of the codes, epoch seconds.
    interval_s : float
        Minimum seconds between polls.
    is_approved : bool or None
        The user's decision; None until there is one.
    polled_at : float
        Monotonic time of the last poll.
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
        """Return the client id."""
        return self.client_id

    def get_scope(self) -> str:
        """Return the requested scope."""
        return self.scope

    def get_user_code(self) -> str:
        """Return the code that the user types."""
        return self.user_code

    def is_expired(self) -> bool:
        """Return whether the codes have expired."""
        return time.time() > self.expires_at


class Credential(Refresh):
    """A refresh token with Authlib's interface."""

    def check_client(self, _client: Client) -> bool:
        """Return whether it belongs to a client: there is only one."""
        return True

    def get_scope(self) -> str:
        """Return the scope."""
        return self.scope


class RefreshGrant(RefreshTokenGrant):  # type: ignore[misc]
    """The refresh token grant (RFC 6749, 6)."""

    TOKEN_ENDPOINT_AUTH_METHODS = AUTH_METHODS
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> Credential | None:
        """Use up the refresh token."""
        found = self.server.tokens.hand_in(refresh_token)
        return Credential(found.subject, found.scope, found.session) if found else None

    def authenticate_user(self, refresh_token: Credential) -> Credential:
        """Return the credential, which stands for the user."""
        return refresh_token

    def revoke_old_credential(self, refresh_token: Credential) -> None:
        """Do nothing: `Tokens.hand_in` has used it up, so that of two uses at once one succeeds."""


class DeviceGrant(DeviceCodeGrant):  # type: ignore[misc]
    """The device authorization grant (RFC 8628)."""

    TOKEN_ENDPOINT_AUTH_METHODS = AUTH_METHODS

    def query_device_credential(self, device_code: str) -> Login:
        """Return the pending login with a device code."""
        login: Login | None = self.server.logins.get(device_code)
        if login is None:
            raise InvalidGrantError("Device code not valid")  # as Keycloak 26.7.3
        return login

    def query_user_grant(self, user_code: str) -> tuple[Credential, bool] | None:
        """Return the user's decision, or None until there is one; an approved code is used up."""
        login = self.server.issuer.login(user_code)
        if login is None or login.is_approved is None:
            return None
        if login.is_approved and self.server.logins.pop(login.device_code, None) is None:
            raise InvalidGrantError("Device code not valid")
        session = secrets.token_hex(16)
        return Credential(SUBJECT, login.scope, session), login.is_approved

    def should_slow_down(self, credential: Login) -> bool:
        """Record a poll and return whether it came too early."""
        now = time.monotonic()
        is_early = now - credential.polled_at < credential.interval_s
        credential.polled_at = now
        if is_early:
            credential.interval_s += _SLOWER_S
        return is_early


class DeviceEndpoint(DeviceAuthorizationEndpoint):  # type: ignore[misc]
    """The device authorization endpoint (RFC 8628)."""

    CLIENT_AUTH_METHODS = AUTH_METHODS

    def get_verification_uri(self) -> str:
        """Return the URL of the page where the user logs in."""
        return f"{self.server.tokens.issuer}/device"

    def save_device_credential(self, client_id: str, scope: str, data: dict[str, Any]) -> None:
        """Store a pending login."""
        self.server.logins[data["device_code"]] = Login(
            client_id,
            scope or SCOPE,
            data["device_code"],
            data["user_code"],
            time.time() + self.EXPIRES_IN,
            self.INTERVAL,
        )


class Revocation(RevocationEndpoint):  # type: ignore[misc]
    """The revocation endpoint (RFC 7009)."""

    CLIENT_AUTH_METHODS = AUTH_METHODS

    def query_token(self, token_string: str, _hint: str | None) -> _Revocable:
        """Return the token: any is accepted."""
        return _Revocable(token_string)

    def revoke_token(self, token: _Revocable, _request: Any) -> None:
        """Revoke the token."""
        self.server.tokens.revoke(token.text)


@dataclass(frozen=True)
class _Revocable:
    text: str

    def check_client(self, _client: Client) -> bool:
        """Return whether it belongs to a client: there is only one."""
        return True
