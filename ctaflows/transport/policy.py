"""Decisions about HTTP, all pure: which error, which next hop, how long to wait."""

from __future__ import annotations

import email.utils
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from ctaflows.errors import (
    CtaflowsError,
    DoorBusy,
    Nearline,
    NoSpace,
    NotFound,
    ProtocolSurprise,
    RateLimited,
    Refused,
    SourceChanged,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_HOPS = 5
#: Repeating these changes nothing at the server.
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PROPFIND"})
#: Only these are sent on to pools by a dCache door (DcacheResourceFactory.java, dCache 12.1).
_MAY_LEAVE_HOME = frozenset({"GET", "PUT"})
_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int]


def origin(url: str) -> Origin:
    """Give scheme, host and port: what two URLs must share for one to see the other's token."""
    parts = urlsplit(url)
    return (parts.scheme.lower(), (parts.hostname or "").lower(), _port(parts))


def _port(parts: SplitResult) -> int:
    return parts.port or _PORTS.get(parts.scheme.lower(), 0)


def next_hop(method: str, here: str, location: str | None, *, allow_http: bool) -> str:
    """Decide where a redirect leads, or refuse it.

    Parameters
    ----------
    method : str
        HTTP method of the request that was redirected.
    here : str
        URL that answered with the redirect.
    location : str or None
        Its ``Location`` header.
    allow_http : bool
        May a redirect lead from https to http?

    Returns
    -------
    str
        Absolute URL to ask next.

    Raises
    ------
    ProtocolSurprise
        No location, another scheme, user and password in it, a downgrade, or a method that has no
        reason to leave its server.
    """
    if not location:
        raise ProtocolSurprise("A redirect without a location", where=here)
    try:
        target = urljoin(here, _as_written(here, location))
        parts = urlsplit(target)
        there = origin(target)
    except ValueError:
        raise ProtocolSurprise("A redirect to something that is no address", where=here) from None
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc:
        raise ProtocolSurprise("A redirect to something that is no web address", where=here)
    if urlsplit(here).scheme == "https" and parts.scheme == "http" and not allow_http:
        raise ProtocolSurprise(
            "Refused a redirect from https to http",
            where=f"{here} to {target}",
            hint="The site's pools speak plain http. Set CTAFLOWS_ALLOW_HTTP_POOLS=true to accept "
            "that the bytes travel in clear; their checksum is compared all the same.",
        )
    if method not in _MAY_LEAVE_HOME and there != origin(here):
        raise ProtocolSurprise(
            f"Refused a redirect of {method} to another server", where=f"{here} to {target}"
        )
    return target


def _as_written(here: str, location: str) -> str:
    """Encode the path in a Location as it was in the request, where the server decoded it.

    XRootD 5.5 writes the path into Location as it is on disk: of ``/%2541`` it makes ``/%41``,
    which is another file, and what follows a ``#`` would be lost.
    """
    asked = urlsplit(here).path
    raw = unquote(asked, errors="surrogateescape")
    if raw == asked:
        return location
    scheme, mark, rest = location.rpartition("://")
    at = rest.find("/") if mark else 0
    server, path = rest[:at], rest[at:]
    if at < 0 or not path.startswith(raw):
        return location
    return f"{scheme}{mark}{server}{asked}{path[len(raw) :]}"


def retry_after_s(value: str | None, now: datetime | None = None) -> float | None:
    """Read a Retry-After header (RFC 9110 §10.2.3: seconds or a date) as seconds from now."""
    if not value:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value), 1e9)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())


def error_for(
    status: int, headers: Mapping[str, str], said: str, *, method: str, where: str
) -> CtaflowsError:
    """Turn an HTTP status that was not hoped for into our error.

    Parameters
    ----------
    status : int
        HTTP status.
    headers : Mapping
        Headers of the answer, keys in lower case or caseless.
    said : str
        Reason the server gave: a dCache door says it in the plain-text body, its 401 and a pool's
        400 in the status line (dCache 12.1, AuthenticationHandler.java, HttpRequestHandler.java).
    method, where : str
        The request.
    """
    kind, what, hint = _MEANING.get(
        status, (ProtocolSurprise, "Unexpected answer to {method}", None)
    )
    if status == 403 and ("not online" in said.lower() or "nearline" in said.lower()):
        kind, what, hint = Nearline, "The file is on tape and must be staged first", "Ask the site."
    return kind(
        what.format(method=method, does=_DOES.get(method, method)),
        where=where,
        said=f"{status} {said}".strip(),
        hint=hint,
        status=status,
        retry_after_s=retry_after_s(headers.get("retry-after")) if kind.retryable else None,
    )


_DOES = {
    "GET": "read",
    "HEAD": "read",
    "PROPFIND": "list",
    "PUT": "write",
    "MKCOL": "make",
    "MOVE": "move",
    "DELETE": "remove",
}
_BUSY = (DoorBusy, "The server can't do it now", "Try again later; if it lasts, tell the site.")
_MEANING: dict[int, tuple[type[CtaflowsError], str, str | None]] = {
    401: (
        Refused,
        "The server does not accept the token",
        "It may be expired, revoked or meant for another service: see `ctaflows token status`.",
    ),
    403: (
        Refused,
        "Not allowed to {does} this",
        "The token is known but lacks the right: `ctaflows token status` shows its scopes.",
    ),
    404: (NotFound, "There is nothing at this path", None),
    410: (NotFound, "There is nothing at this path any more", None),
    408: _BUSY,
    500: _BUSY,
    502: _BUSY,
    503: _BUSY,
    504: _BUSY,
    # dCache 12.1, webdav.properties: after three 401s an address is blocked, 20 s by default
    416: (
        SourceChanged,
        "The file has become shorter since it was looked at",
        "The same command again takes the new one.",
    ),
    429: (
        RateLimited,
        "The server asks to slow down",
        "Wait a minute. A wrong token blocks the address for a while after three tries.",
    ),
    507: (NoSpace, "The storage has no space left, or your quota is used up", None),
}
