"""Decisions about HTTP without I/O: errors of statuses, targets of redirects, waiting times."""

from __future__ import annotations

import email.utils
import ipaddress
from dataclasses import dataclass, field
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
#: Methods that may be repeated: safe ones (RFC 9110 §9.2.1), and PROPFIND (RFC 4918 §9.1).
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PROPFIND"})
#: Methods that a dCache door redirects to a pool (DcacheResourceFactory.java, dCache 12.1). A
#: manager of XRootD 5.5 redirects all methods, which is refused.
_MAY_LEAVE_HOME = frozenset({"GET", "PUT"})
_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int]


def origin(url: str) -> Origin:
    """Return a URL's origin: scheme, host and port (RFC 6454 §4).

    A token for a URL is sent only to URLs of the same origin.
    """
    parts = urlsplit(url)
    return (parts.scheme.lower(), (parts.hostname or "").lower(), _port(parts))


def _port(parts: SplitResult) -> int:
    return parts.port or _PORTS.get(parts.scheme.lower(), 0)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and the variable that names it.

    Attributes
    ----------
    variable : str
        Such as ``https_proxy``.
    url : str
        As it stands there, perhaps with user and password.
    """

    variable: str
    url: str = field(repr=False)


def proxy_for(url: str, env: Mapping[str, str]) -> Proxy | None:
    """Return the proxy by which an address is asked, by the variables that programs share.

    ``https_proxy``, else ``all_proxy``, in either case. As for libcurl names in ``no_proxy`` stand
    for the hosts below them too, addresses may be networks (curl 7.86), and stand in brackets.

    Parameters
    ----------
    url : str
        What is to be asked.
    env : Mapping
        The environment.
    """
    scheme, host, _ = origin(url)
    for name in (f"{scheme}_proxy", "all_proxy"):
        for variable in (name, name.upper()):
            if proxy := env.get(variable, "").strip():
                exempt = env.get("no_proxy") or env.get("NO_PROXY") or ""
                if _is_exempt(host, exempt.replace(",", " ").split()):
                    return None
                return Proxy(variable, proxy if "://" in proxy else f"http://{proxy}")
    return None


def _is_exempt(host: str, exempt: list[str]) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        names = [name.lower().strip(".") for name in exempt]
        host = host.rstrip(".")
        return any(n == "*" or (n and f".{host}".endswith(f".{n}")) for n in names)
    for name in exempt:
        try:
            if name == "*" or address in ipaddress.ip_network(name.strip("[]"), strict=False):
                return True
        except ValueError:
            continue  # a name, or nothing that has a meaning
    return False


def next_hop(method: str, here: str, location: str | None, *, allow_http: bool) -> str:
    """Return the URL that a redirect leads to, or refuse it.

    Parameters
    ----------
    method : str
        HTTP method of the request that was redirected.
    here : str
        URL that was requested.
    location : str or None
        Its ``Location`` header.
    allow_http : bool
        May a redirect lead from https to http?

    Returns
    -------
    str
        Absolute URL of the next request.

    Raises
    ------
    ProtocolSurprise
        There is no location; it is no http(s) URL, has a user and password, or leads from https to
        http; or it leads to another origin for a method that dCache does not redirect to pools.
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
    """Return a Location whose path is encoded as in the request, where the server decoded it.

    XRootD 5.5 writes the path into Location as it is on disk: ``/%2541`` becomes ``/%41``, which is
    another file, and what follows a ``#`` would be lost.
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


def size_bytes(text: str) -> int | None:
    """Read a number of bytes; None for what is none, or too large for any file."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def retry_after_s(value: str | None, now: datetime | None = None) -> float | None:
    """Return the value of a Retry-After header (RFC 9110 §10.2.3) in seconds from now.

    Parameters
    ----------
    value : str or None
        The header: seconds or a date.
    now : datetime, optional
        Current time, aware; for tests.

    Returns
    -------
    float or None
        Seconds, not negative; None for a missing or invalid value.
    """
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
    """Return the error for an HTTP status that is no success.

    Parameters
    ----------
    status : int
        HTTP status.
    headers : Mapping
        Headers of the response; names in lower case or case-insensitive.
    said : str
        Reason from the server: a dCache door writes it into the plain-text body, but for a 401,
        as a pool for a 400, into the status line (dCache 12.1, AuthenticationHandler.java,
        HttpRequestHandler.java).
    method, where : str
        Method and URL of the request.

    Returns
    -------
    CtaflowsError
        Its class depends on the status; ``ProtocolSurprise`` for one without a known meaning.
        ``retry_after_s`` is set for an error that is retryable.
    """
    kind, what, hint = _MEANING.get(
        status, (ProtocolSurprise, "Unexpected answer to {method}", None)
    )
    if any(status == on_tape and text in said.lower() for on_tape, text in _ON_TAPE):
        kind, what, hint = Nearline, "The file is on tape and must be staged first", "Ask the site."
    return kind(
        what.format(method=method, does=_DOES.get(method, method)),
        where=where,
        said=f"{status} {said}".strip(),
        hint=hint,
        status=status,
        retry_after_s=retry_after_s(headers.get("retry-after")) if kind.retryable else None,
    )


_ON_TAPE = (
    (403, "not online"),  # dCache 12.1: "Staging not allowed." (RequestContainerV5.java)
    (403, "nearline"),  # dCache 12.1: "forbidden … with QoS policy nearline" (Transfer.java)
    (500, "left for stage"),  # dCache 11.2.5: "No pool candidates available/configured/…"
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
    # dCache 12.1: whatever has no status of its own is 500 (WebDavException.java): busy, a pool
    # that is away, an upload that goes on; but also what does not pass, such as "File is broken"
    # (11.2.5)
    500: _BUSY,
    502: _BUSY,
    503: _BUSY,
    504: _BUSY,
    # RFC 9110 §15.5.17; a pool of dCache 11.2.5 says it without Content-Range
    416: (
        SourceChanged,
        "The file has become shorter since it was looked at",
        "The same command again takes the new one.",
    ),
    # dCache 11.2.5 and 12.1 (webdav.properties): after three 401s an address is blocked for 20 s
    # (webdav.limits.error.*), and each may ask 250 times a second (webdav.limits.rate.*);
    # Retry-After came in June 2026
    429: (
        RateLimited,
        "The server asks to slow down",
        "Wait a minute. A wrong token blocks the address for a while after three tries.",
    ),
    # dCache 12.1 (WebDavException.java): pools full, even where a GET needs a copy; or a quota
    507: (NoSpace, "The storage has no space left, or your quota is used up", None),
}
