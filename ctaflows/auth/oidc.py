"""OpenID Connect at the issuer: discovery and refresh (RFC 6749 §6)."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from ctaflows.auth.store import TokenSet
from ctaflows.errors import AuthError, LoginNeeded, ProtocolSurprise, UsageError
from ctaflows.transport import Transport, origin

if TYPE_CHECKING:
    from ctaflows.settings import Settings
    from ctaflows.transport import Answer

_FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}


def refresh(settings: Settings, refresh_token: str) -> TokenSet:
    """Get a new access token for a refresh token.

    Parameters
    ----------
    settings : Settings
        Issuer, client and its secret.
    refresh_token : str
        It may be used up by this call: an issuer may rotate it (RFC 6749 §6), so store what comes
        back before using it.

    Returns
    -------
    TokenSet
        The new tokens; the old refresh token where the issuer gave no new one.

    Raises
    ------
    LoginNeeded
        The issuer will not take this refresh token (``invalid_grant``).
    AuthError
        The issuer does not accept the client.
    CtaflowsError
        The issuer can't be reached, or does not speak OpenID Connect.
    """
    with Transport(settings, settings.issuer_url) as transport:
        endpoint = _metadata(transport, settings.issuer_url)["token_endpoint"]
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        values = _post(transport, endpoint, {**form, **_client(settings)})
    return TokenSet(
        access_token=values["access_token"],
        refresh_token=values.get("refresh_token") or refresh_token,
        expires_in=values.get("expires_in"),
        obtained_at=time.time(),
        scope=values.get("scope", ""),
    )


def _metadata(transport: Transport, issuer: str) -> dict[str, Any]:
    """Read the issuer's own description; one that names another issuer is refused.

    OpenID Connect Discovery 1.0 §4.3: the names must be equal; ours has no trailing slash.
    """
    url = f"{issuer}/.well-known/openid-configuration"
    found = _json(transport.request("GET", url, headers={"Accept": "application/json"}))
    if str(found.get("issuer", "")).rstrip("/") != issuer:
        raise ProtocolSurprise(
            "The issuer's description names another issuer",
            where=url,
            said=str(found.get("issuer")),
            hint="Check CTAFLOWS_ISSUER_URL.",
        )
    endpoint = str(found.get("token_endpoint", ""))
    if origin(endpoint)[0] != origin(issuer)[0]:
        raise ProtocolSurprise("The issuer's token endpoint is not safe", where=endpoint or url)
    return found


def _client(settings: Settings) -> dict[str, str]:
    """Give the client's credentials as form fields: they take every character (RFC 6749 §2.3.1)."""
    fields = {"client_id": settings.client_id}
    secret = settings.client_secret
    if secret is None and settings.client_secret_file is not None:
        try:
            secret = settings.client_secret_file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as why:
            raise UsageError(
                "The client secret's file can't be read",
                where=str(settings.client_secret_file),
                said=str(why),
            ) from None
    return {**fields, "client_secret": secret} if secret else fields


def _post(transport: Transport, endpoint: str, form: dict[str, str]) -> dict[str, Any]:
    answer = transport.request(
        "POST", endpoint, headers=_FORM, content=urlencode(form).encode(), expect=(400, 401)
    )
    values = _json(answer)
    if answer.status < 400:
        if not isinstance(values.get("access_token"), str):
            raise ProtocolSurprise("The issuer's answer holds no token", where=endpoint)
        return values
    code, text = values.get("error"), values.get("error_description") or ""
    if code == "invalid_grant":
        raise LoginNeeded(
            "The issuer will not renew this login", where=endpoint, said=f"{code} {text}".strip()
        )
    raise AuthError(
        "The issuer refuses",
        where=endpoint,
        said=f"{answer.status} {code or ''} {text}".strip(),
        hint="Check CTAFLOWS_CLIENT_ID and CTAFLOWS_CLIENT_SECRET_FILE.",
    )


def _json(answer: Answer) -> dict[str, Any]:
    try:
        values = json.loads(answer.body)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ProtocolSurprise("The issuer's answer is no JSON object", where=answer.url)
    return values
