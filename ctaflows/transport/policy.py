"""Decisions about HTTP without I/O: errors of statuses, targets of redirects, waiting times."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from ctaflows.errors import (
    CtaflowsError,
    DoorBusy,
    Lost,
    Nearline,
    NoSpace,
    NotFound,
    ProtocolSurprise,
    RateLimited,
    Refused,
    SourceChanged,
    StorageError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_HOPS = 5
#: Methods that may be repeated: safe ones (RFC 9110 §9.2.1), and PROPFIND (RFC 4918 §9.1).
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PROPFIND"})
#: Methods whose bytes are compared with a checksum: they alone may travel in clear.
_OF_BYTES = frozenset({"GET", "PUT"})
#: Methods that may lead to another server. Not POST, whose body may hold a login.
_MAY_LEAVE_HOME = _OF_BYTES | {"HEAD", "PROPFIND", "MKCOL", "MOVE", "DELETE"}
#: Sent twice they may do harm, or have another answer than the first time.
CHANGE_NAMES = frozenset({"MKCOL", "MOVE", "DELETE"})
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


def is_in_clear(url: str) -> bool:
    """Return whether what is sent to a URL can be read on its way: http, and another machine."""
    scheme, host, _ = origin(url)
    if scheme != "http":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost" and not host.endswith(".localhost")  # RFC 6761 §6.3


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


def next_hop(
    method: str, here: str, location: str | None, *, allow_http: bool, status: int = 307
) -> str:
    """Return the URL that a redirect leads to, or refuse it.

    A dCache door redirects GET and PUT alone, to pools (DcacheResourceFactory.java, dCache 12.1); a
    manager of XRootD 5.5 redirects all methods, to data servers. So those of WebDAV are followed to
    any server; but those that change names only by 307 and 308 (RFC 9110 §15.4), as XRootD does: by
    the others a door leads to the page of a login, whose 200 would be taken for success.

    What a hostile door could make of that, it can do without: what is listed, written or removed is
    for the door to say anyway, and the token is sent to no other origin (`client.Transport`). What
    it gains is that this client asks a server that only this machine may reach, without a token,
    for what anybody there may do; as by GET and PUT before.

    Parameters
    ----------
    method : str
        HTTP method of the request that was redirected.
    here : str
        URL that was requested.
    location : str or None
        Its ``Location`` header.
    allow_http : bool
        May a redirect of GET or PUT lead from https to http? No other may.
    status : int
        Status of the redirect.

    Returns
    -------
    str
        Absolute URL of the next request.

    Raises
    ------
    ProtocolSurprise
        There is no location; it is no http(s) URL, has a user and password, or leads from https to
        http; or it leads to another origin for a method that is not of WebDAV, or that changes
        names, by another status than 307 or 308.
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
    if urlsplit(here).scheme == "https" and parts.scheme == "http":
        if method not in _OF_BYTES:
            raise ProtocolSurprise(
                f"Refused a redirect of {method} from https to http", where=f"{here} to {target}"
            )
        if not allow_http:
            raise ProtocolSurprise(
                "Refused a redirect from https to http",
                where=f"{here} to {target}",
                hint="The site's pools speak plain http. Set CTAFLOWS_ALLOW_HTTP_POOLS=true to "
                "accept that the bytes travel in clear; their checksum is compared all the same.",
            )
    keeps_method = status in (307, 308) or method not in CHANGE_NAMES
    if there != origin(here) and not (method in _MAY_LEAVE_HOME and keeps_method):
        raise ProtocolSurprise(
            f"Refused a redirect of {method} to another server",
            where=f"{here} to {target}",
            said=str(status),
            hint="It may be a login page: see `ctaflows token status`.",
        )
    return target


