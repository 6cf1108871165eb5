"""Listings of one directory by PROPFIND: streamed, resumed where they break off, a few at once."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING

from ctaflows import cancel
from ctaflows.errors import ProtocolSurprise, Stopped
from ctaflows.retry import Retries
from ctaflows.storage import links, paths
from ctaflows.storage.propfind import BODY, MultistatusParser
from ctaflows.transport.ask import ask
from ctaflows.transport.driver import borrowed, run_journey
from ctaflows.transport.wishes import READ, Request

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ctaflows.model import Entry
    from ctaflows.transport.ask import Session
    from ctaflows.transport.wishes import Journey, Response

log = logging.getLogger("ctaflows.storage")

_LINES = (
    b"Content-Type: application/xml; charset=utf-8",
    b"Accept: text/plain, application/xml",  # see ask
    # dCache leaves out the propstats of unknown properties, status 404 (Milton 2.7.3, patched for
    # dCache, DefaultWebDavResponseHandler.java; seen with 11.2.5)
    b"Brief: t",
)
_DEPTH_0 = (*_LINES, b"Depth: 0")
_DEPTH_1 = (*_LINES, b"Depth: 1")
#: So many bytes of a listing are parsed at once.
_PARSED_BYTES = 1 << 16


class Lister:
    """Sends PROPFIND to a WebDAV server and parses the answers; may be used by many threads.

    Parameters
    ----------
    session : Session
        The service. Of its settings: ``door_url``; ``attempts`` and the pauses between them;
        ``listings``, how many directories are listed at once; ``listing_timeout_s``, the longest
        wait for the next bytes of a listing.

    Attributes
    ----------
    permits : ListingSemaphore
        Bounds the concurrent listings.
    server : str or None
        Server header of the last answer, empty where it has none; None before the first answer.
    has_seen_dcache : bool
        Did any answer have what only dCache's have: a pnfsid, or a locality? The Server header may
        be that of a proxy.
    root : str
        The door's root on its server, see `paths.root_of`.
    """

    def __init__(self, session: Session) -> None:
        settings = session.settings
        self.permits = ListingSemaphore(settings.listings)
        self.server: str | None = None
        self.has_seen_dcache = False
        self._session = session
        self._settings = settings
        self.root = paths.root_of(settings.door_url)

    def batches(
        self, path: str, url: str, stop: threading.Event | None = None
    ) -> Iterator[Sequence[Entry]]:
        """Yield the entries of a directory in lists, as they arrive.

        What may be a symbolic link is asked for by itself, see `links.resolved`.

        If the connection breaks, or the door closes it because the reader was idle
        (``webdav.limits.idle-time``, 300 s in dCache 12.1; dCache #5461), the directory is listed
        again, and entries that were yielded before are left out. Only tries in a row that bring no
        new entry count.

        Parameters
        ----------
        path, url : str
            Normalised path of a directory, and its URL; for a file the one entry is the file.
        stop : threading.Event, optional
            Ends the listing soon after it is set.

        Raises
        ------
        Stopped
            `stop` was set, or the work of this context was cancelled.
        ListingUnreadable
            The answer is not a listing, or is incomplete.
        NetworkError
            The connection broke as often as the settings allow.
        """
        stop = stop or threading.Event()

        def describe(suspect: str) -> Entry:
            permit = ListingPermit()
            self.permits.acquire(permit, stop)
            try:
                return self.describe(suspect, paths.url(self._settings.door_url, suspect))
            finally:
                self.permits.release(permit)

        with cancel.link_child(stop):
            for batch in self._arriving(path, url, stop):
                is_itself = batch[0].path == path  # a file that lists itself
                at_once = self._settings.listings
                yield batch if is_itself else links.resolved(batch, describe, at_once, stop)

    def _arriving(self, path: str, url: str, stop: threading.Event) -> Iterator[Sequence[Entry]]:
        """Yield the entries of a directory as they are listed."""
        sink, permit, error = _Entries(self, path), ListingPermit(), None
        self.permits.acquire(permit, stop)
        try:
            with borrowed(self._session) as driver:
                steps = driver.steps(self._listing(url, sink), self._session, stop)
                with contextlib.closing(steps):
                    for task in steps:
                        if task is not None:  # the last entries need neither permit nor driver
                            error = task.error
                        elif batch := sink.taken():
                            self.permits.lend(permit)
                            yield batch
                            self.permits.acquire(permit, stop)
        finally:
            self.permits.release(permit)
        if stop.is_set():
            raise Stopped("The listing was stopped")
        if batch := sink.taken():
            yield batch
        if error is not None:
            raise error

    def _listing(self, url: str, sink: _Entries) -> Journey[None]:
        silence_s = self._settings.listing_timeout_s
        request = Request(
            "PROPFIND", url, _DEPTH_1, body=BODY, sink=sink, good=READ, silence_s=silence_s
        )
        yield from ask(request, self._session, Retries(self._settings))
        if sink.itself is not None:
            self._notice(sink.itself)

    def describe(self, path: str, url: str) -> Entry:
        """Return the entry of one file or directory, by PROPFIND of depth 0.

        Parameters
        ----------
        path, url : str
            Normalised path, and its URL.

        Raises
        ------
        NotFound
            There is nothing at that path.
        ListingUnreadable, ProtocolSurprise
            The answer does not describe it.
        """
        journey = self.describing(path, url, Retries(self._settings))
        return run_journey(journey, self._session, takes_slots=False, stop=cancel.current())

    def describing(self, path: str, url: str, retries: Retries) -> Journey[Entry]:
        """Return the entry of one file or directory, as `describe` does; a journey."""
        sink = _Multistatus(self, path)
        request = Request("PROPFIND", url, _DEPTH_0, body=BODY, sink=sink, good=READ)
        yield from ask(request, self._session, retries)
        if sink.itself is None:
            raise ProtocolSurprise("The answer does not describe what was asked for", where=url)
        self._notice(sink.itself)
        return sink.itself

    def _notice(self, itself: Entry) -> None:
        if links.pnfsid(itself) is not None or itself.locality is not None:
            self.has_seen_dcache = True


class _Multistatus:
    """The receiver of the answer to a PROPFIND.

    Attributes
    ----------
    itself : Entry or None
        The entry of the path that was asked for, once it has come.
    """

    n_received, worth_bytes = 0, 1

    def __init__(self, lister: Lister, path: str) -> None:
        self._lister, self._path = lister, path
        self._parser = MultistatusParser(path, lister.root)

    @property
    def itself(self) -> Entry | None:
        return self._parser.itself

    def range_line(self) -> None:
        """Return None: there is always the whole answer."""

    def begin(self, answer: Response) -> None:
        """Look at the head of an answer.

        Raises
        ------
        ProtocolSurprise
            It is no multistatus.
        """
        self._lister.server = answer.header("server") or ""
        if answer.status != 207:  # such as the page that StoRM WebDAV 1.8.1 has at its root
            raise ProtocolSurprise(
                f"The answer to PROPFIND is {answer.status}, not 207",
                where=answer.url,
                hint="Is this a WebDAV door? Check CTAFLOWS_DOOR_URL: StoRM has files below "
                "the paths of its storage areas alone, such as https://host:port/AREA.",
            )
        self._parser = MultistatusParser(self._path, self._lister.root)

    def write(self, piece: bytes) -> None:
        """Parse the next bytes."""
        self._parser.feed(piece)

    def ended(self, answer: Response) -> bool:
        """Judge an answer that has ended, or broke off.

        Raises
        ------
        ListingUnreadable
            It has ended, but is incomplete.
        """
        if answer.error is not None:
            return False
        self._parser.close()
        return True


class _Entries(_Multistatus):
    """The receiver of the listing of a directory.

    Bytes are parsed when the entries are taken, or when many have come: in one piece, since servers
    send them in small ones.

    Attributes
    ----------
    n_received : int
        Number of entries that no earlier try had.
    """

    def __init__(self, lister: Lister, path: str) -> None:
        super().__init__(lister, path)
        self._known = _KnownPaths()
        self._pieces: list[bytes] = []
        self._n_held = 0
        self._fresh: list[Entry] = []
        self.n_received = 0

    def begin(self, answer: Response) -> None:
        """Look at the head of an answer; errors as for `_Multistatus.begin`."""
        super().begin(answer)
        self._known.end_attempt()

    def write(self, piece: bytes) -> None:
        """Keep the next bytes, and parse them if they are many."""
        self._pieces.append(piece)
        self._n_held += len(piece)
        if self._n_held >= _PARSED_BYTES:
            self._parse()

    def ended(self, answer: Response) -> bool:
        """Judge an answer that has ended, or broke off; errors as for `_Multistatus.ended`."""
        self._parse()
        if answer.error is not None:
            return False
        self._add(self._parser.close())
        if self.itself is not None and not self.itself.is_dir:
            self._add([self.itself])
        return True

    def taken(self) -> list[Entry]:
        """Return the entries that have come since the last call, without those known before."""
        self._parse()
        fresh, self._fresh = self._fresh, []
        return fresh

    def _parse(self) -> None:
        if self._pieces:
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._n_held = 0
            self._add(self._parser.feed(data))

    def _add(self, entries: list[Entry]) -> None:
        fresh = self._known.add(entries)
        self.n_received += len(fresh)
        self._fresh += fresh


class _KnownPaths:
    """The paths in all answers to one listing, as hashes: 8 bytes each."""

    def __init__(self) -> None:
        self._hashes = array("q")
        self._earlier = array("q")  # sorted, of the attempts before this one

    def add(self, batch: Iterable[Entry]) -> list[Entry]:
        """Add entries, and return those that no earlier answer had."""
        fresh = [e for e in batch if not self._earlier or not self._is_known(e)]
        self._hashes.extend([hash(entry.path) for entry in fresh])
        return fresh

    def end_attempt(self) -> None:
        """Begin the next answer, which lists the same entries again."""
        self._earlier = array("q", sorted([*self._earlier, *self._hashes]))
        self._hashes = array("q")

    def _is_known(self, entry: Entry) -> bool:
        value = hash(entry.path)
        place = bisect_left(self._earlier, value)
        return place < len(self._earlier) and self._earlier[place] == value


# -- concurrent listings ---------------------------------------------------------------------------
#
# A semaphore for concurrent listings, whose permits can be reclaimed from readers that are idle.
#
# The code that reads a listing may pause between two entries for as long as it likes, and may list
# directories or transfer files meanwhile. If it held its permit all the time, others would wait,
# and a reader that lists another directory itself could wait for ever. So a permit is lent while
# the reader has the entries, and a thread that needs it may reclaim it after a short time.

#: A lent permit can be reclaimed after this time, seconds.
RECLAIM_AFTER_S = 0.2
#: Interval at which a waiting thread looks for free permits and for its stop event, seconds.
_POLL_S = 0.05


class ListingPermit:
    """The permit of one listing, see `ListingSemaphore`.

    Attributes
    ----------
    is_held : bool
        Has it been acquired, and been neither released nor reclaimed?
    """

    __slots__ = ("is_held",)

    def __init__(self) -> None:
        self.is_held = False


class ListingSemaphore:
    """A semaphore for concurrent listings, whose lent permits can be reclaimed.

    Parameters
    ----------
    n_permits : int
        Greatest number of permits held at once.
    """

    def __init__(self, n_permits: int) -> None:
        self._condition = threading.Condition()
        self._n_free = n_permits
        self._lent: dict[ListingPermit, float] = {}  # with the time, see `time.monotonic`

    def acquire(self, permit: ListingPermit, stop: threading.Event | None = None) -> None:
        """Wait for a permit; one that was lent and not reclaimed is held again at once.

        Parameters
        ----------
        permit : ListingPermit
            The permit to acquire.
        stop : threading.Event, optional
            Ends the wait when it is set; so does cancelling the work of this context, see `cancel`.

        Raises
        ------
        Stopped
            `stop` was set, or the work was cancelled.
        """
        stops = {stop or cancel.current(), cancel.current()}
        with self._condition:
            self._lent.pop(permit, None)
            while not permit.is_held and not self._try_acquire(permit):
                if any(stop.is_set() for stop in stops):
                    raise Stopped("The listing was stopped")
                self._condition.wait(_POLL_S)

    def lend(self, permit: ListingPermit) -> None:
        """Allow others to reclaim a permit, until it is acquired again."""
        with self._condition:
            if permit.is_held:
                self._lent[permit] = time.monotonic()

    def release(self, permit: ListingPermit) -> None:
        """Release a permit; nothing is done where it is not held."""
        with self._condition:
            self._lent.pop(permit, None)
            if permit.is_held:
                permit.is_held = False
                self._n_free += 1
                self._condition.notify()

    def _try_acquire(self, permit: ListingPermit) -> bool:
        """Take a free permit, or reclaim a lent one; return whether there was one."""
        if self._n_free:
            self._n_free -= 1
            permit.is_held = True
            return True
        now = time.monotonic()
        idle = next((p for p, since in self._lent.items() if now - since >= RECLAIM_AFTER_S), None)
        if idle is None:
            return False
        del self._lent[idle]
        idle.is_held, permit.is_held = False, True
        return True
