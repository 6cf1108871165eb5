"""Many small requests at once over libcurl, in one thread: its multi interface.

Threads that each wait for an answer share one lock, and hand it on at each step. libcurl looks at
all sockets itself: to hear from it which to look at takes two calls into Python for each request.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pycurl

from ctaflows import cancel
from ctaflows.errors import redact
from ctaflows.transport.messages import MAX_SMALL_BYTES

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    from ctaflows.settings import Settings

T = TypeVar("T")

#: From this on MAXFILESIZE also ends a body whose length was not told (curl 8.4.0, its changelog).
_LEAST_LIBCURL = 0x080400
#: What select(2) can wait for; where a socket has a higher number all are looked at now and then.
_N_SELECTABLE = 1024
_NAP_S = 0.002


def is_able() -> bool:
    """Tell whether libcurl ends bodies that are too long by itself."""
    return bool(pycurl.version_info()[2] >= _LEAST_LIBCURL)


@dataclass(slots=True)
class Flight(Generic[T]):
    """One request on its way.

    Attributes
    ----------
    url : str
        What is asked, after redirects.
    tag : object
        Whose it is.
    n_hops : int
        Redirects so far.
    method : str
        ``GET``, ``HEAD``, ``PUT`` or ``MOVE``.
    body : bytes or None
        What is sent with it.
    lines, pieces : list of bytes
        The answer's head and its body.
    failure : str or None
        Why no whole answer came.
    """

    url: str
    tag: T
    n_hops: int = 0
    method: str = "GET"
    body: bytes | None = None
    lines: list[bytes] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    failure: str | None = None


class CurlMany:
    """Connections to one service, used by one caller at a time.

    Parameters
    ----------
    settings : Settings
        Timeouts.
    make : Callable
        Gives a new handle that verifies TLS as all others do.
    """

    def __init__(self, settings: Settings, make: Callable[[], pycurl.Curl]) -> None:
        self._make = make
        self._stall_s = math.ceil(settings.stall_timeout_s) or 1
        # by method: what it takes is set once
        self._idle: dict[str, list[pycurl.Curl]] = defaultdict(list)
        self._busy: dict[pycurl.Curl, Flight[Any]] = {}
        self._is_selectable = True
        self._multi = pycurl.CurlMulti()

    @property
    def n_busy(self) -> int:
        """How many are on their way."""
        return len(self._busy)

    def close(self) -> None:
        """Close all connections."""
        self.abandon()
        for handle in itertools.chain.from_iterable(self._idle.values()):
            handle.close()
        self._multi.close()

    def abandon(self, *methods: str) -> None:
        """Let go of all that is on its way, or of what has one of these methods."""
        for handle, flight in list(self._busy.items()):
            if not methods or flight.method in methods:
                self._land(handle)

    def begin(self, flight: Flight[T], headers: Sequence[bytes]) -> None:
        """Send a request.

        Parameters
        ----------
        flight : Flight
            What to ask for; its lists are filled.
        headers : sequence of bytes
            All of them.
        """
        idle = self._idle[flight.method]
        handle = idle.pop() if idle else self._new(flight.method)
        handle.setopt(pycurl.URL, flight.url)
        handle.setopt(pycurl.HTTPHEADER, headers)
        handle.setopt(pycurl.HEADERFUNCTION, flight.lines.append)
        handle.setopt(pycurl.WRITEFUNCTION, flight.pieces.append)
        if flight.body is not None:
            handle.setopt(pycurl.POSTFIELDS, flight.body)
        self._busy[handle] = flight
        self._multi.add_handle(handle)

    def landed(self, *stops: threading.Event) -> Iterator[Flight[Any]]:
        """Give those that have ended, as they end, until none is on its way or a stop is set.

        More may be begun meanwhile.
        """
        while self._busy and not any(stop.is_set() for stop in stops):
            self._multi.perform()
            is_more, has_any = True, False
            while is_more:
                n_more, ended, broken = self._multi.info_read()
                is_more, has_any = n_more > 0, bool(has_any or ended or broken)
                for handle in ended:
                    yield self._land(handle)
                for handle, _, said in broken:
                    flight = self._land(handle)
                    flight.failure = redact(said)
                    yield flight
            if not has_any:
                self._wait()

    def _new(self, method: str) -> pycurl.Curl:
        handle = self._make()
        if method == "HEAD":
            handle.setopt(pycurl.NOBODY, 1)
        elif method == "PUT":  # as a POST it needs no callback for its bytes, nor to begin anew
            handle.setopt(pycurl.POST, 1)
            handle.setopt(pycurl.CUSTOMREQUEST, method)
        else:
            handle.setopt(pycurl.HTTPGET, 1)
            if method != "GET":
                handle.setopt(pycurl.CUSTOMREQUEST, method)
        if method != "HEAD":  # its answer may tell of a larger file
            handle.setopt(pycurl.MAXFILESIZE_LARGE, MAX_SMALL_BYTES)
        handle.setopt(pycurl.NOPROGRESS, 1)
        handle.setopt(pycurl.SOCKOPTFUNCTION, self._heed)
        handle.setopt(pycurl.LOW_SPEED_TIME, self._stall_s)
        return handle

    def _land(self, handle: pycurl.Curl) -> Flight[Any]:
        self._multi.remove_handle(handle)
        flight = self._busy.pop(handle)
        self._idle[flight.method].append(handle)
        return flight

    def _wait(self) -> None:
        """Wait until something comes, or it is time for libcurl to look."""
        due_ms = self._multi.timeout()
        wait_s = cancel.GLANCE_S if due_ms < 0 else min(due_ms / 1000, cancel.GLANCE_S)
        if wait_s and (not self._is_selectable or self._multi.select(wait_s) < 0):
            time.sleep(min(wait_s, _NAP_S))

    def _heed(self, descriptor: int, _purpose: int) -> int:
        """Look at the number of a new socket."""
        self._is_selectable &= descriptor < _N_SELECTABLE
        return int(pycurl.SOCKOPT_OK)
