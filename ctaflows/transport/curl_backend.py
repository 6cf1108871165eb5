"""The libcurl backend: requests with a file's bytes, and those around them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pycurl

from ctaflows.errors import ProtocolSurprise, Stopped
from ctaflows.transport.handles import error_of
from ctaflows.transport.messages import (
    MAX_DRAINED_BYTES,
    header_line,
    quoted,
    silent,
)
from ctaflows.transport.tls import ca_paths

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from ctaflows.errors import CtaflowsError
    from ctaflows.settings import Settings
    from ctaflows.transport.messages import Request, Source

log = logging.getLogger("ctaflows.transport")

_END = b"\r\n"
#: Size of libcurl's upload buffer, bytes; its default is 64 KiB.
_SEND_BYTES = 1 << 19


class CurlWire:
    """An HTTP client over libcurl that sends each request once, for many threads at once.

    Parameters
    ----------
    settings : Settings
        CA and timeouts.
    headers : Mapping
        Headers of all requests.
    closing : threading.Event
        Ends all transfers when it is set.
    """

    def __init__(
        self, settings: Settings, headers: Mapping[str, str], closing: threading.Event
    ) -> None:
        self._settings = settings
        self._headers = [header_line(f"{name}: {value}") for name, value in headers.items()]
        self._closing = closing
        self._idle: list[pycurl.Curl] = []  # each has its own connections; last in, first out

    def close(self) -> None:
        """Close idle connections; those in use are closed at the end of their request."""
        while self._idle:
            self._idle.pop().close()

    def exchange(
        self,
        url: str,
        request: Request,
        token: str | None,
        *,
        stop: threading.Event | None = None,
    ) -> CurlReply:
        """Send a request and receive the response; the start of its body is kept.

        Parameters
        ----------
        url : str
            The URL.
        request : Request
            The request; its body is bytes or a `Source`.
        token : str or None
            Bearer token.
        stop : threading.Event, optional
            Ends the transfer within about a second.

        Raises
        ------
        CtaflowsError
            The network failed.
        """
        handle = self._idle.pop() if self._idle else self._new()
        exchange = _Exchange(url, request, self._settings.stall_timeout_s)
        exchange.stops = (self._closing, stop) if stop else (self._closing,)
        try:
            self._prepare(handle, exchange, token)
            handle.perform()
            exchange.ended()
        except pycurl.error as why:
            exchange.broke_off()
            if not exchange.has_enough:
                raise exchange.failure or _ours(why, handle, exchange) from None
        finally:
            self._give_back(handle, exchange)
        return CurlReply(exchange)

    def _new(self) -> pycurl.Curl:
        handle = pycurl.Curl()
        setopt = handle.setopt
        ca_file, ca_dirs = ca_paths(self._settings)
        # libcurl has no CAs of its own; CAPATH may name several folders, joined by ":", which
        # OpenSSL splits
        setopt(pycurl.CAINFO, ca_file) if ca_file else handle.unsetopt(pycurl.CAINFO)
        setopt(pycurl.CAPATH, ":".join(ca_dirs)) if ca_dirs else handle.unsetopt(pycurl.CAPATH)
        setopt(pycurl.SSL_VERIFYPEER, 1)
        setopt(pycurl.SSL_VERIFYHOST, 2)
        setopt(pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2)
        setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTPS | pycurl.PROTO_HTTP)
        setopt(pycurl.FOLLOWLOCATION, 0)
        setopt(pycurl.PATH_AS_IS, 1)
        setopt(pycurl.NOSIGNAL, 1)
        setopt(pycurl.LOW_SPEED_LIMIT, 1)
        setopt(pycurl.LOW_SPEED_TIME, math.ceil(self._settings.stall_timeout_s) or 1)
        setopt(pycurl.UPLOAD_BUFFERSIZE, _SEND_BYTES)
        setopt(pycurl.CONNECTTIMEOUT_MS, max(1, int(self._settings.connect_timeout_s * 1000)))
        setopt(pycurl.TCP_KEEPALIVE, 1)
        setopt(pycurl.NOPROGRESS, 0)
        return handle

    def _prepare(self, handle: pycurl.Curl, exchange: _Exchange, token: str | None) -> None:
        request = exchange.request
        lines = self._headers.copy()
        lines += [header_line(f"{name}: {value}") for name, value in request.headers.items()]
        if token is not None:
            lines.append(header_line(f"Authorization: Bearer {token}"))
        body = request.content
        setopt = handle.setopt
        if body is None:
            setopt(pycurl.HTTPGET, 1)
            if request.method == "HEAD":
                setopt(pycurl.NOBODY, 1)
        else:
            source = _Bytes(body) if isinstance(body, bytes) else body
            source.rewind()  # type: ignore[union-attr]  # an iterable is sent by httpx
            exchange.source = source  # type: ignore[assignment]
            setopt(pycurl.UPLOAD, 1)
            setopt(pycurl.INFILESIZE_LARGE, exchange.source.size_bytes)
            setopt(pycurl.READFUNCTION, exchange.read)
            setopt(pycurl.SEEKFUNCTION, exchange.seek)
            lines = [line for line in lines if not line.lower().startswith(b"content-length:")]
            # libcurl would add it to bodies over 1 MiB (8.23, EXPECT_100_THRESHOLD), and wait a
            # second for servers that know nothing of it (CURLOPT_EXPECT_100_TIMEOUT_MS); a dCache
            # door closes the connection after it (dCache #5604; seen with 11.2.5)
            if "Expect" not in request.headers:
                lines.append(b"Expect:")
        setopt(pycurl.CUSTOMREQUEST, request.method)
        setopt(pycurl.URL, quoted(exchange.url))
        setopt(pycurl.HTTPHEADER, lines)
        setopt(pycurl.HEADERFUNCTION, exchange.lines.append)
        setopt(pycurl.WRITEFUNCTION, exchange.pieces.append)
        setopt(pycurl.XFERINFOFUNCTION, exchange.progress)

    def _give_back(self, handle: pycurl.Curl, exchange: _Exchange) -> None:
        # an idle handle must not keep the transfer's objects alive
        for option in (pycurl.HEADERFUNCTION, pycurl.WRITEFUNCTION, pycurl.XFERINFOFUNCTION):
            handle.setopt(option, _nothing)
        if self._closing.is_set():
            handle.close()
        else:
            self._idle.append(handle)


class CurlReply:
    """A response that has been received to its end."""

    def __init__(self, exchange: _Exchange) -> None:
        self._kept = bytes(exchange.kept)
        self.url = exchange.url
        self.status, self.reason, self.headers = exchange.status, exchange.reason, exchange.headers

    def drain(self) -> bytes:
        """Return the start of a body that no sink has received."""
        return self._kept

    def close(self) -> None:
        """Do nothing: the connection has been released."""


class _Exchange:
    """One running request, with libcurl's callbacks."""

    def __init__(self, url: str, request: Request, stall_timeout_s: float) -> None:
        self.url = url
        self.request = request
        self.lines: list[bytes] = []
        self.pieces: list[bytes] = []  # appended by libcurl, removed by `_keep`
        self.kept = bytearray()
        self.failure: BaseException | None = None
        self.stops: tuple[threading.Event, ...] = ()
        self.source: Source
        self.status = 0
        self.reason = ""
        self.headers: Mapping[str, str] = {}
        self.has_enough = False  # of the body
        self._has_head = False
        self._stall_timeout_s = stall_timeout_s
        self._seen: Any = None
        self._seen_at = time.monotonic()

    def _keep(self) -> None:
        """Keep the pieces received so far."""
        self._read_head()
        self.kept += b"".join(self.pieces)
        self.pieces.clear()
        if len(self.kept) > MAX_DRAINED_BYTES:
            self.has_enough = True
            raise ProtocolSurprise("Nobody reads on", where=self.url)

    def _read_head(self) -> None:
        if not self._has_head:
            self.status, self.reason, self.headers = read_head(self.lines)
            self._has_head = True

    def ended(self) -> None:
        """Keep the last pieces when the response is complete."""
        if self.pieces:
            self._keep()
        self._read_head()

    def broke_off(self) -> None:
        """Keep the pieces received before an error: they may say why."""
        if self.pieces and self.failure is None:
            try:
                self._keep()
            except BaseException as why:  # noqa: BLE001  raised in place of libcurl's error
                self.failure = why

    def read(self, n_bytes: int) -> bytes | int:
        """Return the next bytes to send."""
        try:
            return self.source.read(n_bytes)
        except BaseException as why:  # noqa: BLE001  raised again where perform() returns
            self.failure = why
            return int(pycurl.READFUNC_ABORT)

    def seek(self, _offset: int, _origin: int) -> int:
        """Rewind the body: libcurl found a kept connection dead, and sends it again."""
        try:
            self.source.rewind()
        except BaseException as why:  # noqa: BLE001  raised again where perform() returns
            self.failure = why
            return int(pycurl.SEEKFUNC_FAIL)
        return int(pycurl.SEEKFUNC_OK)

    def progress(self, *seen: Any) -> int:
        """Keep the pieces, and check whether to stop; anything but 0 ends the transfer.

        libcurl calls this at least once a second. libcurl 8.23 does so after ten reads, or sooner
        if there is nothing more to read: no bytes are left in `pieces` while it waits.
        """
        if self.pieces:
            try:
                self._keep()
            except BaseException as why:  # noqa: BLE001  raised again where perform() returns
                self.failure = why
                return 1
        for stop in self.stops:
            if stop.is_set():
                self.failure = Stopped("Stopped", where=self.url)
                return 1
        if seen != self._seen:
            self._seen, self._seen_at = seen, time.monotonic()
        elif time.monotonic() - self._seen_at > self._stall_timeout_s:
            self.failure = silent(self.url, f"no byte for {self._stall_timeout_s:g} s")
            return 1
        return 0


