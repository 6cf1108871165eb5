"""Listings of one directory: streamed, taken up again where they broke off, a few at a time."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING

from ctaflows import cancel
from ctaflows.errors import NetworkError, ProtocolSurprise, Stopped
from ctaflows.retry import Retries
from ctaflows.storage.propfind import BODY, MultistatusParser

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ctaflows.model import Entry
    from ctaflows.settings import Settings
    from ctaflows.transport import Stream, Transport

log = logging.getLogger("ctaflows.storage")

_HEADERS = {
    "Content-Type": "application/xml; charset=utf-8",
    "Accept": "text/plain, application/xml",  # see transport.client
    "Brief": "t",  # dCache leaves out what it does not know (Milton 2.7.3, patched for dCache)
}


class Lister:
    """Asks a WebDAV server what is there.

    Parameters
    ----------
    transport : Transport
        The way to the server.
    settings : Settings
        ``attempts`` and pauses between them; ``listings``.

    Attributes
    ----------
    slots : ListingSemaphore
        One for each directory that may be listed at once.
    server : str or None
        What the server called itself, empty where it has no name; None before the first answer.
    """

    def __init__(self, transport: Transport, settings: Settings) -> None:
        self.slots = ListingSemaphore(settings.listings)
        self.server: str | None = None
        self._transport = transport
        self._settings = settings

    def batches(
        self, path: str, url: str, stop: threading.Event | None = None
    ) -> Iterator[list[Entry]]:
        """Give the entries of a directory in lists, as they arrive.

        A connection that breaks, or that the door closes because its reader takes a long time
        (webdav.limits.idle-time, 300 s in dCache 12.1; dCache #5461), is taken up again, as long as
        each brings something new; what was given is not given again.

        Parameters
        ----------
        path, url : str
            A directory, normalised, and its URL; for a file the one entry is the file itself.
        stop : threading.Event, optional
            Ends the listing soon after it is set.

        Raises
        ------
        Stopped
            It was set.
        """
        stop = stop or threading.Event()
        with cancel.link_child(stop):
            yield from self._all(path, url, stop)

    def _all(self, path: str, url: str, stop: threading.Event) -> Iterator[list[Entry]]:
        given = _Names()
        retries = Retries(self._settings)
        while True:
            n_before = len(given)
            try:
                for batch in self._once(path, url, stop):
                    if fresh := given.add(batch):
                        yield fresh
            except NetworkError as why:
                self._pause_or_raise(why, retries, stop, progress=len(given) > n_before)
                given.close()
            else:
                return

    def describe(self, path: str, url: str) -> Entry:
        """Give the entry of one file or directory."""
        retries = Retries(self._settings)
        while True:
            parser = MultistatusParser(path)
            try:
                with self._propfind(url, "0") as stream:
                    for chunk in stream.chunks():
                        parser.feed(chunk)
                    parser.close()
                break
            except NetworkError as why:
                self._pause_or_raise(why, retries, cancel.current())
        if parser.itself is None:
            raise ProtocolSurprise("The answer describes something else", where=url)
        return parser.itself

    def _once(self, path: str, url: str, stop: threading.Event) -> Iterator[list[Entry]]:
        parser = MultistatusParser(path)
        slot = ListingPermit()
        self.slots.take(slot, stop)
        try:
            with self._propfind(url, "1") as stream:
                for chunk in stream.chunks():
                    if batch := parser.feed(chunk):
                        self.slots.lend(slot)
                        yield batch
                        self.slots.take(slot, stop)
                    if stop.is_set():
                        raise Stopped("The listing was stopped")
                last = parser.close()
        finally:
            self.slots.give(slot)
        if parser.itself is not None and not parser.itself.is_dir:
            last.append(parser.itself)
        if last:
            yield last

    @contextlib.contextmanager
    def _propfind(self, url: str, depth: str) -> Iterator[Stream]:
        headers = {**_HEADERS, "Depth": depth}
        with self._transport.stream(
            "PROPFIND", url, headers=headers, content=BODY, wait_s=self._wait_s(depth)
        ) as got:
            self.server = got.headers.get("server", "")
            if got.status != 207:  # such as the page that StoRM WebDAV 1.8.1 has at its root
                raise ProtocolSurprise(
                    f"The answer to PROPFIND is {got.status}, not 207",
                    where=got.url,
                    hint="Is this a WebDAV door? Check CTAFLOWS_DOOR_URL.",
                )
            yield got

    def _wait_s(self, depth: str) -> float | None:
        return self._settings.listing_timeout_s if depth == "1" else None

    @staticmethod
    def _pause_or_raise(
        why: NetworkError, retries: Retries, stop: threading.Event, *, progress: bool = False
    ) -> None:
        """Wait before a listing whose body broke is asked for again (the rest was tried below)."""
        if not why.in_body:
            raise why
        pause = retries.pause_or_raise(why, progress=progress)
        log.warning("%s; listing it again in %.1f s", why, pause)
        if cancel.wait(pause, stop, cancel.current()):
            raise Stopped("The listing was stopped") from None


class _Names:
    """Which names were given: 8 bytes for each, so that a million are no burden."""

    def __init__(self) -> None:
        self._hashes = array("q")
        self._closed = array("q")  # sorted, of the tries that broke

    def __len__(self) -> int:
        return len(self._hashes) + len(self._closed)

    def add(self, batch: Iterable[Entry]) -> list[Entry]:
        """Give those that no earlier try had, and remember them."""
        fresh = [e for e in batch if not self._closed or not self._had(e)]
        self._hashes.extend([hash(entry.path) for entry in fresh])
        return fresh

    def close(self) -> None:
        """Say that what was given so far may come again."""
        self._closed = array("q", sorted([*self._closed, *self._hashes]))
        self._hashes = array("q")

    def _had(self, entry: Entry) -> bool:
        value = hash(entry.path)
        place = bisect_left(self._closed, value)
        return place < len(self._closed) and self._closed[place] == value


# -- concurrent listings ---------------------------------------------------------------------------
#
# A semaphore for concurrent listings, whose permits can be reclaimed from readers that are idle.
#
# The reader of a listing may stop between two entries for as long as it likes, and may list or move
# files meanwhile. A permit held for so long would keep others waiting, and in the end its own
# holder for ever: so it is on loan while the reader has its turn, and who needs one may take it.

#: Readers that come back within this time keep their slot, in seconds.
PATIENCE_S = 0.2
_POLL_S = 0.05


class ListingPermit:
    """A claim to one of the slots.

    Attributes
    ----------
    is_held : bool
        Is it fulfilled?
    """

    __slots__ = ("is_held",)

    def __init__(self) -> None:
        self.is_held = False


class ListingSemaphore:
    """So many listings at once.

    Parameters
    ----------
    n_slots : int
        How many.
    """

    def __init__(self, n_slots: int) -> None:
        self._condition = threading.Condition()
        self._n_free = n_slots
        self._lent: dict[ListingPermit, float] = {}  # and since when

    def take(self, slot: ListingPermit, stop: threading.Event | None = None) -> None:
        """Wait for a slot; one's own, if it was lent and nobody took it, is there at once.

        Parameters
        ----------
        slot : ListingPermit
            The claim.
        stop : threading.Event, optional
            Ends the wait when it is set; so does the end of the work it belongs to, see `cancel`.

        Raises
        ------
        Stopped
            It was set.
        """
        stops = {stop or cancel.current(), cancel.current()}
        with self._condition:
            self._lent.pop(slot, None)
            while not slot.is_held and not self._find(slot):
                if any(stop.is_set() for stop in stops):
                    raise Stopped("The listing was stopped")
                self._condition.wait(_POLL_S)

    def lend(self, slot: ListingPermit) -> None:
        """Leave a slot to whoever needs it, until it is taken again."""
        with self._condition:
            if slot.is_held:
                self._lent[slot] = time.monotonic()

    def give(self, slot: ListingPermit) -> None:
        """Give a slot back for good."""
        with self._condition:
            self._lent.pop(slot, None)
            if slot.is_held:
                slot.is_held = False
                self._n_free += 1
                self._condition.notify()

    def _find(self, slot: ListingPermit) -> bool:
        """Take a free slot, or that of a reader which has been away for long."""
        if self._n_free:
            self._n_free -= 1
            slot.is_held = True
            return True
        now = time.monotonic()
        away = next((s for s, since in self._lent.items() if now - since >= PATIENCE_S), None)
        if away is None:
            return False
        del self._lent[away]
        away.is_held, slot.is_held = False, True
        return True
