"""Requests, responses, bodies and network errors, common to both HTTP libraries."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ctaflows.atomic_files import local_error
from ctaflows.errors import CtaflowsError, NetworkError, ProtocolSurprise, UsageError
from ctaflows.transport import policy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class TokenSource(Protocol):
    """A source of bearer tokens, which can renew one that a server rejected."""

    def token(self) -> str:
        """Return a token that is valid now."""

    def renew(self, rejected: str) -> str | None:
        """Return a newer token than the rejected one, or None where there is none."""


@runtime_checkable
class Source(Protocol):
    """A request body that is read in blocks, and can be read again."""

    size_bytes: int

    def read(self, n_bytes: int) -> bytes:
        """Return the next bytes, at most `n_bytes`; none at the end."""

    def rewind(self) -> None:
        """Start again with the first byte."""


@dataclass(frozen=True, slots=True)
class Head:
    """A response without its body.

    Attributes
    ----------
    status : int
        HTTP status.
    url : str
        URL that answered, after redirects.
    headers : Mapping
        Headers; names are case-insensitive.
    retries : int
        Number of times the request was repeated.
    """

    status: int
    url: str
    headers: Mapping[str, str]
    retries: int = 0

    def header(self, name: str) -> str | None:
        """Return a header by its name in lower case; None where it lacks."""
        return self.headers.get(name)


@dataclass(frozen=True, slots=True)
class Answer(Head):
    """A response with its body.

    Attributes
    ----------
    body : bytes
        The body, at most 64 MiB.
    """

    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Request:
    """A request without its URL, which redirects change.

    Attributes
    ----------
    method : str
        HTTP method.
    headers : dict
        Headers without ``Authorization``.
    content : bytes, Source or iterable of bytes, optional
        The body. An iterable that is neither bytes nor a `Source` is never sent again.
    expect : tuple of int
        Statuses beside 2xx that are no error for the caller.
    redirects : bool
        Follow redirects; with False a redirect is a response like any other.
    wait_s : float or None
        Longest wait for the next bytes of the response, seconds; None for the setting
        ``stall_timeout_s``. Only the httpx backend uses it.
    """

    method: str
    headers: dict[str, str]
    content: bytes | Source | Iterable[bytes] | None = None
    expect: tuple[int, ...] = ()
    redirects: bool = True
    wait_s: float | None = None

    @property
    def repeatable_body(self) -> bool:
        """Whether the body can be sent again; a `Source` is rewound by both backends."""
        return self.content is None or isinstance(self.content, bytes | Source)

    @property
    def idempotent(self) -> bool:
        """Whether the request may be sent again, even if the server has acted on it."""
        return self.method in policy.IDEMPOTENT and self.repeatable_body

    def accepts(self, status: int) -> bool:
        """Return whether a status is a success: 2xx or expected."""
        return 200 <= status < 300 or status in self.expect

    def leads_on(self, status: int) -> bool:
        """Return whether a status is a redirect to be followed."""
        return self.redirects and status in policy.REDIRECTS


class Reply(Protocol):
    """A response as a backend returns it."""

    @property
    def status(self) -> int:
        """HTTP status."""

    @property
    def reason(self) -> str:
        """Reason phrase of the status line."""

    @property
    def url(self) -> str:
        """URL that was requested."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers; names are case-insensitive."""

    def drain(self) -> bytes:
        """Return the start of the body, and close: an unread body makes a connection useless."""

    def close(self) -> None:
        """Release the connection."""


#: Bytes that are read of a body that is not wanted, such as that of an error.
MAX_DRAINED_BYTES = 1 << 14
#: Greatest size of a small body, which is held in memory, bytes.
MAX_SMALL_BYTES = 1 << 16


# -- network errors --------------------------------------------------------------------------------
#
# The same errors with the same words for both libraries.


class NotSent(NetworkError):
    """No connection was established, so the request was not sent."""


