"""Requests and responses of the sandbox's servers, and the log of requests."""

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
    """Closes the connection without completing the response.

    Parameters
    ----------
    reset : bool
        Whether to send RST; else FIN without a TLS close_notify.
    """

    def __init__(self, *, reset: bool) -> None:
        super().__init__("reset" if reset else "close")
        self.reset = reset


@dataclass
class Seen:
    """An entry of the request log.

    Attributes
    ----------
    server : str
        ``door``, ``pool`` or ``issuer``.
    method, path : str
        As received; the path is percent-encoded and includes the query.
    headers : dict
        Header fields, with names in lower case.
    status : int or None
        Status of the response; None until there is one, or if the connection was aborted.
    """

    server: str
    method: str
    path: str
    headers: dict[str, str]
    status: int | None = None


class RequestLog:
    """The requests so far, oldest first; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: list[Seen] = []

    def append(self, seen: Seen) -> None:
        """Add a request."""
        with self._lock:
            self._seen.append(seen)

    def clear(self) -> None:
        """Remove all requests."""
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
        Called once before the first read: sends ``100 Continue`` if the client waits for it, and
        returns the number of bytes after which to reset the connection, or None.
    """

    def __init__(
        self, stream: Any, length: int | None, before_read: Callable[[], int | None]
    ) -> None:
        self._stream = stream
        self.length = length
        self._before_read = before_read

    def blocks(self) -> Iterator[bytes]:
        """Yield the bytes as they arrive.

        Raises
        ------
        EOFError
            The client disconnected before the end.
        AbortConnection
            A fault resets the connection.
        """
        limit = self._before_read()
        n_read = 0
        try:
            while block := self._stream.read(BLOCK_BYTES if limit is None else max(1, limit)):
                n_read += len(block)
                yield block
                if limit is not None and n_read >= limit:
                    raise AbortConnection(reset=True)
        except (OSError, ValueError) as why:
            raise EOFError(str(why)) from why
        if self.length is not None and n_read < self.length:
            raise EOFError(f"{n_read} bytes of {self.length} arrived")


@dataclass
class Request:
    """An HTTP request.

    Attributes
    ----------
    method, target : str
        As received; the target is percent-encoded and includes the query.
    headers : dict
        Header fields, with names in lower case.
    body : Body
        The body, not yet read.
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
        """Decoded query parameters; of a repeated one the last value."""
        return {k: v[-1] for k, v in parse_qs(self.target.partition("?")[2]).items()}

    @property
    def address(self) -> str:
        """IP address of the client."""
        return str(self.environ["REMOTE_ADDR"])

    @property
    def is_https(self) -> bool:
        """Whether it came over TLS."""
        return bool(self.environ["wsgi.url_scheme"] == "https")

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for 100 Continue."""
        return self.headers.get("expect", "").lower() == "100-continue"

    @property
    def connection(self) -> Any:
        """The connection it came over, a `server.Connection`."""
        return self.environ["ctaflows.request"].conn


@dataclass
class Response:
    """An HTTP response.

    Attributes
    ----------
    status : int
        Status code.
    headers : dict
        Header fields.
    body : bytes or iterator of bytes
        The body; if it is an iterator, `length` must be set.
    length : int or None
        Content-Length; None means the length of `body`, -1 sends none.
    reason : str or None
        Reason phrase; None means the standard one.
    whole : callable or None
        If this is a range of a file, returns the response with the whole file.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Iterator[bytes] = b""
    length: int | None = None
    reason: str | None = None
    whole: Callable[[], Response] | None = None

    @property
    def n_bytes(self) -> int:
        """Content-Length; negative if none is sent."""
        if self.length is not None:
            return self.length
        return len(self.body) if isinstance(self.body, bytes) else 0

    @property
    def is_redirect(self) -> bool:
        """Whether the status is 3xx."""
        return self.status // 100 == 3

    @property
    def status_line(self) -> str:
        """Status code and reason phrase, without line breaks."""
        text = self.reason or HTTPStatus(self.status).phrase
        return f"{self.status} {' '.join(text.split())}"

    def blocks(self) -> Generator[bytes]:
        """Yield the body in blocks."""
        if isinstance(self.body, bytes):
            yield self.body
        else:
            yield from self.body


# -- third-party WSGI applications -----------------------------------------------------------------


def call_wsgi(application: Callable[..., Iterable[bytes]], environ: dict[str, Any]) -> Response:
    """Return the response of a WSGI application, with its whole body in memory.

    Parameters
    ----------
    application : callable
        A WSGI application whose responses are small.
    environ : dict
        The WSGI environment of the request.

    Returns
    -------
    Response
        The response, without its Content-Length and Date headers.
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
            blocks.close()  # type: ignore[attr-defined]  # optional (PEP 3333)
    return response
