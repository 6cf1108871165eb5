"""The driver's part in a journey, played by a test: no network, no threads, no time that passes."""

from __future__ import annotations

import zlib
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.sax.saxutils import escape

from ctaflows.errors import NetworkError
from ctaflows.model import Entry
from ctaflows.storage.checksum import format_digest
from ctaflows.transport.handles import Exchange
from ctaflows.transport.wishes import Call, Gather, Hop, Pause, Synced

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from ctaflows.errors import CtaflowsError
    from ctaflows.transport.wishes import Journey, Response

_PIECE = 16384  # bytes of a TLS record


def digest(data: bytes) -> str:
    return f"adler32={zlib.adler32(data):08x}"


def answer(
    hop: Hop,
    status: int,
    body: bytes = b"",
    *,
    cut: int | None = None,
    error: CtaflowsError | None = None,
    **headers: Any,
) -> Response:
    """Return what comes of a request.

    Parameters
    ----------
    hop : Hop
        The request; its sink gets the body.
    status : int
        Status of the answer; 0 for none at all.
    body : bytes
        The body.
    cut : int, optional
        The connection breaks after so many bytes.
    error : CtaflowsError, optional
        What ends it instead.
    **headers : Any
        Headers, with ``_`` for ``-``. Content-Length is added; None leaves it out.
    """
    exchange = Exchange(hop, lambda _: None, None)
    if status:
        told = {"Content-Length": len(body)}
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{name}: {value}\r\n" for name, value in told.items() if value is not None]
        exchange.lines += [f"HTTP/1.1 {status} X\r\n".encode(), *map(str.encode, lines), b"\r\n"]
    sent = body if cut is None else body[:cut]
    take = exchange.keep if hop.request.sink is None else exchange.take
    for start in range(0, len(sent), _PIECE):
        if take(sent[start : start + _PIECE]) is not None:
            break
    if error is None and (cut is not None or not status):
        error = NetworkError("The connection broke", where=hop.url)
    return exchange.ended(error)


def broken(hop: Hop, said: str = "broken") -> Response:
    """Return what comes of a request whose connection broke before there was a head."""
    return answer(hop, 0, error=NetworkError("The connection broke", where=hop.url, said=said))


def result(journey: Journey[Any], value: Any = None) -> Any:
    """Give a journey the result of its last wish, and return what it returns then."""
    try:
        wish = journey.send(value)
    except StopIteration as end:
        return end.value
    raise AssertionError(f"It wishes for more: {wish}")


def listing(*paths: str, size: int = 1, etag: str = '"1"') -> bytes:
    """Return the listing of paths; what ends in a slash is a directory."""
    return multistatus(
        *(
            Entry(path, path.endswith("/"), None if path.endswith("/") else size, etag=etag)
            for path in paths
        )
    )


def multistatus(*entries: Entry) -> bytes:
    """Return the listing of entries: size, time, ETag and checksums."""
    found = []
    for entry in entries:
        kind = "<d:collection/>" if entry.is_dir else ""
        told = {
            "d:getcontentlength": entry.size_bytes,
            "d:getlastmodified": entry.mtime and format_datetime(entry.mtime, usegmt=True),
            "d:getetag": entry.etag,
            "s:Checksums": ",".join(map(format_digest, entry.checksums)) or None,
        }
        values = "".join(f"<{k}>{escape(str(v))}</{k}>" for k, v in told.items() if v is not None)
        found.append(
            f"<d:response><d:href>{quote(entry.path)}</d:href><d:propstat><d:prop>"
            f"<d:resourcetype>{kind}</d:resourcetype>{values}</d:prop>"
            "<d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>"
        )
    names = 'xmlns:d="DAV:" xmlns:s="http://www.dcache.org/2013/webdav"'
    return f"<d:multistatus {names}>{''.join(found)}</d:multistatus>".encode()


class Play:
    """A journey that is led from wish to wish.

    Attributes
    ----------
    wish : object
        The present wish.
    paused_s : float
        Seconds of all pauses so far.
    result : object
        What the journey returned; None before its end.
    """

    def __init__(self, journey: Journey[Any], clock: Clock | None = None) -> None:
        self._journey, self._clock = journey, clock
        self.paused_s = 0.0
        self.n_hops = 0
        self.result: Any = None
        self.wish: Any = None
        self._step(lambda: next(journey))

    def _step(self, go_on: Callable[[], Any]) -> None:
        try:
            self.wish = go_on()
        except StopIteration as end:
            self.wish, self.result = None, end.value
        self.n_hops += isinstance(self.wish, Hop)

    def send(self, value: Any = None) -> Play:
        """Grant the present wish."""
        self._step(lambda: self._journey.send(value))
        return self

    def fail(self, error: BaseException) -> Play:
        """Let the present wish fail."""
        self._step(lambda: self._journey.throw(error))
        return self

    def pass_pauses(self) -> Play:
        """Let pauses pass, until there is another wish."""
        while isinstance(self.wish, Pause):
            self.paused_s += self.wish.seconds
            if self._clock is not None:
                self._clock.now += self.wish.seconds
            self.send()
        return self

    @property
    def hop(self) -> Hop:
        """The request that is wished for, after pauses."""
        self.pass_pauses()
        assert isinstance(self.wish, Hop), self.wish
        return self.wish

    @property
    def url(self) -> str:
        """Where it goes."""
        return self.hop.url

    @property
    def range(self) -> str | None:
        """The range that it asks for."""
        sink = self.hop.request.sink
        line = sink.range_line() if sink is not None else None
        return None if line is None else line.decode().partition(": ")[2]

    def get(self, status: int, body: bytes = b"", **more: Any) -> Play:
        """Answer the present request."""
        return self.send(answer(self.hop, status, body, **more))

    def call(self, value: Any = None) -> Play:
        """Grant the present call without making it."""
        self.pass_pauses()
        assert isinstance(self.wish, Call), self.wish
        return self.send(value)

    def made(self) -> Play:
        """Make the present call."""
        self.pass_pauses()
        assert isinstance(self.wish, Call), self.wish
        return self.send(self.wish.function(*self.wish.args))

    def described(self, entry: Entry) -> Play:
        """Answer a PROPFIND of depth 0."""
        assert self.hop.request.method == "PROPFIND"
        assert b"Depth: 0" in self.hop.request.headers
        return self.get(207, multistatus(entry))

    @property
    def gathered(self) -> list[Journey[Any]]:
        """The journeys that are waited for."""
        assert isinstance(self.wish, Gather), self.wish
        return self.wish.journeys

    def synced(self) -> Play:
        """Say that the bytes are on disk."""
        assert isinstance(self.wish, Synced), self.wish
        return self.send()


class Clock:
    """A clock that a test turns: `monotonic` of the retry policy."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("ctaflows.retry.time.monotonic", lambda: self.now)
