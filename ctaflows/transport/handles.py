"""Requests over libcurl: its handles, which are made once and used again, and one exchange each.

What libcurl says becomes errors of ours here.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import pycurl

from ctaflows.errors import CtaflowsError, NetworkError, ProtocolSurprise, UsageError
from ctaflows.transport import policy
from ctaflows.transport.messages import (
    MAX_DRAINED_BYTES,
    not_opened,
    quoted,
    silent,
    unreachable,
    untrusted,
    unusable_proxy,
)
from ctaflows.transport.tls import ca_paths
from ctaflows.transport.wishes import HEAD_END, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from ctaflows.settings import Settings
    from ctaflows.transport.messages import Source
    from ctaflows.transport.wishes import Hop

    #: Method, kind of body ("source", "bytes" or None), and whether it goes to the service itself:
    #: handles of one kind differ in URL, headers and callbacks alone.
    Kind = tuple[str, str | None, bool]

#: Size of libcurl's upload buffer, bytes; its default is 64 KiB.
_SEND_BYTES = 1 << 19
#: So many are sent at once where the rate is limited: the pause after them must not seem a silence.
_LIMITED_BYTES = 1 << 14
#: A door may think for 180 s before it answers a GET (seen with dCache 11.2.5, when a pool does not
#: react); a pool that has been named answers at once.
_DOOR_PATIENCE = 10 / 3
#: What select(2) can wait for; where a socket has a higher number all are looked at now and then.
_N_SELECTABLE = 1024

_NOT_SENT = {
    pycurl.E_COULDNT_RESOLVE_PROXY,
    pycurl.E_COULDNT_RESOLVE_HOST,
    pycurl.E_COULDNT_CONNECT,
    pycurl.E_SSL_CONNECT_ERROR,
    getattr(pycurl, "E_PROXY", 97),
}
#: Memory, or the file of CAs, which was read when the process began.
_LACKING = {pycurl.E_OUT_OF_MEMORY, pycurl.E_FAILED_INIT, pycurl.E_SSL_CACERT_BADFILE}
#: Such as a scheme that libcurl does not know; 8.23 tells by the code of a network failure.
_UNSUPPORTED = "Unsupported proxy"
_UNUSABLE_PROXY = {pycurl.E_UNSUPPORTED_PROTOCOL, pycurl.E_URL_MALFORMAT}


class Handles:
    """The handles of one driver, idle and in use.

    Parameters
    ----------
    settings : Settings
        CA and timeouts.

    Attributes
    ----------
    is_selectable : bool
        Can select(2) wait for all sockets?
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._idle: dict[Kind, list[pycurl.Curl]] = {}
        self.is_selectable = True

    def prepared(self, exchange: Exchange, lines: list[bytes]) -> pycurl.Curl:
        """Return a handle that is ready to be sent.

        Parameters
        ----------
        exchange : Exchange
            What is sent; its callbacks are set.
        lines : list of bytes
            All header lines.
        """
        hop = exchange.hop
        request = hop.request
        body, sink = request.body, request.sink
        how = None if body is None else "bytes" if isinstance(body, bytes) else "source"
        kind = (request.method, how, hop.is_home)
        idle = self._idle.get(kind)
        handle = idle.pop() if idle else self._made(kind)
        setopt = handle.setopt
        if handle.is_changed or request.silence_s is not None:
            silence_s = request.silence_s or self._silence_s(hop.is_home)
            setopt(pycurl.LOW_SPEED_TIME, math.ceil(silence_s))
            handle.is_changed = request.silence_s is not None
        setopt(pycurl.URL, quoted(hop.url))
        if handle.lines is not lines:
            setopt(pycurl.HTTPHEADER, lines)
            handle.lines = lines
        setopt(pycurl.HEADERFUNCTION, exchange.lines.append)
        setopt(pycurl.WRITEFUNCTION, exchange.keep if sink is None else exchange.take)
        if request.method == "MOVE":
            setopt(pycurl.PREREQFUNCTION, exchange.begin_once)
        if how == "source":
            setopt(pycurl.INFILESIZE_LARGE, body.size_bytes)  # type: ignore[union-attr]
            setopt(pycurl.READFUNCTION, exchange.read)
            setopt(pycurl.SEEKFUNCTION, exchange.rewind)
            exchange.rewind()
        elif how == "bytes":
            setopt(pycurl.POSTFIELDS, body)
        return handle

    def hurry(self, handle: pycurl.Curl) -> None:
        """Give up a body that stands still sooner than a door that has not answered yet."""
        handle.setopt(pycurl.LOW_SPEED_TIME, self._silence_s(is_home=False))
        handle.is_changed = True

    def give_back(self, handle: pycurl.Curl) -> None:
        """Keep a handle for the next request of its kind."""
        self._idle.setdefault(handle.kind, []).append(handle)

    def close(self) -> None:
        """Close all idle handles."""
        for handles in self._idle.values():
            for handle in handles:
                handle.close()
        self._idle.clear()

    def _silence_s(self, is_home: bool) -> int:
        silence_s = self._settings.stall_timeout_s * (_DOOR_PATIENCE if is_home else 1)
        return math.ceil(silence_s) or 1

    def _made(self, kind: Kind) -> pycurl.Curl:
        method, how, is_home = kind
        handle = pycurl.Curl()
        handle.kind, handle.lines, handle.is_changed = kind, None, False
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
        setopt(pycurl.NOPROGRESS, 1)
        setopt(pycurl.LOW_SPEED_LIMIT, 1)
        setopt(pycurl.LOW_SPEED_TIME, self._silence_s(is_home))
        setopt(pycurl.CONNECTTIMEOUT_MS, max(1, int(self._settings.connect_timeout_s * 1000)))
        setopt(pycurl.TCP_KEEPALIVE, 1)
        setopt(pycurl.SOCKOPTFUNCTION, self._note_number)
        if how == "source":
            setopt(pycurl.UPLOAD, 1)
            setopt(pycurl.UPLOAD_BUFFERSIZE, _SEND_BYTES)
        elif how == "bytes":
            setopt(pycurl.POST, 1)  # as a POST it needs no callback for its bytes
        elif method == "HEAD":
            setopt(pycurl.NOBODY, 1)
        else:
            setopt(pycurl.HTTPGET, 1)
        if method not in ("GET", "HEAD"):
            setopt(pycurl.CUSTOMREQUEST, method)
        return handle

    def _note_number(self, descriptor: int, _purpose: int) -> int:
        self.is_selectable &= descriptor < _N_SELECTABLE
        return int(pycurl.SOCKOPT_OK)


