"""Faults on demand: which requests fail, in which way and how often; independent of the servers.

A `Fault` befalls a number of requests; `PoolState` is what is wrong for a time.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import math
import re
import threading
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from ctaflows.errors import UsageError
from ctaflows.sandbox.messages import AbortConnection, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from ctaflows.sandbox.messages import Request

#: The response has this status instead of the correct one.
STATUSES = frozenset({"401", "403", "429", "500", "502", "503", "507"})
#: The response body is cut short, corrupted, slow, or announced with the wrong length.
BODIES = frozenset({"truncate", "flip", "slow", "wrong_length"})
#: The door redirects the client to where it must not go.
REDIRECTS = frozenset({"redirect_elsewhere", "redirect_http", "redirect_loop"})
#: The response to PROPFIND is wrong.
LISTINGS = frozenset({"empty207", "garbage_xml", "xml_bomb", "hostile_names"})
#: Checksums are wrong or missing.
DIGESTS = frozenset({"bad_digest", "no_digest"})
#: The connection is reset or stays silent; ``lost`` resets it after the request was carried out.
CONNECTIONS = frozenset({"reset", "hang", "lost"})
NAMES = STATUSES | BODIES | REDIRECTS | LISTINGS | DIGESTS | CONNECTIONS | {"ignore_range", "html"}

SERVERS = ("door", "pool", "issuer", "*")


@dataclass(frozen=True)
class Fault:
    """A kind of failure and the requests it affects.

    Attributes
    ----------
    name : str
        Kind of failure, one of `NAMES`.
    times : int or None
        Number of requests affected; None means all.
    path : str
        Shell pattern for the decoded path; ``*`` matches slashes too.
    method : str
        HTTP method or ``*``.
    server : str
        ``door``, ``pool``, ``issuer`` or ``*``.
    retry_after_s : int or None
        Value of Retry-After, seconds; None means no header.
    rate_bytes_s : int
        Rate of ``slow``, bytes per second.
    hang_s : float
        Seconds for which ``hang`` stays silent before it closes the connection.
    """

    name: str
    times: int | None = 1
    path: str = "*"
    method: str = "*"
    server: str = "*"
    retry_after_s: int | None = None
    rate_bytes_s: int = 1000
    hang_s: float = 300.0

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            known = ", ".join(sorted(NAMES))
            raise UsageError(f"There is no fault “{self.name}”", hint=f"Known faults: {known}.")
        if self.server not in SERVERS:
            raise UsageError(
                f"There is no server “{self.server}” in the sandbox",
                hint=f"Servers: {', '.join(SERVERS)}.",
            )
        if self.times is not None and self.times < 1:
            raise UsageError(
                f"A fault can't happen {self.times} times", hint="Give 1 or more, or * for always."
            )

    def befalls(self, server: str, method: str, path: str) -> bool:
        """Return whether this fault affects a request."""
        return (
            self.server in ("*", server)
            and self.method in ("*", method)
            and fnmatchcase(path, self.path)
        )

    def __str__(self) -> str:
        times = "*" if self.times is None else str(self.times)
        return f"{self.name}:{times}@{self.path}"


def parse(text: str) -> Fault:
    """Return the fault that a text describes, in the syntax of the command line.

    Parameters
    ----------
    text : str
        ``NAME[:TIMES][@GLOB]`` such as ``503:2@*.h5``; ``*`` for TIMES means always.

    Returns
    -------
    Fault
        The fault; it affects every method and server.

    Raises
    ------
    UsageError
        NAME is unknown, or TIMES is not a positive number.
    """
    head, _, glob = text.partition("@")
    name, _, times = head.partition(":")
    try:
        count = None if times == "*" else int(times or 1)
    except ValueError:
        raise UsageError(
            f"“{text}” is no fault: “{times}” is not a number of times",
            hint="Write NAME[:TIMES][@GLOB], for example 503:2@*.h5.",
        ) from None
    return Fault(name, times=count, path=glob or "*")


class FaultBook:
    """The faults still to be injected; thread-safe.

    Parameters
    ----------
    faults : iterable of Fault or str
        Initial faults; a text is read by `parse`.
    """

    def __init__(self, faults: Iterable[Fault | str] = ()) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault | str, **details: Any) -> Fault:
        """Add a fault.

        Parameters
        ----------
        fault : Fault or str
            A fault, or a text that `parse` understands.
        **details : Any
            Fields of `Fault` that replace those of `fault`.

        Returns
        -------
        Fault
            The fault that was added.
        """
        planned = parse(fault) if isinstance(fault, str) else fault
        planned = dataclasses.replace(planned, **details)
        with self._lock:
            self._faults.append(planned)
        return planned

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults.clear()

    def take(
        self, server: str, method: str, path: str, suits: Callable[[Fault], bool]
    ) -> Fault | None:
        """Return the first fault that affects a request and passes `suits`, and count it down."""
        with self._lock:
            for i, fault in enumerate(self._faults):
                if fault.befalls(server, method, path) and suits(fault):
                    if fault.times == 1:
                        del self._faults[i]
                    elif fault.times is not None:
                        self._faults[i] = dataclasses.replace(fault, times=fault.times - 1)
                    return fault
        return None

    def __len__(self) -> int:
        with self._lock:
            return len(self._faults)

    def __iter__(self) -> Any:
        with self._lock:
            return iter(list(self._faults))


# -- faults that last a time -----------------------------------------------------------------------


class Clock:
    """The time at the servers, which passes as elsewhere and can be advanced; thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ahead_s = 0.0
        self._is_over = False

    def now(self) -> float:
        """Return the seconds since some moment."""
        return time.monotonic() + self._ahead_s

    def advance(self, seconds: float) -> None:
        """Let time pass at once; with 0, let all that wait look whether it is over."""
        with self._changed:
            self._ahead_s += seconds
            self._changed.notify_all()

    def wait(self, until: float, is_over: Callable[[], bool] = lambda: False) -> None:
        """Wait until a time comes, or something else is over.

        Raises
        ------
        AbortConnection
            The sandbox closes.
        """
        with self._changed:
            while not self._is_over and not is_over() and (left := until - self.now()) > 0:
                self._changed.wait(min(left, threading.TIMEOUT_MAX))
        if self._is_over:
            raise AbortConnection(reset=False)

    def close(self) -> None:
        """End all waits."""
        self._is_over = True
        self.advance(0)