class _Bytes:
    """A body in memory."""

    def __init__(self, data: bytes) -> None:
        self.size_bytes = len(data)
        self._rest = self._all = memoryview(data)

    def read(self, n_bytes: int) -> bytes:
        block, self._rest = self._rest[:n_bytes], self._rest[n_bytes:]
        return bytes(block)

    def rewind(self) -> None:
        self._rest = self._all


class _Headers(Mapping[str, str]):
    """Response headers; names are case-insensitive, values of repeated ones joined by commas."""

    def __init__(self, lines: list[bytes]) -> None:
        values: dict[bytes, bytes] = {}
        for line in lines:
            name, colon, value = line.partition(b":")
            if colon:
                key, value = name.lower(), value.strip()
                values[key] = values[key] + b", " + value if key in values else value
        self._values = values

    def __getitem__(self, name: str) -> str:
        return _text(self._values[name.lower().encode("iso-8859-1")])

    def get(self, name: str, default: Any = None) -> Any:
        value = self._values.get(name.lower().encode("iso-8859-1"))
        return default if value is None else _text(value)

    def __iter__(self) -> Iterator[str]:
        return (name.decode("iso-8859-1") for name in self._values)

    def __len__(self) -> int:
        return len(self._values)


def _text(value: bytes) -> str:
    """Decode a header: as UTF-8, in which XRootD 5.5 writes Location, else as ISO 8859-1."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("iso-8859-1")


def read_head(lines: list[bytes]) -> tuple[int, str, Mapping[str, str]]:
    """Parse the head of the final response; those of 1xx responses may come before it.

    Parameters
    ----------
    lines : list of bytes
        All header lines of a request's responses, each with its line end.

    Returns
    -------
    status, reason, headers : int, str, Mapping
        Status, reason phrase and headers.
    """
    first = 0
    while (
        lines.count(_END) > 1 and _END in lines[first:-1]
    ):  # trailers follow, or the head after a 1xx response
        after = lines.index(_END, first) + 1
        if not lines[after].startswith(b"HTTP/"):
            break
        first = after
    end = lines.index(_END, first) if _END in lines[first:] else len(lines)
    words = lines[first].decode("iso-8859-1").split(None, 2)
    reason = words[2].strip() if len(words) > 2 else ""
    return int(words[1]), reason, _Headers(lines[first + 1 : end])


def _nothing(*_: Any) -> None:
    """Do nothing; the callback of an idle handle."""


def _ours(why: pycurl.error, handle: pycurl.Curl, exchange: _Exchange) -> CtaflowsError:
    """Return our error for libcurl's."""
    return error_of(
        why.args[0],
        str(why.args[1]),
        exchange.url,
        is_connected=bool(handle.getinfo(pycurl.PRETRANSFER_TIME)),
    )