class Exchange:
    """One request on its way, with libcurl's callbacks.

    Where there is a sink, no byte reaches it before it has agreed to the head.

    Parameters
    ----------
    hop : Hop
        What is sent.
    begun : Callable
        Is told of this when the body of a good response begins.
    pause_s : Callable, optional
        Takes a number of bytes that came or went, and returns how long to wait before more may,
        seconds, see `driver.RateLimit`; None where there is no limit.

    Attributes
    ----------
    lines : list of bytes
        Header lines that came.
    is_paused : bool
        Does it wait for the rate limit?
    """

    __slots__ = (
        "_answer", "_begun", "_failure", "_is_sent", "_n_kept", "_pause_s", "_pieces", "_write",
        "hop", "is_paused", "lines",
    )  # fmt: skip

    def __init__(
        self,
        hop: Hop,
        begun: Callable[[Exchange], None],
        pause_s: Callable[[int], float] | None,
    ) -> None:
        self.hop = hop
        self.lines: list[bytes] = []
        self.is_paused = False
        self._begun, self._pause_s = begun, pause_s
        self._answer: Response | None = None
        self._write: Callable[[bytes], int | None] | None = None
        self._failure: BaseException | None = None
        self._pieces: list[bytes] = []
        self._n_kept = 0
        self._is_sent = False

    def begin_once(self, *_: object) -> int:
        """Refuse to be sent again.

        libcurl would, where a kept connection is closed before the answer (8.23,
        Curl_retry_request), though the server may have done what it was asked for: a MOVE that was
        done would be answered with 404. Of the other methods a second one does what the first did
        (RFC 9110 §9.2.2), and XRootD managers close each connection after a redirect.
        """
        if self._is_sent:
            return int(pycurl.PREREQFUNC_ABORT)
        self._is_sent = True
        return int(pycurl.PREREQFUNC_OK)

    def take(self, piece: bytes) -> int | None:
        """Pass on the next bytes to the sink: an exception must not leave a callback."""
        try:
            if self._pause_s is not None and self._pause_s(0) > 0:
                self.is_paused = True
                return int(pycurl.WRITEFUNC_PAUSE)  # libcurl keeps the piece, and gives it again
            returned = (self._write or self._begin())(piece)
            if self._pause_s is not None:
                self._pause_s(len(piece))
        except BaseException as why:  # noqa: BLE001  raised again where the exchange has ended
            self._failure = why
            return 0
        return returned

    def keep(self, piece: bytes) -> int | None:
        """Keep the start of a body that no sink receives."""
        self._pieces.append(piece)
        self._n_kept += len(piece)
        return None if self._n_kept <= MAX_DRAINED_BYTES else 0

    def read(self, n_bytes: int) -> bytes | int:
        """Return the next bytes to send."""
        try:
            if self._pause_s is None:
                return self._source.read(n_bytes)
            if self._pause_s(0) > 0:
                self.is_paused = True
                return int(pycurl.READFUNC_PAUSE)
            piece = self._source.read(min(n_bytes, _LIMITED_BYTES))
            self._pause_s(len(piece))
        except BaseException as why:  # noqa: BLE001  raised again where the exchange has ended
            self._failure = why
            return int(pycurl.READFUNC_ABORT)
        return piece

    def rewind(self, *_: int) -> int:
        """Rewind the body: libcurl found a kept connection dead, and sends it again."""
        try:
            self._source.rewind()
        except BaseException as why:  # noqa: BLE001  raised again where the exchange has ended
            self._failure = why
            return int(pycurl.SEEKFUNC_FAIL)
        return int(pycurl.SEEKFUNC_OK)

    @property
    def _source(self) -> Source:
        return self.hop.request.body  # type: ignore[return-value]  # of its kind of handle

    @property
    def _has_head(self) -> bool:
        return bool(self.lines) and self.lines[-1] == HEAD_END

    def _begin(self) -> Callable[[bytes], int | None]:
        self._answer = answer = Response(self.hop.url, self.lines)
        request = self.hop.request
        if answer.status not in request.good or request.sink is None:
            self._write = self.keep
            return self.keep
        request.sink.begin(answer)
        self._write = request.sink.write
        if request.silence_s is None:
            self._begun(self)
        return self._write

    def ended(self, error: CtaflowsError | None) -> Response:
        """Return what came.

        Parameters
        ----------
        error : CtaflowsError or None
            What libcurl said, where the response is not complete.

        Raises
        ------
        BaseException
            What is no error, such as KeyboardInterrupt in a callback.
        """
        if self._failure is not None and not isinstance(self._failure, Exception):
            raise self._failure
        answer = self._answer or Response(self.hop.url, self.lines)
        answer.body = b"".join(self._pieces)
        # a body that no sink receives has been received as far as it is needed
        has_enough = self._n_kept > MAX_DRAINED_BYTES
        answer.error = self._failure or (None if has_enough else error)
        sink = self.hop.request.sink
        if sink is None or self._failure is not None or answer.status not in self.hop.request.good:
            return answer
        try:
            # an empty body, or one that broke off before its first byte: a head tells what comes
            if self._answer is None and (error is None or self._has_head):
                sink.begin(answer)
                self._answer = answer
            # a connection may break after the last byte
            if self._answer is not None and sink.ended(answer):
                answer.error = None
        except CtaflowsError as why:
            answer.error = why
        return answer