def _as_written(here: str, location: str) -> str:
    """Return a Location with the path as it was requested, where it names the same file otherwise.

    XRootD 5.5 writes the path as it is on disk: ``/%2541`` becomes ``/%41``, which is another file,
    and what follows a ``#`` would be lost. A dCache door writes the composed form of a name (NFC),
    and the pool then refuses one in decomposed form, as macOS writes it, with 400 "The file you
    specified does not match the UUID you specified!" (seen with 11.2.5).
    """
    asked = urlsplit(here).path
    name = unquote(asked, errors="surrogateescape")
    if name == asked:
        return location
    scheme, mark, rest = location.rpartition("://")
    at = rest.find("/") if mark else 0
    server, path = rest[:at], rest[at:]
    if at < 0:
        return location
    if path.startswith(name) and path[len(name) :][:1] in ("", "?"):  # ``/a%`` may go on as ``25``
        return f"{scheme}{mark}{server}{asked}{path[len(name) :]}"
    path, question, query = path.partition("?")
    if _composed(unquote(path, errors="surrogateescape")) != _composed(name):
        return location
    return f"{scheme}{mark}{server}{asked}{question}{query}"


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


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
    import email.utils  # with what it needs it takes 10 ms

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
    unknown = _Meaning(ProtocolSurprise, "Unexpected answer to {method}")
    kind, what, hint = _by_text(status, said, where) or _MEANING.get(status, unknown)
    if status == 500 and kind is DoorBusy and "storm" in headers.get("server", "").lower():
        hint = _STORM_HINT
    if status == 401 and (reason := _OAUTH_REASON.search(headers.get("www-authenticate", ""))):
        said = f"{said}: {reason[1]}"
    return kind(
        what.format(method=method, does=_DOES.get(method, method)),
        where=where,
        said=f"{status} {said}".strip(),
        hint=hint,
        status=status,
        retry_after_s=retry_after_s(headers.get("retry-after")) if kind.retryable else None,
    )


#: Why a token is refused (RFC 6750 §3): StoRM WebDAV 1.8.1 says so, dCache doors never do.
_OAUTH_REASON = re.compile(r'error_description="([^"]*)"')


def _by_text(status: int, said: str, where: str) -> _Meaning | None:
    """Return what a text says more exactly than its status; None for any other text.

    The path that was asked for is left out: a door repeats it in its texts.
    """
    path = urlsplit(where).path
    for name in (path, unquote(path, errors="surrogateescape")):
        said = said.replace(name.rstrip("/") or "/", "/")
    text = said.lower()
    for of_status, known, meaning in _TEXTS:
        if status == of_status and known in text:
            return meaning
    return None


class _Meaning(NamedTuple):
    """What an answer means: the error's class, its text, and what to do next."""

    kind: type[CtaflowsError]
    what: str
    hint: str | None = None


