"""HTTP as ctaflows speaks it, over httpx: the only module that knows that library.

Redirects are followed by hand, so that the token stays at its own origin; httpx's exceptions turn
into ours here and nowhere else.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

import httpx

from ctaflows.errors import CtaflowsError, NetworkError, ProtocolSurprise, redact
from ctaflows.transport import policy
from ctaflows.transport.logs import redact_logs
from ctaflows.transport.tls import ssl_context

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ctaflows.settings import Settings

log = logging.getLogger("ctaflows.transport")

_USER_AGENT = "ctaflows"
_MAX_BODY_BYTES = 64 << 20
_MAX_SAID = 300
_MAX_DRAINED_BYTES = 1 << 14
#: `text/html` would bring a page without the reason (dCache 12.1, DcacheHtmlResponseHandler.java).
_ACCEPT = "text/plain, application/xml;q=0.9, */*;q=0.5"


class TokenSource(Protocol):
    """Gives bearer tokens; may renew one that a server rejected."""

    def token(self) -> str:
        """Give a token that is valid now."""

    def renew(self, rejected: str) -> str | None:
        """Give a newer token than the rejected one, or None where there is none to be had."""


@dataclass(frozen=True)
class Answer:
    """An answer whose body was read whole.

    Attributes
    ----------
    status : int
        HTTP status.
    url : str
        Where the answer came from, after redirects.
    headers : Mapping
        Caseless.
    body : bytes
        The body, at most 64 MiB.
    retries : int
        How often the request was repeated.
    """

    status: int
    url: str
    headers: Mapping[str, str]
    body: bytes
    retries: int = 0


@dataclass
class Stream:
    """An answer whose body is still to be read.

    Attributes
    ----------
    status, url, headers, retries
        As in `Answer`.
    """

    status: int
    url: str
    headers: Mapping[str, str]
    retries: int
    _response: httpx.Response = field(repr=False)

    def chunks(self) -> Iterator[bytes]:
        """Give the bytes as they come.

        Raises
        ------
        NetworkError
            The connection broke, stalled, or ended before the promised length.
        """
        try:
            with _translated(self.url):
                yield from self._response.iter_raw()
        except NetworkError as why:
            why.in_body = True
            raise


class Transport:
    """Requests to one service.

    Parameters
    ----------
    settings : Settings
        CA, timeouts, number of tries.
    home : str
        URL whose origin alone may see the token.
    tokens : TokenSource, optional
        None for a service that wants no bearer token.
    """

    def __init__(self, settings: Settings, home: str, tokens: TokenSource | None = None) -> None:
        self._settings = settings
        self._home = policy.origin(home)
        self._tokens = tokens
        self._closing = threading.Event()
        redact_logs()
        self._client = httpx.Client(
            verify=ssl_context(settings),
            follow_redirects=False,
            timeout=httpx.Timeout(
                settings.stall_timeout_s, connect=settings.connect_timeout_s, pool=None
            ),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            headers={"User-Agent": _USER_AGENT, "Accept": _ACCEPT, "Accept-Encoding": "identity"},
        )

    def close(self) -> None:
        """Close all connections; requests that wait to be repeated give up."""
        self._closing.set()
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | Iterable[bytes] | None = None,
        expect: tuple[int, ...] = (),
    ) -> Answer:
        """Send a request and read the answer whole.

        Parameters
        ----------
        method, url : str
            The request.
        headers : Mapping, optional
            Further headers. A body that is no bytes needs its Content-Length here.
        content : bytes or iterable of bytes, optional
            The body. One that can be iterated once only is never sent twice.
        expect : tuple of int
            Statuses beside 2xx that are no error for the caller.

        Raises
        ------
        CtaflowsError
            See `policy.error_for`; NetworkError where no answer came.
        """
        with self.stream(method, url, headers=headers, content=content, expect=expect) as stream:
            body = bytearray()
            for chunk in stream.chunks():
                body += chunk
                if len(body) > _MAX_BODY_BYTES:
                    raise ProtocolSurprise("The answer has no end", where=stream.url)
            return Answer(stream.status, stream.url, stream.headers, bytes(body), stream.retries)

    @contextlib.contextmanager
    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | Iterable[bytes] | None = None,
        expect: tuple[int, ...] = (),
        redirects: bool = True,
    ) -> Iterator[Stream]:
        """Send a request and give its answer once the headers are there.

        Parameters
        ----------
        redirects : bool
            Follow redirects; with False a redirect is given to the caller as any other answer.
        method, url, headers, content, expect
            As for `request`.
        """
        once = _Request(method, dict(headers or {}), content, expect, redirects)
        response, retries = self._with_retries(url, once)
        try:
            yield Stream(
                response.status_code, str(response.url), response.headers, retries, response
            )
        finally:
            response.close()

    def redirect(self, method: str, here: str, location: str | None) -> str:
        """Say where a redirect leads, or refuse it; see `policy.next_hop`."""
        return policy.next_hop(method, here, location, allow_http=self._settings.allow_http_pools)

    def _with_retries(self, url: str, request: _Request) -> tuple[httpx.Response, int]:
        attempt = 1
        while True:
            try:
                return self._through_redirects(url, request), attempt - 1
            except CtaflowsError as error:
                repeatable = request.idempotent or _had_no_effect(error)
                pause = policy.pause_s(error, attempt, self._settings) if repeatable else None
                if pause is None:
                    raise
                log.warning(
                    "%s; trying again in %.1f s (try %d of %d)",
                    error,
                    pause,
                    attempt + 1,
                    self._settings.attempts,
                )
                if self._closing.wait(pause):
                    raise
                attempt += 1

    def _through_redirects(self, url: str, request: _Request) -> httpx.Response:
        for _ in range(policy.MAX_HOPS + 1):
            response = self._authorised(url, request)
            status = response.status_code
            if status in policy.REDIRECTS and request.redirects:
                location = response.headers.get("location")
                _drain(response)
                url = self.redirect(request.method, url, location)
                continue
            if response.is_success or status in request.expect or status in policy.REDIRECTS:
                return response
            raise _failure(response, request.method)
        raise ProtocolSurprise(f"More than {policy.MAX_HOPS} redirects in a row", where=url)

    def _authorised(self, url: str, request: _Request) -> httpx.Response:
        """Send once; after a 401 renew the token once, then stop (three 401s block an address)."""
        if self._tokens is None or policy.origin(url) != self._home:
            return self._send(url, request, None)
        token = self._tokens.token()
        response = self._send(url, request, token)
        if response.status_code != 401 or not request.repeatable_body:
            return response
        newer = self._tokens.renew(token)
        if newer is None or newer == token:
            return response
        _drain(response)
        return self._send(url, request, newer)

    def _send(self, url: str, request: _Request, token: str | None) -> httpx.Response:
        headers = dict(request.headers)
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        with _translated(url):
            built = self._client.build_request(
                request.method, url, headers=headers, content=request.content
            )
            return self._client.send(built, stream=True)


@dataclass(frozen=True)
class _Request:
    method: str
    headers: dict[str, str]
    content: bytes | Iterable[bytes] | None
    expect: tuple[int, ...]
    redirects: bool

    @property
    def repeatable_body(self) -> bool:
        return self.content is None or isinstance(self.content, bytes)

    @property
    def idempotent(self) -> bool:
        return self.method in policy.IDEMPOTENT and self.repeatable_body


def _had_no_effect(error: CtaflowsError) -> bool:
    """Is it certain that the server did nothing?"""
    return error.status == 429 or isinstance(error, _NotSent)


class _NotSent(NetworkError):
    """No connection came about, so nothing was sent."""


def _drain(response: httpx.Response) -> bytes:
    """Read a body that should be short and close: a connection whose body is left is lost."""
    text = bytearray()
    try:
        for chunk in response.iter_raw():
            text += chunk
            if len(text) > _MAX_DRAINED_BYTES:
                break
    except httpx.HTTPError:
        pass  # what came has to do
    finally:
        response.close()
    return bytes(text)


def _failure(response: httpx.Response, method: str) -> CtaflowsError:
    """Read what a failed answer says and close it."""
    said = response.reason_phrase
    first = _drain(response).decode("utf-8", "replace").strip().splitlines()
    if first and not first[0].startswith("<"):
        said = first[0][:_MAX_SAID]
    return policy.error_for(
        response.status_code, response.headers, said, method=method, where=str(response.url)
    )


@contextlib.contextmanager
def _translated(url: str) -> Iterator[None]:
    """Turn httpx's exceptions into ours."""
    try:
        yield
    except httpx.HTTPError as why:
        raise _network_error(why, url) from None
    except httpx.InvalidURL as why:
        raise ProtocolSurprise("Not an address", where=url, said=str(why)) from None


def _network_error(why: httpx.HTTPError, url: str) -> CtaflowsError:
    cause: BaseException | None = why
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        error = NetworkError(
            "The server's certificate is not one we trust",
            where=url,
            said=cause.verify_message,
            hint="Name the site's CA in CTAFLOWS_CA_FILE. Verification can't be switched off.",
        )
        error.retryable = False
        return error
    said = redact(str(why)) or type(why).__name__
    if isinstance(why, httpx.ConnectError | httpx.ConnectTimeout):
        return _NotSent(
            "The server can't be reached",
            where=url,
            said=said,
            hint="Is the network up, and the address right?",
        )
    if isinstance(why, httpx.TimeoutException):
        return NetworkError("The server went silent", where=url, said=said)
    return NetworkError("The connection broke", where=url, said=said)