class PoolState:
    """What is wrong with the pool, and until when (all seen with dCache 11.2.5).

    Parameters
    ----------
    clock : Clock
        The time at the servers.

    Attributes
    ----------
    free_bytes : float
        Free space; an upload that is larger is not refused, but never answered.
    gap_bytes : float
        Free space below which the door refuses every upload (``gap`` of the pool).
    held_s : float
        Seconds for which the door holds a GET when the pool is dead.
    """

    THREADS = 4  # of a pool's, each taken for good by an upload that does not fit

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.free_bytes: float = math.inf
        self.gap_bytes: float = 0
        self.held_s = 180.0
        self._phases: list[tuple[float, str]] = []
        self._n_starts = self._n_stuck = 0

    @property
    def state(self) -> str:
        """``up``, ``away``, ``unavailable`` (in no list of pools yet), or ``dead``."""
        now = self.clock.now()
        return next((name for until, name in self._phases if now < until), "up")

    @property
    def runs(self) -> bool:
        """Whether the pool answers."""
        return self.state in ("up", "unavailable")

    def restart(self, *phases: tuple[float, str]) -> None:
        """End all that the pool does, and let each state last some seconds."""
        until, self._phases = self.clock.now(), []
        for seconds, name in phases:
            until += seconds
            self._phases.append((until, name))
        self._n_starts += 1
        self._n_stuck = 0
        self.clock.advance(0)

    def wait_for_list(self) -> bool:
        """Hold a request of the door as long as the pool manager does; return whether it is up."""
        while self.state == "unavailable":
            self.clock.wait(self._phases[-1][0])
        self.clock.wait(self.clock.now() + self.held_s, lambda: self.state == "up")
        return self.state == "up"

    def hold(self) -> None:
        """Take one of the pool's threads, until the pool is restarted."""
        self._n_stuck += 1
        self._until_restart()

    def check_threads(self) -> None:
        """Hold a request if all threads are taken."""
        if self._n_stuck >= self.THREADS:
            self._until_restart()

    def _until_restart(self) -> None:
        start = self._n_starts
        self.clock.wait(math.inf, lambda: self._n_starts != start)
        raise AbortConnection(reset=True)

    def served(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield blocks of a file, as long as the pool is not restarted."""
        start = self._n_starts
        for block in blocks:
            if self._n_starts != start:
                raise AbortConnection(reset=True)
            yield block


# -- the effect of each fault ----------------------------------------------------------------------
#
# A fault either replaces the response, so that the request is not carried out, or spoils it.

_MOVED_METHODS = ("GET", "PUT")
_TEXTS = {
    401: "login failed",
    403: "Permission denied for {} on path {}",
    429: "Server is busy. Please try again later.",
    500: "Internal problem: Server is busy (internal timeout)",
    502: "Bad gateway",
    503: "Service unavailable",
    507: "Insufficient storage: SER_DISK_FULL",
}
_ADLER32 = re.compile(r"(?i)(adler32=[0-9a-f]*)([0-9a-f])")
_MD5 = re.compile(r"(?i)md5=[A-Za-z0-9+/=]+")
_CHECKSUMS = re.compile(r"<(\w+:)?Checksums>[^<]*</(\w+:)?Checksums>")
_DRIP_S = 0.05


def applies_before(fault: Fault, server: str, request: Request) -> bool:
    """Return whether a fault replaces the response, so that the request is not carried out."""
    if fault.name in STATUSES or fault.name in ("hang", "html"):
        return True
    if fault.name in REDIRECTS:
        return request.method in _MOVED_METHODS and (server == "door" or fault.server == server)
    if fault.name in LISTINGS:
        return request.method == "PROPFIND"
    if fault.name == "reset":
        return server == "issuer" or request.method not in ("GET", "PUT", "PROPFIND")
    return False


def applies_after(fault: Fault, server: str, request: Request, response: Response) -> bool:
    """Return whether a fault can spoil a response that is ready to be sent.

    Redirects are spoiled only by a fault that names the server: others are meant for the content.
    """
    if response.is_redirect and fault.server != server:
        return False
    if fault.name == "ignore_range":
        return response.whole is not None
    if fault.name in DIGESTS:
        return "Digest" in response.headers or (
            isinstance(response.body, bytes) and b"Checksums>" in response.body
        )
    if response.status >= 400:
        return False
    if fault.name in BODIES:
        return response.n_bytes > 0 and request.method != "HEAD"
    return fault.name in ("lost", "reset")


def response_instead(fault: Fault, request: Request, closing: threading.Event) -> Response:
    """Return the response with which a fault replaces the correct one."""
    if fault.name == "hang":
        closing.wait(fault.hang_s)
        raise AbortConnection(reset=False)
    if fault.name == "reset":
        raise AbortConnection(reset=True)
    if fault.name == "html":
        page = b"<!DOCTYPE html><html><body><h1>Welcome to the site's portal</h1></body></html>"
        return Response(200, {"Content-Type": "text/html;charset=utf-8"}, page)
    if fault.name in REDIRECTS:
        return _redirect(fault.name, request)
    if fault.name in LISTINGS:
        headers = {"Content-Type": "application/xml; charset=utf-8"}
        return Response(207, headers, wrong_listing(fault.name, request.target))
    return _status(fault, request)


def _status(fault: Fault, request: Request) -> Response:
    status = int(fault.name)
    text = _TEXTS[status].format(request.method, request.target.partition("?")[0])
    headers = {"Content-Type": "text/plain"}
    if fault.retry_after_s is not None:
        headers["Retry-After"] = str(fault.retry_after_s)
    if status == 401:
        return Response(401, {"WWW-Authenticate": 'Basic realm="dCache"'}, reason=text)
    return Response(status, headers, b"" if request.method == "HEAD" else text.encode() + b"\n")


def _redirect(name: str, request: Request) -> Response:
    host = request.headers.get("host", "localhost")
    location = {
        "redirect_elsewhere": f"https://localhost:1{request.target}",
        "redirect_http": f"http://{host}{request.target}",
        "redirect_loop": f"https://{host}{request.target}",
    }[name]
    return Response(302 if request.method == "GET" else 307, {"Location": location})


def spoilt_response(
    fault: Fault, request: Request, response: Response, closing: threading.Event
) -> Response:
    """Return the response as spoiled by a fault."""
    if fault.name == "lost":
        raise AbortConnection(reset=True)
    if fault.name == "ignore_range" and response.whole is not None:
        return response.whole()
    if fault.name in DIGESTS:
        return _without_digest(response) if fault.name == "no_digest" else _bad_digest(response)
    if fault.name == "reset" and (response.n_bytes == 0 or request.method == "PUT"):
        raise AbortConnection(reset=True)
    half = response.n_bytes // 2
    blocks = response.blocks()
    length = half if fault.name == "wrong_length" else response.n_bytes
    spoilt = {
        "reset": lambda: _cut(blocks, half, AbortConnection(reset=True)),
        "truncate": lambda: _cut(blocks, half, AbortConnection(reset=False)),
        "wrong_length": lambda: _cut(blocks, half, None),
        "flip": lambda: _flipped(blocks, half),
        "slow": lambda: _dripped(blocks, fault.rate_bytes_s, closing),
    }[fault.name]()
    return dataclasses.replace(response, body=spoilt, length=length)


def _without_digest(response: Response) -> Response:
    headers = {k: v for k, v in response.headers.items() if k != "Digest"}
    body = response.body
    if isinstance(body, bytes):
        body = _CHECKSUMS.sub("", body.decode()).encode()
    return dataclasses.replace(response, headers=headers, body=body)


def _bad_digest(response: Response) -> Response:
    headers = {k: _wrong(v) if k == "Digest" else v for k, v in response.headers.items()}
    body = response.body
    if isinstance(body, bytes):
        body = _wrong(body.decode()).encode()
    return dataclasses.replace(response, headers=headers, body=body)


def _wrong(text: str) -> str:
    text = _ADLER32.sub(lambda m: f"{m[1]}{int(m[2], 16) ^ 1:x}", text)
    return _MD5.sub(f"md5={base64.b64encode(bytes(16)).decode()}", text)


def _cut(blocks: Generator[bytes], n_bytes: int, ending: AbortConnection | None) -> Iterator[bytes]:
    with contextlib.closing(blocks) as source:
        left = n_bytes
        for block in source:
            yield block[:left]
            left -= min(left, len(block))
            if not left:
                break
    if ending is not None:
        raise ending


def _flipped(blocks: Generator[bytes], position: int) -> Iterator[bytes]:
    with contextlib.closing(blocks) as source:
        for block in source:
            if 0 <= position < len(block):
                changed = bytearray(block)
                changed[position] ^= 1
                yield bytes(changed)
            else:
                yield block
            position -= len(block)


def _dripped(
    blocks: Generator[bytes], rate_bytes_s: int, closing: threading.Event
) -> Iterator[bytes]:
    start, n_sent = time.monotonic(), 0
    step = max(1, int(rate_bytes_s * _DRIP_S))
    with contextlib.closing(blocks) as source:
        for block in source:
            for i in range(0, len(block), step):
                yield block[i : i + step]
                n_sent += len(block[i : i + step])
                if closing.wait(max(0.0, start + n_sent / rate_bytes_s - time.monotonic())):
                    raise AbortConnection(reset=False)


# -- faulty listings -------------------------------------------------------------------------------
#
# Responses to PROPFIND that no door should send, and that a client must survive.

_HEAD = '<?xml version="1.0" encoding="utf-8"?>\n'
_DIRECTORY = "<d:resourcetype><d:collection/></d:resourcetype>"
_FILE = "<d:resourcetype/><d:getcontentlength>4</d:getcontentlength>"

#: Names that would escape the directory into which a listing is fetched, or are not valid.
HOSTILE = (
    "../../etc/passwd",
    "%2e%2e/%2e%2e/etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "/etc/passwd",
    "https://elsewhere.example/other-host.h5",
    "nul%00byte.h5",
    "%2e%2e",
)


def _response(href: str, properties: str) -> str:
    return (
        f"<d:response><d:href>{href}</d:href><d:propstat><d:prop>{properties}</d:prop>"
        "<d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>"
    )


def wrong_listing(name: str, target: str) -> bytes:
    """Return the multistatus body of a fault.

    Parameters
    ----------
    name : str
        ``empty207``, ``garbage_xml``, ``xml_bomb`` or ``hostile_names``.
    target : str
        Request target: the directory's percent-encoded path.

    Returns
    -------
    bytes
        The XML document.
    """
    directory = target.partition("?")[0].rstrip("/") + "/"
    itself = _response(directory, _DIRECTORY)
    if name == "empty207":
        responses = itself
    elif name == "garbage_xml":
        return f'{_HEAD}<d:multistatus xmlns:d="DAV:">{itself}<d:response><d:href>'.encode()
    elif name == "xml_bomb":
        return _bomb(directory)
    else:
        hrefs = [h if h.startswith(("/", "https:")) else directory + h for h in HOSTILE]
        responses = itself + "".join(_response(h, _FILE) for h in hrefs)
    return f'{_HEAD}<d:multistatus xmlns:d="DAV:">{responses}</d:multistatus>'.encode()


def _bomb(directory: str) -> bytes:
    entities = ['<!ENTITY a0 "ha">']
    entities += [f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10)]
    bomb = _response(directory + "&a9;", _FILE)
    doctype = f"<!DOCTYPE d:multistatus [{''.join(entities)}]>"
    return f'{_HEAD}{doctype}<d:multistatus xmlns:d="DAV:">{bomb}</d:multistatus>'.encode()
