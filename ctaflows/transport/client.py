"""The HTTP client of the issuer and of the services of a hub, over httpx.

What moves files and describes them goes over `driver`. Redirects are followed here, not by httpx,
so that the token is sent to the service's own origin only.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import urlsplit

from ctaflows import cancel
from ctaflows.errors import CtaflowsError, ProtocolSurprise, Stopped, register_secret
from ctaflows.retry import Retries
from ctaflows.transport import policy
from ctaflows.transport.messages import Answer, Request, failure_of, had_no_effect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ctaflows.settings import Settings
    from ctaflows.transport.httpx_backend import HttpxReply, HttpxWire
    from ctaflows.transport.messages import Reply, Source, TokenSource

log = logging.getLogger("ctaflows.transport")

_MAX_BODY_BYTES = 64 << 20
_HEADERS = {
    "User-Agent": "ctaflows",
    # for text/html a door answers with a page that lacks the reason of an error (dCache 12.1,
    # DcacheHtmlResponseHandler.java)
    "Accept": "text/plain, application/xml;q=0.9, */*;q=0.5",
    "Accept-Encoding": "identity",
}

R = TypeVar("R", bound="Reply")
T = TypeVar("T")


@dataclass(frozen=True)
class Stream:
    """A response whose body has not been read yet.

    Attributes
    ----------
    status, url, headers, retries
        As for `Head`.
    """

    status: int
    url: str
    headers: Mapping[str, str]
    retries: int
    _reply: HttpxReply = field(repr=False)

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it is received.

        Raises
        ------
        NetworkError
            The connection broke, stalled, or ended before the announced length.
        """
        return self._reply.chunks()


