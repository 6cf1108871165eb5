"""What a journey wishes for: requests to be sent, pauses, other journeys, calls that block.

The transfer of a file, from its first request to its final name, is written as a generator without
any I/O of its own, a *journey*. It yields wishes, and gets their results from `driver.Driver`,
which runs many journeys in one thread. Journeys use each other by ``yield from``. A test can play
the driver's part, and so show what becomes of any answer without a server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from ctaflows.transport.messages import Source

T = TypeVar("T")

#: A generator that yields wishes, gets the result of each, and returns a T.
Journey: TypeAlias = "Generator[Hop | Pause | Gather | Call | Synced, Any, T]"

#: Statuses of success for most methods. 202 is none: it says that something may come of it later.
SUCCESS = frozenset({200, 201, 204})
#: Of a GET into a sink, which looks at the status itself.
READ = frozenset(range(200, 300))


#: The line after the last header.
HEAD_END = b"\r\n"
#: A header; runs in C, which counts for thousands of small files.
_FIELD = re.compile(r"^([^:\r\n]+):[ \t]*([^\r\n]*?)[ \t]*\r?$", re.MULTILINE)


class BodySink(Protocol):
    """The receiver of the body of a GET; it is used again when the request is repeated.

    Attributes
    ----------
    n_received : int
        Number of bytes that were received and kept.
    worth_bytes : int
        So many bytes are progress; a door that sends a few each time would be asked for ever.
    """

    @property
    def n_received(self) -> int:
        """See above."""

    @property
    def worth_bytes(self) -> int:
        """See above."""

    def range_line(self) -> bytes | None:
        """Return the Range header for what is still missing; None for the whole file."""

    def begin(self, answer: Response) -> None:
        """Look at status and headers before the body; what is raised here refuses the body."""

    def write(self, piece: bytes) -> None:
        """Take the next bytes."""

    def ended(self, answer: Response) -> bool:
        """Judge an answer that has ended, or broke off; return True if nothing is missing."""


@dataclass(slots=True)
class Request:
    """A request that may be sent several times, to several URLs.

    Attributes
    ----------
    method, url : str
        The method, and the URL that is asked first.
    headers : tuple of bytes
        Header lines that many requests share, such as ``b"Depth: 0"``; see `ask.Session` for the
        others.
    own : tuple of bytes
        Header lines of this request alone, such as Destination.
    body : bytes, Source or None
        The body.
    sink : BodySink or None
        Receiver of the body of a successful response; without one it is in `Response.body`.
    shortcut : str or None
        URL that is tried before all others, once, such as that of a pool to which a door has
        redirected an earlier request.
    good : frozenset of int
        Statuses that are no error for the journey.
    leads_on : bool
        Are redirects followed?
    silence_s : float or None
        Longest wait for the next bytes, seconds; None for that of `handles.Handles`.
    """

    method: str
    url: str
    headers: tuple[bytes, ...] = ()
    own: tuple[bytes, ...] = ()
    body: bytes | Source | None = None
    sink: BodySink | None = None
    good: frozenset[int] = SUCCESS
    leads_on: bool = True
    shortcut: str | None = None
    silence_s: float | None = None


class Response:
    """A response, or what came of one.

    Attributes
    ----------
    status : int
        HTTP status; 0 where no complete head was received.
    url : str
        URL that was asked.
    body : bytes
        The body that no sink received, or its start.
    error : Exception or None
        What ended the exchange before the response was complete, or what the sink raised.
    """

    __slots__ = ("_headers", "_lines", "body", "error", "status", "url")

    def __init__(self, url: str, lines: Sequence[bytes]) -> None:
        self.url, self.body = url, b""
        self.error: Exception | None = None
        # 1xx responses came before the final one, or trailers after it
        if lines.count(HEAD_END) > 1:
            begin = max(n for n, line in enumerate(lines) if line.startswith(b"HTTP/"))
            lines = lines[begin:]
            lines = lines[: lines.index(HEAD_END)] if HEAD_END in lines else lines
        self._lines = lines
        self._headers: dict[str, str] | None = None
        status = lines[0].split(None, 2)[1:2] if lines else []
        self.status = int(status[0]) if status and status[0].isdigit() else 0

    @property
    def headers(self) -> Mapping[str, str]:
        """All headers; names in lower case, values of repeated ones joined by commas."""
        if self._headers is None:
            self._headers = _headers(self._lines)
        return self._headers

    def header(self, name: str) -> str | None:
        """Return a header by its name in lower case; None where it lacks."""
        if self._headers is None:
            self._headers = _headers(self._lines)
        return self._headers.get(name)

    @property
    def reason(self) -> str:
        """Reason phrase of the status line; HTTP/2 has none."""
        words = self._lines[0].split(None, 2) if self._lines else []
        return _text(words[2].strip()) if len(words) > 2 else ""

    def drain(self) -> bytes:
        """Return the start of the body that no sink received."""
        return self.body

    def close(self) -> None:
        """Do nothing: the connection has been released."""


def _headers(lines: Sequence[bytes]) -> dict[str, str]:
    fields = _FIELD.findall(_text(b"".join(lines)))
    found = {name.lower(): value for name, value in fields}
    if len(found) < len(fields):  # RFC 9110 §5.3
        for key in found:
            found[key] = ", ".join(value for name, value in fields if name.lower() == key)
    return found


def _text(value: bytes) -> str:
    """Decode a head: as UTF-8, in which XRootD 5.5 writes Location, else as ISO 8859-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("iso-8859-1")


# -- the wishes ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Hop:
    """Send a request once, to one URL. The result is a `Response`, whatever happened.

    It is None where the token was too old when the request's turn came: nothing was sent.

    Attributes
    ----------
    request : Request
        What is sent.
    url : str
        Where to.
    is_home : bool
        Is the URL of the session's own origin, so that the token may be sent?
    is_urgent : bool
        Is it sent before those that wait? A pool that a door has redirected to waits for it.
    token : str or None
        The token that was sent; set when it is.
    """

    request: Request
    url: str
    is_home: bool
    is_urgent: bool = False
    token: str | None = None


@dataclass(slots=True)
class Pause:
    """Go on after some seconds."""

    seconds: float


@dataclass(slots=True)
class Gather:
    """Go on when these journeys have ended. The result is a list of theirs.

    The first error ends the others, and is raised.
    """

    journeys: list[Journey[Any]]


class Call:
    """Call a function that may block, in another thread. The result is what it returns."""

    __slots__ = ("args", "function")

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.function, self.args = function, args


@dataclass(slots=True)
class Synced:
    """Go on when the bytes of a file are on disk; many files are synced together.

    The result is None, or the OSError by which the system refused it.

    Attributes
    ----------
    descriptor : int
        The open file.
    path : str
        Its name, for messages.
    """

    descriptor: int
    path: str
