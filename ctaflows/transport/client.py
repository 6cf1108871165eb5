"""HTTP as ctaflows speaks it: retries, redirects by hand, a token that stays at its own origin.

Control requests go over httpx, the bytes of files over libcurl; the rules are the same, and here.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import threading
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import urlsplit

from ctaflows import cancel
from ctaflows.errors import CtaflowsError, ProtocolSurprise, Stopped
from ctaflows.retry import Retries
from ctaflows.transport import policy
from ctaflows.transport.httpx_backend import HttpxReply, HttpxWire
from ctaflows.transport.messages import Answer, Head, NotSent, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ctaflows.settings import Settings
    from ctaflows.transport.convoy import Convoy
    from ctaflows.transport.curl_backend import CurlWire
    from ctaflows.transport.messages import Reply, Sink, Source, TokenSource

log = logging.getLogger("ctaflows.transport")

_MAX_BODY_BYTES = 64 << 20
_MAX_SAID = 300
_HEADERS = {
    "User-Agent": "ctaflows",
    # text/html would bring a page without the reason (dCache 12.1, DcacheHtmlResponseHandler.java)
    "Accept": "text/plain, application/xml;q=0.9, */*;q=0.5",
    "Accept-Encoding": "identity",
}

R = TypeVar("R", bound="Reply")
T = TypeVar("T")


@dataclass(frozen=True)
class Stream:
    """An answer whose body is still to be read.

    Attributes
    ----------
    status, url, headers, retries
        As in `Head`.
    """

    status: int
    url: str
    headers: Mapping[str, str]
    retries: int
    _reply: HttpxReply = field(repr=False)

    def chunks(self) -> Iterator[bytes]:
        """Give the bytes as they come.

        Raises
        ------
        NetworkError
            The connection broke, stalled, or ended before the promised length.
        """
        return self._reply.chunks()


class Transport:
    """Requests to one service.

    Parameters
    ----------
    settings : Settings
        CA, timeouts, number of tries; ``fast_bytes`` False leaves everything to httpx.
    home : str
        URL whose origin alone may see the token.
    tokens : TokenSource, optional
        None for a service that wants no bearer token.
    """

    def __init__(self, settings: Settings, home: str, tokens: TokenSource | None = None) -> None:
        self._settings = settings
        self._home = policy.origin(home)
        self._home_prefix = _prefix(home)
        self._tokens = tokens
        self._closing = threading.Event()
        self._httpx = HttpxWire(settings, _HEADERS)
        self._curl: CurlWire | None = None
        self._curl_lock = threading.Lock()

    def close(self) -> None:
        """Close all connections; requests that wait to be repeated give up."""
        self._closing.set()
        self._httpx.close()
        if self._curl is not None:
            self._curl.close()

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
        """Send a control request and read the answer whole.

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
            return Answer(stream.status, stream.url, stream.headers, stream.retries, bytes(body))

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
        wait_s: float | None = None,
    ) -> Iterator[Stream]:
        """Send a request and give its answer once the headers are there.

        Parameters
        ----------
        redirects : bool
            Follow redirects; with False a redirect is given to the caller as any other answer.
        wait_s : float, optional
            Longest wait for the next bytes, if not ``stall_timeout_s``.
        method, url, headers, content, expect
            As for `request`.
        """
        once = Request(method, dict(headers or {}), content, expect, redirects, wait_s)
        stop = cancel.current()
        with _cancellable(once):
            reply, retries = self._with_retries(url, once, self._httpx.send, stop)
            try:
                yield Stream(reply.status, reply.url, reply.headers, retries, reply)
            finally:
                reply.close()

    def receive(
        self,
        url: str,
        sink: Sink,
        *,
        headers: Mapping[str, str] | None = None,
        stop: threading.Event | None = None,
    ) -> Head:
        """Read a body into a sink, the fastest way there is.

        Parameters
        ----------
        url : str
            What to GET.
        sink : Sink
            Its ``begin`` is called once the headers of a good answer are there.
        headers : Mapping, optional
            Further headers.
        stop : threading.Event, optional
            Ends the transfer soon after it is set.

        Raises
        ------
        CtaflowsError
            As for `request`. Nothing is repeated once the sink has begun.
        """
        curl = self._fast()
        if curl is None:
            with self.stream("GET", url, headers=headers) as stream:
                head = Head(stream.status, stream.url, stream.headers, stream.retries)
                sink.begin(head)
                for chunk in stream.chunks():
                    sink.take([chunk])
                    if stop is not None and stop.is_set():
                        raise Stopped("Stopped", where=url)
                return head
        request = Request("GET", dict(headers or {}))
        send = partial(curl.exchange, sink=sink, stop=stop)
        reply, retries = self._with_retries(url, request, send, stop)
        return Head(reply.status, reply.url, reply.headers, retries)

    def receive_many(
        self,
        wanted: Iterator[tuple[str, T]],
        *,
        headers: Mapping[str, str],
        at_once: int,
        stop: threading.Event,
    ) -> Iterator[tuple[T, Head | None, bytes]]:
        """GET many small files in this thread, see `crowd.Crowd.received`.

        Parameters
        ----------
        wanted : iterator of (str, object)
            URL, and a tag by which the caller knows it.
        headers : Mapping
            Further headers.
        at_once : int
            How many may be on their way.
        stop : threading.Event
            Ends all soon after it is set.

        Yields
        ------
        tag, head, body
            Those without a head, and those that do not come back since there is no fast way here
            or too much went wrong, are to be asked for by `receive`.
        """
        curl = self._fast()
        if curl is None or not curl.has_many:
            return
        from ctaflows.transport.crowd import Crowd

        with curl.many() as many:
            crowd = Crowd(many, {**_HEADERS, **headers}, self._token_for, self.redirect)
            yield from crowd.received(wanted, at_once, stop, self._closing)

    @contextlib.contextmanager
    def convoy(self) -> Iterator[Convoy | None]:
        """Lend the way for small requests that follow from each other, all in this thread.

        None where there is no fast way here.
        """
        curl = self._fast()
        if curl is None or not curl.has_many:
            yield None
            return
        from ctaflows.transport.convoy import Convoy

        with curl.many() as many:
            try:
                yield Convoy(many, _HEADERS, self._token_for, self._closing)
            finally:
                many.abandon()

    def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | Source | None = None,
        expect: tuple[int, ...] = (),
        redirects: bool = True,
        stop: threading.Event | None = None,
    ) -> Head:
        """Send a request that goes with a file's bytes (PUT, HEAD, MOVE), the fastest way there is.

        Parameters
        ----------
        content : bytes or Source, optional
            The body. A `Source` is sent again only where the server has surely done nothing, as
            after a 401.
        method, url, headers, expect, redirects, stop
            As for `stream` and `receive`.

        Returns
        -------
        Head
            The answer; its body is not kept.
        """
        curl = self._fast()
        further = dict(headers or {})
        if curl is None and content is not None and not isinstance(content, bytes):
            further["Content-Length"] = str(content.size_bytes)
        request = Request(method, further, content, expect, redirects)
        reply: Reply
        if curl is None:
            with _cancellable(request):
                reply, retries = self._with_retries(url, request, self._httpx.send, stop)
                reply.drain()
        else:
            send = partial(curl.exchange, stop=stop)
            reply, retries = self._with_retries(url, request, send, stop)
        return Head(reply.status, reply.url, reply.headers, retries)

    def redirect(self, method: str, here: str, location: str | None) -> str:
        """Say where a redirect leads, or refuse it; see `policy.next_hop`."""
        return policy.next_hop(method, here, location, allow_http=self._settings.allow_http_pools)

    def _fast(self) -> CurlWire | None:
        """Give the fast way, made on first use; None where it is switched off or not installed."""
        if not self._settings.fast_bytes:
            return None
        with self._curl_lock:
            if self._curl is None:
                try:
                    from ctaflows.transport.curl_backend import CurlWire
                except ImportError as why:
                    log.warning("Bytes go over httpx, which is slower: %s", why)
                    self._settings = replace(self._settings, fast_bytes=False)
                    return None
                self._curl = CurlWire(self._settings, _HEADERS, self._closing)
            return self._curl

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
            if request.idempotent:  # what changes something may be what is tidied up
                cancel.raise_if_cancelled(stop, url)
                cancel.raise_if_cancelled(work, url)
            try:
                return self._through_redirects(url, request, send), retries.n_failed
            except CtaflowsError as error:
                repeatable = request.idempotent or _had_no_effect(error)
                if error.in_body:
                    repeatable = False  # the caller has its first bytes, and goes on from there
                pause = retries.pause_s(error) if repeatable else None
                if pause is None:
                    raise
                log.warning(
                    "%s; trying again in %.1f s (try %d of %d)",
                    error,
                    pause,
                    retries.n_failed + 1,
                    self._settings.attempts,
                )
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
                url = self.redirect(request.method, url, location)
                continue
            if request.accepts(reply.status) or reply.status in policy.REDIRECTS:
                return reply
            raise _failure(reply, request.method)
        raise ProtocolSurprise(f"More than {policy.MAX_HOPS} redirects in a row", where=url)

    def _authorised(
        self, url: str, request: Request, send: Callable[[str, Request, str | None], R]
    ) -> R:
        """Send once; after a 401 renew the token once, then stop (three 401s block an address)."""
        token = self._token_for(url)
        reply = send(url, request, token)
        if token is None or reply.status != 401 or not request.repeatable_body:
            return reply
        assert self._tokens is not None  # noqa: S101  the token is from there
        newer = self._tokens.renew(token)
        if newer is None or newer == token:
            return reply
        reply.drain()
        return send(url, request, newer)

    def _token_for(self, url: str) -> str | None:
        """Give the token that may be sent to an address: only those at home may see it."""
        is_home = url.startswith(self._home_prefix) or policy.origin(url) == self._home
        return self._tokens.token() if self._tokens is not None and is_home else None


def _cancellable(request: Request) -> contextlib.AbstractContextManager[None]:
    """Let a wait for an answer end with the work it belongs to, if nothing is changed by it.

    An answer that is not heard may hold what is lost with it, such as the next refresh token.
    """
    return contextlib.nullcontext() if request.idempotent else cancel.uncancellable()


def _had_no_effect(error: CtaflowsError) -> bool:
    """Is it certain that the server did nothing?"""
    return error.status == 429 or isinstance(error, NotSent)


def _prefix(home: str) -> str:
    """Give the text that an address at home begins with, if it is written as home is."""
    parts = urlsplit(home)
    return f"{parts.scheme}://{parts.netloc}/"


def _failure(reply: Reply, method: str) -> CtaflowsError:
    """Read what a failed answer says and close it."""
    said = reply.reason
    first = reply.drain().decode("utf-8", "replace").strip().splitlines()
    if first and not first[0].startswith("<"):
        is_usual = said.lower() == http.client.responses.get(reply.status, "").lower()
        said = (first[0] if is_usual or not said else f"{said}: {first[0]}")[:_MAX_SAID]
    return policy.error_for(reply.status, reply.headers, said, method=method, where=reply.url)