class Transport:
    """A client of one HTTP service, which may be used by many threads at once.

    Parameters
    ----------
    settings : Settings
        CA, timeouts, number of tries.
    home : str
        URL of the service: the token is sent to its origin only.
    tokens : TokenSource, optional
        Source of bearer tokens; None for a service without them.
    """

    def __init__(self, settings: Settings, home: str, tokens: TokenSource | None = None) -> None:
        self._settings = settings
        self._home = policy.origin(home)
        self._home_prefix = _prefix(home)
        self._tokens = tokens
        self._closing = threading.Event()
        self._wire: HttpxWire | None = None
        self._wire_lock = threading.Lock()

    def close(self) -> None:
        """Close all connections; requests that wait for their next try fail."""
        self._closing.set()
        if self._wire is not None:
            self._wire.close()

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
        content: bytes | Source | Iterable[bytes] | None = None,
        expect: tuple[int, ...] = (),
    ) -> Answer:
        """Send a control request and return the response with its body.

        Parameters
        ----------
        method, url : str
            The request.
        headers : Mapping, optional
            Further headers. A body that is not bytes needs its Content-Length here.
        content : bytes, Source or iterable of bytes, optional
            The body. An iterable that is neither bytes nor a Source is never sent again.
        expect : tuple of int
            Statuses beside 2xx that are no error for the caller.

        Raises
        ------
        CtaflowsError
            For a status, as `policy.error_for` says; NetworkError where there was no response;
            ProtocolSurprise for a body of more than 64 MiB.
        """
        with self.stream(method, url, headers=headers, content=content, expect=expect) as stream:
            body = bytearray()
            for chunk in stream.chunks():
                body += chunk
                if len(body) > _MAX_BODY_BYTES:
                    raise ProtocolSurprise("The answer has no end", where=stream.url)
            return Answer(stream.status, stream.url, stream.headers, stream.retries, bytes(body))

    @contextlib.contextmanager
    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | Source | Iterable[bytes] | None = None,
        expect: tuple[int, ...] = (),
        redirects: bool = True,
        wait_s: float | None = None,
    ) -> Iterator[Stream]:
        """Send a request and yield the response when its headers have been received.

        Parameters
        ----------
        redirects : bool
            Follow redirects; with False a redirect is returned like any other response.
        wait_s : float, optional
            Longest wait for the next bytes, seconds; by default the setting ``stall_timeout_s``.
        method, url, headers, content, expect
            As for `request`.
        """
        once = Request(method, dict(headers or {}), content, expect, redirects, wait_s)
        stop = cancel.current()
        with _cancellable(once):
            reply, retries = self._with_retries(url, once, self._httpx().send, stop)
            try:
                yield Stream(reply.status, reply.url, reply.headers, retries, reply)
            finally:
                reply.close()

    def _httpx(self) -> HttpxWire:
        """Return the httpx backend, which takes 55 ms to import."""
        with self._wire_lock:
            if self._wire is None:
                from ctaflows.transport.httpx_backend import HttpxWire

                self._wire = HttpxWire(self._settings, _HEADERS)
            return self._wire

    def redirect(self, method: str, here: str, location: str | None, status: int = 307) -> str:
        """Return the URL that a redirect leads to, or raise; see `policy.next_hop`."""
        allow_http = self._settings.allow_http_pools
        return policy.next_hop(method, here, location, allow_http=allow_http, status=status)

    def _with_retries(
        self,
        url: str,
        request: Request,
        send: Callable[[str, Request, str | None], R],
        stop: threading.Event | None,
    ) -> tuple[R, int]:
        stop, work = stop or cancel.current(), cancel.current()
        retries = Retries(self._settings)
        while True:
            if request.idempotent:  # others, such as a DELETE that cleans up, are sent
                cancel.raise_if_cancelled(stop, url)
                cancel.raise_if_cancelled(work, url)
            try:
                return self._through_redirects(url, request, send), retries.n_failed
            except CtaflowsError as error:
                repeatable = request.idempotent or had_no_effect(error)
                if error.in_body:
                    repeatable = False  # the caller has the first bytes, and resumes after them
                pause = retries.pause_s(error) if repeatable else None
                if pause is None:
                    raise
                log.warning("%s; trying again in %.1f s", error, pause)
                if cancel.wait(pause, stop, work, self._closing):
                    if self._closing.is_set():
                        raise
                    raise Stopped("Stopped", where=url) from None

    def _through_redirects(
        self, url: str, request: Request, send: Callable[[str, Request, str | None], R]
    ) -> R:
        for _ in range(policy.MAX_HOPS + 1):
            reply = self._authorised(url, request, send)
            if request.leads_on(reply.status):
                location = reply.headers.get("location")
                reply.drain()
                url = self.redirect(request.method, url, location, reply.status)
                continue
            if request.accepts(reply.status) or reply.status in policy.REDIRECTS:
                return reply
            raise failure_of(reply, request.method)
        raise ProtocolSurprise(f"More than {policy.MAX_HOPS} redirects in a row", where=url)

    def _authorised(
        self, url: str, request: Request, send: Callable[[str, Request, str | None], R]
    ) -> R:
        """Send a request; after a 401 renew the token and send once more, but no third time.

        Three 401s within 20 s block an IP address, with all behind it, at a dCache door and its
        frontend (webdav.limits.error.*, dCache 12.1; seen with 11.2.5).
        """
        token = self._token_for(url)
        reply = send(url, request, token)
        if token is None or reply.status != 401 or not request.repeatable_body:
            return reply
        assert self._tokens is not None  # noqa: S101  the token is from there
        newer = self._tokens.renew(token)
        if newer is None or newer == token:
            return reply
        register_secret(newer)
        reply.drain()
        return send(url, request, newer)

    def _token_for(self, url: str) -> str | None:
        """Return the token for requests to a URL: None unless it has the origin of `home`."""
        is_home = url.startswith(self._home_prefix) or policy.origin(url) == self._home
        token = self._tokens.token() if self._tokens is not None and is_home else None
        register_secret(token)
        return token


def _cancellable(request: Request) -> contextlib.AbstractContextManager[None]:
    """Return a context in which only an idempotent request can be cancelled.

    The response to any other may have what would be lost with it, such as the next refresh token.
    """
    return contextlib.nullcontext() if request.idempotent else cancel.uncancellable()


def _prefix(home: str) -> str:
    """Return the origin as the URL writes it: a quick test for other URLs of that origin."""
    parts = urlsplit(home)
    return f"{parts.scheme}://{parts.netloc}/"
