"""Bearer tokens: discovery, and their claims, which are read without being verified.

WLCG Bearer Token Discovery (zenodo.3937438) gives the order: ``BEARER_TOKEN``, the file named in
``BEARER_TOKEN_FILE``, ``$XDG_RUNTIME_DIR/bt_u$EUID``, ``/tmp/bt_u$EUID``. White space is stripped,
empty values are skipped, an invalid token is an error.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctaflows.atomic_files import local_errors, open_ours, read_private
from ctaflows.errors import AuthError, UsageError, register_secret
from ctaflows.model import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

# RFC 6750 §2.1, b64token
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


@dataclass(frozen=True, slots=True)
class FoundToken:
    """A bearer token and where it was found.

    Attributes
    ----------
    value : str
        The token; not shown by ``repr``.
    source : str
        An environment variable's name, a file's path, or ``block:NAME``.
    """

    value: str
    source: str

    def __post_init__(self) -> None:
        register_secret(self.value)

    def __repr__(self) -> str:
        return f"FoundToken(source={self.source!r})"


@dataclass(frozen=True, slots=True)
class TokenInfo(Record):
    """A description of a token that does not show the token.

    Attributes
    ----------
    source : str
        Where it was found.
    issuer, subject : str or None
        The claims ``iss`` and ``sub``; None where they are not known.
    scopes, audience : tuple of str
        The claims ``scope`` and ``aud``; empty where they are not known.
    expires_at : datetime or None
        Expiry time, UTC; None where it is not known.
    expires_in_s : int or None
        Seconds from now to the expiry, negative once it is past.
    refreshable : bool
        Is there a refresh token to renew it with?
    client_id : str or None
        The OAuth 2.0 client it was issued to (``azp`` or ``client_id``); None where not known.
    """

    source: str
    issuer: str | None
    subject: str | None
    scopes: tuple[str, ...]
    audience: tuple[str, ...]
    expires_at: datetime | None
    expires_in_s: int | None
    refreshable: bool
    client_id: str | None = None


def discover(env: Mapping[str, str] = os.environ) -> FoundToken | None:
    """Return the token that WLCG Bearer Token Discovery finds.

    Parameters
    ----------
    env : Mapping
        Environment variables; by default those of this process.

    Returns
    -------
    FoundToken or None
        The first value that is not empty; None where there is none.

    Raises
    ------
    AuthError
        That value is no bearer token, or the file named in BEARER_TOKEN_FILE can't be read.
    """
    if value := env.get("BEARER_TOKEN", "").strip():
        return _checked(value, "BEARER_TOKEN")
    if named := env.get("BEARER_TOKEN_FILE"):
        hint = "Mend or unset BEARER_TOKEN_FILE."
        with local_errors(named, "The token file can't be read", hint=hint, kind=AuthError):
            value = Path(named).read_text(encoding="utf-8", errors="replace").strip()
        if value:
            return _checked(value, named)
    for folder in (env.get("XDG_RUNTIME_DIR"), "/tmp"):  # noqa: S108  as WLCG says
        if folder and (found := _from_shared_place(Path(folder) / f"bt_u{os.geteuid()}")):
            return found
    return None


def _from_shared_place(file: Path) -> FoundToken | None:
    """Return the token of a file that belongs to this user: anybody can put a file into /tmp."""
    try:
        descriptor = open_ours(file, os.O_RDONLY, may_be_linked=True, must_be_mine=True)
    except (OSError, UsageError):
        return None
    with os.fdopen(descriptor, "rb") as stream:
        value = stream.read(1 << 16).decode("utf-8", "replace").strip()
    return _checked(value, str(file)) if value else None


def is_token(value: str) -> bool:
    """Return whether a text has the form of a bearer token (RFC 6750 §2.1)."""
    return _TOKEN.fullmatch(value) is not None


def _checked(value: str, source: str) -> FoundToken:
    if not is_token(value):
        raise AuthError(
            "What stands there is no bearer token",
            where=source,
            hint="A token is one line of letters, digits and - . _ ~ + /.",
        )
    return FoundToken(value, source)


def claims(token: str) -> dict[str, Any]:
    """Return a JWT's claims without verifying them: the services that get the token do that.

    Parameters
    ----------
    token : str
        Any bearer token.

    Returns
    -------
    dict
        Empty for a token that is no JWT, such as a macaroon or an opaque token.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        body = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        found = json.loads(body)
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def describe(
    found: FoundToken,
    *,
    refreshable: bool,
    expires_at: float | None = None,
    owner: tuple[str | None, str | None] = (None, None),
    now: float | None = None,
) -> TokenInfo:
    """Return a description of a token.

    Parameters
    ----------
    found : FoundToken
        The token.
    refreshable : bool
        Is there a refresh token for it?
    expires_at : float, optional
        Expiry time counted from the token's receipt, seconds since 1970; by default its ``exp``
        claim.
    owner : tuple, optional
        Issuer and client, where they are known from elsewhere. The token's ``iss`` claim comes
        before this issuer, this client before the token's claims.
    now : float, optional
        Current time, seconds since 1970; for tests.
    """
    claimed = claims(found.value)
    issuer, client_id = owner
    expiry = _number(expires_at if expires_at is not None else claimed.get("exp"))
    now_s = datetime.now(UTC).timestamp() if now is None else now
    return TokenInfo(
        source=found.source,
        issuer=_text(claimed.get("iss")) or issuer,
        subject=_text(claimed.get("sub")),
        scopes=_words(claimed.get("scope")),
        audience=_words(claimed.get("aud")),
        expires_at=datetime.fromtimestamp(expiry, UTC) if expiry is not None else None,
        expires_in_s=int(expiry - now_s) if expiry is not None else None,
        refreshable=refreshable,
        client_id=client_id or _text(claimed.get("azp")) or _text(claimed.get("client_id")),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> float | None:
    in_range = isinstance(value, int | float) and 0 <= value < 253402300800  # year 10000
    return float(value) if in_range and isinstance(value, int | float) else None


def _words(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(value.split())
    return tuple(v for v in value if isinstance(v, str)) if isinstance(value, list) else ()


# -- tokens of ctadata and JupyterHub --------------------------------------------------------------
#
# ctadata 0.7.0 (api.py): ``~/.config/cta-data/token``, with ``-dev`` for the development instance.
# ctadata 0.6.0 (direct/api.py): ``~/.cta_token``. JupyterHub: ``JUPYTERHUB_API_TOKEN``.

_CTADATA_FILES = {
    "cscs": ("~/.config/cta-data/token", "~/.cta_token"),
    "cscs-dev": ("~/.config/cta-data/token-dev",),
}


def discover_ctadata(profile: str, env: Mapping[str, str] = os.environ) -> FoundToken | None:
    """Return the token that ctadata or JupyterHub stores for a profile.

    Parameters
    ----------
    profile : str
        The profile's name; ctadata's files are read for ``cscs`` and ``cscs-dev``.
    env : Mapping
        Environment variables; by default those of this process.

    Returns
    -------
    FoundToken or None
        The first valid token; what is no bearer token is skipped without an error.
    """
    for name in _CTADATA_FILES.get(profile, ()):
        value = read_private(Path(name).expanduser())
        if value and is_token(value):
            return FoundToken(value, name)
    value = env.get("JUPYTERHUB_API_TOKEN", "").strip()
    if value and is_token(value):
        return FoundToken(value, "JUPYTERHUB_API_TOKEN")
    return None