def error_of(code: int, said: str, url: str, *, is_connected: bool) -> CtaflowsError:
    """Return our error for one of libcurl's.

    Parameters
    ----------
    code, said : int, str
        libcurl's.
    url : str
        URL that was asked.
    is_connected : bool
        Was there a connection, so that the request may have been sent?
    """
    proxy = policy.proxy_for(url, os.environ)
    if proxy is not None and (code in _UNUSABLE_PROXY or said.startswith(_UNSUPPORTED)):
        return unusable_proxy(proxy, said)
    if code in _LACKING:
        return lacking(url, said)
    if code == pycurl.E_SSL_CACERT:
        return untrusted(url, said)
    if code == pycurl.E_URL_MALFORMAT:
        return ProtocolSurprise("Not an address", where=url, said=said)
    is_late = code == pycurl.E_OPERATION_TIMEDOUT
    if code in _NOT_SENT or (is_late and not is_connected):
        return unreachable(url, said, proxy)
    if is_late:
        return silent(url, said)
    return NetworkError("The connection broke", where=url, said=said)


def lacking(url: str | None, said: str) -> CtaflowsError:
    """Return the error for what the system does not give libcurl."""
    return not_opened(url) or UsageError(
        "This machine gives libcurl less than it needs",
        where=url,
        said=said,
        hint="See what you may use, by ulimit -a, and that CTAFLOWS_CA_FILE can be read.",
    )
