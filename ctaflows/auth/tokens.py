"""Bearer tokens: found in WLCG order, and read without being verified.

Order and rules: WLCG Bearer Token Discovery (zenodo.3937438): ``BEARER_TOKEN``, the file named in
``BEARER_TOKEN_FILE``, ``$XDG_RUNTIME_DIR/bt_u$EUID``, ``/tmp/bt_u$EUID``; white space is stripped,
what is empty is passed over, what is invalid is an error.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctaflows.atomic_files import read_private
from ctaflows.errors import AuthError
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
        The token itself; never printed by ``repr``.
    source : str
        Such as ``BEARER_TOKEN`` or a file's path.
    """

    value: str
    source: str

    def __repr__(self) -> str:
        return f"FoundToken(source={self.source!r})"


@dataclass(frozen=True, slots=True)
class TokenInfo(Record):
    """What can be told of a token without showing it.

    Attributes
    ----------
    source : str
        Where it was found.
    issuer, subject : str or None
        Who made it and for whom; None where that is not known.
    scopes, audience : tuple of str
        What it may do, and where.
    expires_at : datetime or None
        End of its life, UTC.
    expires_in_s : int or None
        Seconds from now until then, negative when it is over.
    refreshable : bool
        Is there a refresh token to renew it with?
    client_id : str or None
        OAuth 2.0 client that it was given to; None where that is not known.
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
    """Look for a token where WLCG tools keep one.

    Returns
    -------
    FoundToken or None
        The first that is there and not empty.

    Raises
    ------
    AuthError
        What was found first is no token, or a file named in BEARER_TOKEN_FILE can't be read.
    """
    if value := env.get("BEARER_TOKEN", "").strip():
        return _checked(value, "BEARER_TOKEN")
    if named := env.get("BEARER_TOKEN_FILE"):
        try:
            value = Path(named).read_text(encoding="utf-8", errors="replace").strip()
        except OSError as why:
            raise AuthError(
                "The token file can't be read",
                where=named,
                said=why.strerror,
                hint="Mend or unset BEARER_TOKEN_FILE.",
            ) from None
        if value:
            return _checked(value, named)
    for folder in (env.get("XDG_RUNTIME_DIR"), "/tmp"):  # noqa: S108  WLCG names it
        if folder and (found := _from_shared_place(Path(folder) / f"bt_u{os.geteuid()}")):
            return found
    return None


def _from_shared_place(file: Path) -> FoundToken | None:
    """Read a token file only if it is ours: anybody can put one into /tmp."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    about = os.fstat(descriptor)
    if about.st_uid != os.geteuid() or not stat.S_ISREG(about.st_mode):
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as stream:
        value = stream.read(1 << 16).decode("utf-8", "replace").strip()
    return _checked(value, str(file)) if value else None


def is_token(value: str) -> bool:
    """Has this text the form of a bearer token (RFC 6750 §2.1)?"""
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
    """Read a JWT's claims without verifying them (the service does that).

    Parameters
    ----------
    token : str
        Any bearer token.

    Returns
    -------
    dict
        Empty for a token that is no JWT (macaroons and opaque tokens are none).
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
    """Say what can be said of a token.

    Parameters
    ----------
    found : FoundToken
        The token.
    refreshable : bool
        Is there a refresh token for it?
    expires_at : float, optional
        End of life as counted from its receipt, seconds since 1970; else the token's own ``exp``.
    owner : tuple, optional
        Issuer and client, where more is known of them than the token claims.
    now : float, optional
        Seconds since 1970; for tests.
    """
    said = claims(found.value)
    issuer, client_id = owner
    end = _number(expires_at if expires_at is not None else said.get("exp"))
    moment = datetime.now(UTC).timestamp() if now is None else now
    return TokenInfo(
        source=found.source,
        issuer=_text(said.get("iss")) or issuer,
        subject=_text(said.get("sub")),
        scopes=_words(said.get("scope")),
        audience=_words(said.get("aud")),
        expires_at=datetime.fromtimestamp(end, UTC) if end is not None else None,
        expires_in_s=int(end - moment) if end is not None else None,
        refreshable=refreshable,
        client_id=client_id or _text(said.get("azp")) or _text(said.get("client_id")),
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
# Tokens that other programs of our users keep: ctadata's files, JupyterHub's environment.
#
# ctadata 0.7.0 (api.py): ``~/.config/cta-data/token``, with ``-dev`` for the development instance.
# ctadata 0.6.0 (direct/api.py): ``~/.cta_token``.

_CTADATA_FILES = {
    "cscs": ("~/.config/cta-data/token", "~/.cta_token"),
    "cscs-dev": ("~/.config/cta-data/token-dev",),
}


def discover_ctadata(profile: str, env: Mapping[str, str] = os.environ) -> FoundToken | None:
    """Look for a token that another program keeps for this profile.

    Returns
    -------
    FoundToken or None
        What is no token is passed over: these files are not ours to complain about.
    """
    for name in _CTADATA_FILES.get(profile, ()):
        value = read_private(Path(name).expanduser())
        if value and is_token(value):
            return FoundToken(value, name)
    value = env.get("JUPYTERHUB_API_TOKEN", "").strip()
    if value and is_token(value):
        return FoundToken(value, "JUPYTERHUB_API_TOKEN")
    return None