class Silent(NetworkError):
    """The server has sent and taken no byte for too long."""


#: What a connection takes at most: sockets of both address families, and the file of CAs.
_FILES_PER_CONNECTION = 3


def not_opened(url: str | None) -> CtaflowsError | None:
    """Return the error for a process that may open no more files, None if it may.

    Neither library tells: to libcurl it is an unreachable server, a lack of memory, or a file of
    CAs that can't be read, to the system's resolver an unknown name.
    """
    import socket

    with contextlib.ExitStack() as stack:
        try:
            for _ in range(_FILES_PER_CONNECTION):
                stack.enter_context(socket.socket())
        except OSError as why:
            return local_error(why, url, "No connection can be opened")
    return None


def unreachable(url: str, said: str, proxy: policy.Proxy | None = None) -> CtaflowsError:
    """Return the error for a connection, by a proxy or none, that was not established."""
    if error := not_opened(url):
        return error
    if proxy is not None:
        return NotSent(
            f"The server can't be reached by the proxy that {proxy.variable} names, {proxy.url}",
            where=url,
            said=said,
            hint=f"Mend {proxy.variable}, or name the server in NO_PROXY.",
        )
    return NotSent(
        "The server can't be reached",
        where=url,
        said=said,
        hint="Is the network up, and the address right?",
    )


def unusable_proxy(proxy: policy.Proxy, said: str) -> UsageError:
    """Say that a variable names no proxy that can be used; trying again is no use."""
    return UsageError(
        f"{proxy.variable} names a proxy that can't be used",
        where=proxy.url,
        said=said,
        hint="Name one as http://host:port or socks5h://host:port, or the server in NO_PROXY.",
    )


def untrusted(url: str, said: str) -> NetworkError:
    """Return the error for a certificate that is not trusted, which is not retried."""
    error = NetworkError(
        "The server's certificate is not one we trust",
        where=url,
        said=said,
        hint="Name the site's CA in CTAFLOWS_CA_FILE. Verification can't be switched off.",
    )
    error.retryable = False
    return error


def silent(url: str, said: str) -> NetworkError:
    """Return the error for a server that has sent and taken no byte for too long."""
    return Silent("The server went silent", where=url, said=said)


def had_no_effect(error: CtaflowsError) -> bool:
    """Return whether the server certainly did nothing.

    A dCache door limits the rate before it looks at the request (RateLimitedHandlerList.java,
    12.1).
    """
    return error.status == 429 or isinstance(error, NotSent)


def failure_of(reply: Reply, method: str) -> CtaflowsError:
    """Return the error for a response, with the reason the server gives; close the response.

    A dCache door gives it in one line of text, but that of a 401 and of all errors of a pool in the
    status line, with an empty body (AuthenticationHandler.java, HttpRequestHandler.java, dCache
    12.1). An HTML page holds no reason (DcacheHtmlResponseHandler.java).
    """
    said = reply.reason
    first = reply.drain().decode("utf-8", "replace").strip().splitlines()
    if first and not first[0].startswith("<"):
        is_usual = said.lower() == _usual_reason(reply.status).lower()
        said = first[0] if is_usual or not said else f"{said}: {first[0]}"
    return policy.error_for(reply.status, reply.headers, said, method=method, where=reply.url)


def _usual_reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def header_line(line: str) -> bytes:
    """Encode a header for libcurl.

    Raises
    ------
    ProtocolSurprise
        It has a line break or NUL.
    """
    if "\r" in line or "\n" in line or "\0" in line:
        raise ProtocolSurprise("A header can't hold a line break", where=line.partition(":")[0])
    return line.encode("utf-8")


def quoted(url: str) -> str:
    """Percent-encode what no URL may contain: XRootD 5.5.3 does not encode its Locations (seen)."""
    if url.isascii() and url.isprintable() and " " not in url:
        return url
    return "".join(c if "!" <= c <= "~" else _percent(c) for c in url)


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))
