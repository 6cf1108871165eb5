"""Many small files at once: the common case of a good answer, as cheap as it can be.

The rules for the token and for redirects are those of `Transport`. What goes wrong in any way is
left to `Transport.receive`, which knows what to repeat, and when.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from ctaflows.errors import CtaflowsError, redact
from ctaflows.transport import policy
from ctaflows.transport.curl_backend import read_head
from ctaflows.transport.curl_many import Flight
from ctaflows.transport.lines import Lines
from ctaflows.transport.messages import Head

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping

    from ctaflows.transport.curl_many import CurlMany

log = logging.getLogger("ctaflows.transport")

T = TypeVar("T")

#: Answers that would come to all others too: three of 401 block an address at a dCache door.
_MEANT_FOR_ALL = frozenset({401, 429, 503})
#: So many failures in a row, and it is not tried any more.
_PATIENCE = 3


class Crowd:
    """GETs of many small files.

    Parameters
    ----------
    many : CurlMany
        Carries them.
    headers : Mapping
        Sent with each.
    token_for : Callable
        Gives the token that may be sent to a URL, or None; see `lines.Lines`.
    redirect : Callable
        Says where a redirect leads, or refuses it: ``(method, here, location)``.
    """

    def __init__(
        self,
        many: CurlMany,
        headers: Mapping[str, str],
        token_for: Callable[[str], str | None],
        redirect: Callable[[str, str, str | None], str],
    ) -> None:
        self._many, self._redirect = many, redirect
        self._lines = Lines(headers, token_for)
        self._n_failed = 0
        self._is_over = False

    def received(
        self, wanted: Iterator[tuple[str, T]], at_once: int, *stops: threading.Event
    ) -> Iterator[tuple[T, Head | None, bytes]]:
        """Ask for files, and give each as it has come.

        Parameters
        ----------
        wanted : iterator of (str, object)
            URL, and a tag by which the caller knows it.
        at_once : int
            How many may be on their way.
        stops : threading.Event
            Each ends all.

        Yields
        ------
        tag, head, body
            The head is None if no good answer came. After several such in a row, or one that is
            meant for all, no more is asked for, and the rest of what is wanted is left where it is.
        """
        try:
            self._fill(wanted, at_once)
            for flight in self._many.landed(*stops):
                if not self._led_on(flight):
                    yield flight.tag, *self._read(flight)
                self._fill(wanted, at_once)
        finally:
            self._many.abandon()

    def _fill(self, wanted: Iterator[tuple[str, T]], at_once: int) -> None:
        while self._many.n_busy < at_once and not self._is_over:
            order = next(wanted, None)
            if order is None:
                return
            self._begin(Flight(*order))

    def _begin(self, flight: Flight[T]) -> None:
        self._many.begin(flight, self._lines.to(flight.url))

    def _led_on(self, flight: Flight[T]) -> bool:
        """Follow a redirect."""
        if flight.failure or flight.n_hops >= policy.MAX_HOPS or not _is_redirect(flight.lines):
            return False
        location = read_head(flight.lines)[2].get("location")
        try:
            there = self._redirect("GET", flight.url, location)
        except CtaflowsError:
            return False
        self._begin(Flight(there, flight.tag, flight.n_hops + 1))
        return True

    def _read(self, flight: Flight[T]) -> tuple[Head | None, bytes]:
        said = flight.failure
        if said is None:
            status, reason, headers = read_head(flight.lines)
            if status == 200:
                self._n_failed = 0
                return Head(status, flight.url, headers), b"".join(flight.pieces)
            said = f"{status} {reason}"
            self._is_over = status in _MEANT_FOR_ALL or self._is_over
        self._n_failed += 1
        self._is_over = self._n_failed >= _PATIENCE or self._is_over
        log.warning("No good answer from %s (%s); asking again", redact(flight.url), said)
        return None, b""


def _is_redirect(lines: list[bytes]) -> bool:
    """Look at the first line alone where there is but one head: most answers are no redirects."""
    if lines.count(b"\r\n") == 1 and lines[0][9:10] != b"3":
        return False
    return read_head(lines)[0] in policy.REDIRECTS
