"""The WSGI application all servers share: it logs requests, injects faults, sends responses."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from ctaflows.sandbox import faults
from ctaflows.sandbox.messages import AbortConnection, Body, Request, Response, Seen

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

    from ctaflows.sandbox.faults import Fault, FaultBook
    from ctaflows.sandbox.messages import RequestLog

logger = logging.getLogger("ctaflows.sandbox")


class Application:
    """A WSGI application around a function from request to response.

    Parameters
    ----------
    name : str
        ``door``, ``pool`` or ``issuer``.
    handle : callable
        Returns the correct response to a request.
    faults : FaultBook
        The faults to inject.
    seen : RequestLog
        Log to which each request is appended.
    closing : threading.Event
        Set when the sandbox closes; it ends all waits.
    answered : callable, optional
        Called with each request and its response, faulty or not, before the response is sent.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[Request], Response],
        faults: FaultBook,
        seen: RequestLog,
        closing: threading.Event,
        answered: Callable[[Request, Response], None] = lambda _request, _response: None,
    ) -> None:
        self._name = name
        self._handle = handle
        self._faults = faults
        self._seen = seen
        self._closing = closing
        self._answered = answered

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Respond to a request (the WSGI interface)."""
        request = self._request(environ)
        seen = Seen(self._name, request.method, request.target, request.headers)
        self._seen.append(seen)
        response = self._answer(request)
        seen.status = response.status
        self._answered(request, response)
        headers = [(k, v) for k, v in response.headers.items() if k.lower() != "content-length"]
        if response.n_bytes >= 0 and response.status != HTTPStatus.NO_CONTENT:
            headers.append(("Content-Length", str(response.n_bytes)))
        start_response(response.status_line, headers)
        return () if request.method == "HEAD" else response.blocks()

    def _request(self, environ: dict[str, Any]) -> Request:
        wire = environ["ctaflows.request"]
        headers = wire.wire_headers()
        is_chunked = bool(wire.chunked_read)
        length = None if is_chunked else int(headers.get("content-length") or 0)
        method = environ["REQUEST_METHOD"]
        target = environ["REQUEST_URI"]

        def before_read() -> int | None:
            if headers.get("expect", "").lower() == "100-continue":
                wire.conn.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if length == 0 or not self._take(request, lambda fault: fault.name == "reset"):
                return None
            return max(1, (length or 2) // 2)

        body = Body(environ["wsgi.input"], length, before_read)
        request = Request(method, target, headers, body, environ)
        return request

    def _take(self, request: Request, suits: Callable[[Fault], bool]) -> Fault | None:
        if not len(self._faults):
            return None
        return self._faults.take(self._name, request.method, request.path, suits)

    def _answer(self, request: Request) -> Response:
        early = self._take(request, lambda f: faults.applies_before(f, self._name, request))
        if early is not None:
            return faults.response_instead(early, request, self._closing)
        try:
            response = self._handle(request)
        except AbortConnection:
            raise
        except Exception as why:  # a bug of the sandbox must look like a server error
            logger.exception("%s %s failed", request.method, request.path)
            return Response(
                500, {"Content-Type": "text/plain"}, f"Internal problem: {why}".encode()
            )
        late = self._take(request, lambda f: faults.applies_after(f, self._name, request, response))
        if late is not None:
            return faults.spoilt_response(late, request, response, self._closing)
        return response
