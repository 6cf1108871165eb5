"""The driver's part in tests of journeys: answers without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctaflows.errors import NetworkError
from ctaflows.transport.wishes import Hop, Response

if TYPE_CHECKING:
    from ctaflows.errors import CtaflowsError


def answer(
    hop: Any,
    status: int,
    body: bytes = b"",
    *,
    cut: int | None = None,
    error: CtaflowsError | None = None,
    **headers: str,
) -> Response:
    """Answer a request, as `handles.Exchange` does; with ``cut`` it breaks after so many bytes."""
    assert isinstance(hop, Hop), hop
    headers.setdefault("Content_Length", str(len(body)))
    lines = [f"HTTP/1.1 {status} X\r\n".encode()]
    lines += [f"{name.replace('_', '-')}: {value}\r\n".encode() for name, value in headers.items()]
    got, sink = Response(hop.url, lines), hop.request.sink
    got.error = error or (None if cut is None else NetworkError("The connection broke"))
    if sink is None or status not in hop.request.good:
        got.body = body[:cut]
        return got
    try:
        sink.begin(got)
        if body[:cut]:
            sink.write(body[:cut])
        if sink.ended(got):
            got.error = None
    except Exception as why:
        got.error = why
    return got


def broken(hop: Any, said: str = "broken") -> Response:
    """Answer a request whose connection broke before there was a head."""
    assert isinstance(hop, Hop), hop
    got = Response(hop.url, [])
    got.error = NetworkError("The connection broke", where=hop.url, said=said)
    return got


def result(journey: Any, value: Any = None) -> Any:
    """Give a journey the result of its last wish, and return what it returns then."""
    try:
        wish = journey.send(value)
    except StopIteration as end:
        return end.value
    raise AssertionError(f"It wishes for more: {wish}")


def multistatus(*paths: str, size: int = 1, etag: str = '"1"') -> bytes:
    """Return a listing; what ends in a slash is a directory."""
    found = "".join(_response(path, size, etag) for path in paths)
    return f'<d:multistatus xmlns:d="DAV:">{found}</d:multistatus>'.encode()


def _response(path: str, size: int, etag: str) -> str:
    kind = "<d:collection/>" if path.endswith("/") else ""
    return (
        f"<d:response><d:href>{path}</d:href><d:propstat><d:prop>"
        f"<d:resourcetype>{kind}</d:resourcetype><d:getetag>{etag}</d:getetag>"
        f"<d:getcontentlength>{size}</d:getcontentlength>"
        "</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>"
    )