_DOES = {
    "GET": "read",
    "HEAD": "look at",
    "PROPFIND": "look at",
    "PUT": "write",
    "MKCOL": "make",
    "MOVE": "move",
    "DELETE": "remove",
}
_BUSY = _Meaning(
    DoorBusy,
    "The server can't do it now",
    "Try again later; if it lasts, tell the site.",
)
# StoRM WebDAV 1.8.1 has no other status for them
_STORM_HINT = (
    "StoRM answers so, too, to a token that it can't read or whose issuer it does not know (see "
    "`ctaflows token status`), to a full disk, and to a directory that it can't write. If it "
    "lasts, tell the site."
)
#: dCache 11.2.5 answers 403 for each of the three
_RIGHTS = (
    "The right may be lacking at the storage (owner, group, mode), in the token's scopes, which "
    "`ctaflows token status` shows, or in a macaroon's caveats."
)
_ON_TAPE = _Meaning(Nearline, "The file is on tape and must be staged first", "Ask the site.")
_CRASHED = _Meaning(
    StorageError,
    "The server fails at {method} of this path, and would again",
    "It may be a name that it does not understand, or there may be a file where a directory should "
    "be. Else tell the site.",
)
#: What a text says more exactly than its status: status, text in lower case, and its meaning. A
#: dCache door answers 500 to whatever has no status of its own (WebDavException.java, 12.1); most
#: of it passes, such as "Failed to deliver ..." and "Route for ... not found" while services
#: restart. All seen with dCache 11.2.5, unless another version or source is named.
_TEXTS: tuple[tuple[int, str, _Meaning], ...] = (
    (
        401,
        "unencrypted",
        _Meaning(
            Refused,
            "The server takes no token over plain http",
            "Name its https address in CTAFLOWS_DOOR_URL.",
        ),
    ),
    # RequestContainerV5.java, dCache 12.1
    (403, "not online", _ON_TAPE),
    # "Read is forbidden for file with QoS policy nearline": Transfer.java, dCache 12.1
    (403, "qos policy nearline", _ON_TAPE),
    (500, "no pool candidates available/configured/left for stage", _ON_TAPE),
    # from the door and from a pool: the upload of the file broke off, or the replica is damaged
    (
        500,
        "file is broken",
        _Meaning(
            Lost,
            "The storage has the file, but not its bytes: it calls it broken",
            "It may be what an upload left that broke off: upload it again, or tell the site.",
        ),
    ),
    (
        500,
        "file upload not yet completed",
        _Meaning(
            DoorBusy,
            "The file is still being uploaded",
            "Try again when the upload is over. If it broke off, the file stays like this.",
        ),
    ),
    (
        500,
        "no write pools online",
        _Meaning(
            DoorBusy, "No pool takes files now", "Try again later; if it lasts, tell the site."
        ),
    ),
    (
        500,
        "directory is not empty",
        _Meaning(
            StorageError,
            "The directory is not empty",
            "Something in it may not be visible to you, or came since it was listed.",
        ),
    ),
    # to a MOVE that a macaroon or token does not allow, until 10.2.13 and 11.1 (dCache #7879)
    (
        500,
        "denied activity manage",
        _Meaning(Refused, "Not allowed to {does} this ({method})", _RIGHTS),
    ),
    # to DELETE of a symbolic link
    (
        500,
        "pnfsid does not correspond",
        _Meaning(
            StorageError,
            "The server can't {does} this, and would not later",
            "It may be a symbolic link, which WebDAV can't safely remove, move or replace.",
        ),
    ),
    # dCache 12.0.1, from its database: DataAccessResourceFailureException
    (
        500,
        "stack depth limit exceeded",
        _Meaning(
            NotFound,
            "There is nothing at this path: a symbolic link leads to itself",
            "Ask the site.",
        ),
    ),
    # XRootD 5.5.3, to Want-Digest; until 5.6 also for a missing file (xrootd #2018)
    (
        500,
        "failed to calculate checksum",
        _Meaning(StorageError, "The server can't compute a checksum of this", "Tell the site."),
    ),
    # XRootD 5.5.3, to any request below a file
    (
        500,
        "; not a directory",
        _Meaning(NotFound, "There is nothing at this path, which leads through a file"),
    ),
    # to a PUT below a file, or to a name that begins with ".("
    (500, "nullpointerexception", _CRASHED),
    (500, 'because "resource" is null', _CRASHED),
)
_MEANING: dict[int, _Meaning] = {
    401: _Meaning(
        Refused,
        "The server does not accept the token",
        "It may be expired, revoked or meant for another service: see `ctaflows token status`.",
    ),
    403: _Meaning(
        Refused,
        "Not allowed to {does} this ({method})",
        _RIGHTS,
    ),
    404: _Meaning(NotFound, "There is nothing at this path"),
    410: _Meaning(NotFound, "There is nothing at this path any more"),
    408: _BUSY,
    500: _BUSY,  # see _TEXTS
    502: _BUSY,
    503: _BUSY,
    504: _BUSY,
    # RFC 9110 §15.5.17; a pool of dCache 11.2.5 says it without Content-Range
    416: _Meaning(
        SourceChanged,
        "The file has become shorter since it was looked at",
        "The same command again takes the new one.",
    ),
    # dCache 11.2.5 and 12.1 (webdav.properties): after three 401s an address is blocked for 20 s
    # (webdav.limits.error.*), and each may ask 250 times a second (webdav.limits.rate.*);
    # Retry-After came in June 2026
    429: _Meaning(
        RateLimited,
        "The server asks to slow down",
        "Wait a minute. A wrong token blocks the address for a while after three tries.",
    ),
    # RFC 6585 §5; Jetty's limit for all headers is 8 KiB (seen with StoRM WebDAV 1.8.1)
    431: _Meaning(
        Refused,
        "The request's headers are too large for the server: the token may be",
        "A token of many groups or scopes may have more than the usual 8 KiB: ask the issuer's "
        "site for a smaller one.",
    ),
    # dCache 12.1 (WebDavException.java): pools full, even where a GET needs a copy; or a quota
    507: _Meaning(NoSpace, "The storage has no space left, or your quota is used up"),
}
