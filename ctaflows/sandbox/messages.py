"""Requests and responses as the sandbox's servers see them, and the record of what was asked."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

BLOCK_BYTES = 1 << 16


class AbortConnection(Exception):
    """Ends the connection without finishing the answer.

    Parameters
    ----------
    reset : bool
        Send RST, else FIN without TLS's close_notify.
    """

    def __init__(self, *, reset: bool) -> None:
        super().__init__("reset" if reset else "close")
        self.reset = reset


@dataclass
class Seen:
    """One request as it arrived.

    Attributes
    ----------
    server : str
        ``door``, ``pool`` or ``issuer``.
    method, path : str
        As sent; the path is raw and has its query.
    headers : dict
        Names in lower case.
    status : int or None
        What was answered; None while there is no answer, or when there was none.
    """

    server: str
    method: str
    path: str
    headers: dict[str, str]
    status: int | None = None


class RequestLog:
    """The requests so far, oldest first; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: list[Seen] = []

    def append(self, seen: Seen) -> None:
        """Add a request."""
        with self._lock:
            self._seen.append(seen)

    def clear(self) -> None:
        """Forget the requests so far."""
        with self._lock:
            self._seen.clear()

    def _copy(self) -> list[Seen]:
        with self._lock:
            return list(self._seen)

    def __len__(self) -> int:
        return len(self._copy())

    def __iter__(self) -> Iterator[Seen]:
        return iter(self._copy())

    def __getitem__(self, index: Any) -> Any:
        return self._copy()[index]

    def __repr__(self) -> str:
        return repr(self._copy())


class Body:
    """The body of a request, read in blocks.

    Parameters
    ----------
    stream : Any
        Cheroot's reader of that request.
    length : int or None
        Content-Length; None means chunked.
    before_read : callable
        Called once before the first read, gives the number of bytes after which the connection
        is to be reset, or None. It also says ``100 Continue``.
    """

    def __init__(
        self, stream: Any, length: int | None, before_read: Callable[[], int | None]
    ) -> None:
        self._stream = stream
        self.length = length
        self._before_read = before_read

    def blocks(self) -> Iterator[bytes]:
        """Give the bytes as they arrive.

        Raises
        ------
        EOFError
            The client went away before the end.
        AbortConnection
            A fault struck.
        """
        limit = self._before_read()
        n_read = 0
        try:
            while block := self._stream.read(BLOCK_BYTES if limit is None else max(1, limit)):
                n_read += len(block)
                if limit is not None and n_read >= limit:
                    raise AbortConnection(reset=True)
                yield block
        except (OSError, ValueError) as why:
            raise EOFError(str(why)) from why
        if self.length is not None and n_read < self.length:
            raise EOFError(f"{n_read} bytes of {self.length} arrived")


@dataclass
class Request:
    """One request.

    Attributes
    ----------
    method, target : str
        As sent; the target is raw and has its query.
    headers : dict
        Names in lower case.
    body : Body
        Not yet read.
    environ : dict
        The WSGI environment.
    """

    method: str
    target: str
    headers: dict[str, str]
    body: Body
    environ: dict[str, Any]

    @property
    def path(self) -> str:
        """Decoded path, without the query."""
        return unquote(self.target.partition("?")[0], errors="surrogateescape")

    @property
    def query(self) -> dict[str, str]:
        """Decoded query, the last value of each name."""
        return {k: v[-1] for k, v in parse_qs(self.target.partition("?")[2]).items()}

    @property
    def address(self) -> str:
        """Where the client is."""
        return str(self.environ["REMOTE_ADDR"])

    @property
    def is_https(self) -> bool:
        """Did it come over TLS?"""
        return bool(self.environ["wsgi.url_scheme"] == "https")

    @property
    def expects_continue(self) -> bool:
        """Does the client wait for 100 Continue?"""
        return self.headers.get("expect", "").lower() == "100-continue"

    @property
    def connection(self) -> Any:
        """The connection it came by, a `server.Connection`."""
        return self.environ["ctaflows.request"].conn


@dataclass
class Response:
    """One answer.

    Attributes
    ----------
    status : int
        HTTP status.
    headers : dict
        Names as written.
    body : bytes or iterator of bytes
        An iterator needs `length`.
    length : int or None
        Content-Length; None means that of the bytes.
    reason : str or None
        Text of the status line; None means the usual one.
    whole : callable or None
        Gives the answer for the whole file, where this one is a range.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Iterator[bytes] = b""
    length: int | None = None
    reason: str | None = None
    whole: Callable[[], Response] | None = None

    @property
    def n_bytes(self) -> int:
        """Content-Length."""
        if self.length is not None:
            return self.length
        return len(self.body) if isinstance(self.body, bytes) else 0

    @property
    def is_redirect(self) -> bool:
        """Does it send the client elsewhere?"""
        return self.status // 100 == 3

    @property
    def status_line(self) -> str:
        """Status and reason, without control characters."""
        text = self.reason or HTTPStatus(self.status).phrase
        return f"{self.status} {' '.join(text.split())}"

    def blocks(self) -> Generator[bytes]:
        """Give the body in blocks."""
        if isinstance(self.body, bytes):
            yield self.body
        else:
            yield from self.body


# -- other WSGI applications -----------------------------------------------------------------------
#
# Calls a WSGI application of somebody else's and gives its answer as ours.


def call_wsgi(application: Callable[..., Iterable[bytes]], environ: dict[str, Any]) -> Response:
    """Answer a request by another application; the whole body is kept in memory.

    Parameters
    ----------
    application : callable
        A WSGI application for small answers.
    environ : dict
        The WSGI environment.
    """
    response = Response(500)

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
        code, _sep, reason = status.partition(" ")
        response.status, response.reason = int(code), reason
        response.headers = {k: v for k, v in headers if k.lower() not in ("content-length", "date")}

    blocks = application(environ, start_response)
    try:
        response.body = b"".join(blocks)
    finally:
        with contextlib.suppress(AttributeError):
            blocks.close()  # type: ignore[attr-defined]  # WSGI: if there is one
    return response
