"""Small requests that follow from each other, many files at once and all in one thread.

What comes of each is for the caller to judge: nothing is repeated here, and no redirect followed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ctaflows.errors import redact
from ctaflows.transport.curl_backend import read_head
from ctaflows.transport.curl_many import Flight
from ctaflows.transport.lines import Lines
from ctaflows.transport.messages import header_line

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping

    from ctaflows.transport.curl_many import CurlMany

log = logging.getLogger("ctaflows.transport")

#: What libcurl sends with a body, unless it is told nothing of it.
_LIBCURLS = ("Expect:", "Content-Type:")


class Word:
    """An answer without its body, whose headers are read when they are asked for.

    Attributes
    ----------
    status : int
        HTTP status.
    url : str
        Where it came from.
    """

    __slots__ = ("_lines", "status", "url")

    def __init__(self, flight: Flight[Any]) -> None:
        self.url, self._lines = flight.url, flight.lines
        first = self._lines[0]
        is_alone = self._lines.count(b"\r\n") == 1 and first.startswith(b"HTTP/1.1 ")
        self.status = int(first[9:12]) if is_alone else read_head(self._lines)[0]

    @property
    def is_good(self) -> bool:
        """Was it done?"""
        return 200 <= self.status < 300

    @property
    def headers(self) -> Mapping[str, str]:
        """Caseless."""
        return read_head(self._lines)[2]


class Convoy:
    """PUT, HEAD and MOVE of many small files.

    Parameters
    ----------
    many : CurlMany
        Carries them.
    headers : Mapping
        Sent with each.
    token_for : Callable
        As for `lines.Lines`.
    closing : threading.Event
        Ends all when it is set.
    """

    def __init__(
        self,
        many: CurlMany,
        headers: Mapping[str, str],
        token_for: Callable[[str], str | None],
        closing: threading.Event,
    ) -> None:
        self._many, self._closing = many, closing
        self._lines = Lines(headers, token_for)

    def abandon(self, *methods: str) -> None:
        """Let go of all that is on its way, or of what has one of these methods."""
        self._many.abandon(*methods)

    def send(
        self,
        method: str,
        url: str,
        tag: object,
        further: tuple[bytes, ...] = (),
        *,
        own: tuple[bytes, ...] = (),
        body: bytes | None = None,
    ) -> None:
        """Send a request.

        Parameters
        ----------
        method, url : str
            The request.
        tag : object
            By which the caller knows it.
        further : tuple of bytes
            Header lines that many requests share, see `lines`.
        own : tuple of bytes
            Header lines of this one.
        body : bytes, optional
            What goes with it.
        """
        lines = self._lines.to(url, further)
        flight = Flight(url, tag, method=method, body=body)
        self._many.begin(flight, [*lines, *own] if own else lines)

    def answers(self, *stops: threading.Event) -> Iterator[tuple[Any, Word | None]]:
        """Give what is answered, until nothing is on its way or a stop is set.

        Yields
        ------
        tag, word
            The answer, of any status; None where no whole one came.
        """
        for flight in self._many.landed(self._closing, *stops):
            if flight.failure is None:
                yield flight.tag, Word(flight)
            else:
                log.warning("No answer from %s (%s)", redact(flight.url), flight.failure)
                yield flight.tag, None

    @staticmethod
    def lines(*headers: str, has_body: bool = False) -> tuple[bytes, ...]:
        """Make header lines that can be sent; with a body libcurl would send more unless told."""
        asked = {header.partition(":")[0] for header in headers}
        unasked = [h for h in _LIBCURLS if h[:-1] not in asked] if has_body else []
        return tuple(map(header_line, [*headers, *unasked]))
