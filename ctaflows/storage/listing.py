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
from ctaflows.errors import NetworkError, ProtocolSurprise, Stopped
from ctaflows.retry import Retries
from ctaflows.storage import links, paths
from ctaflows.storage.propfind import BODY, MultistatusParser
from ctaflows.transport.ask import ask
from ctaflows.transport.driver import run_journey
from ctaflows.transport.wishes import READ, Request

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ctaflows.model import Entry
    from ctaflows.transport import Stream, Transport
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
_HEADERS = {
    "Content-Type": "application/xml; charset=utf-8",
    "Accept": "text/plain, application/xml",  # see transport.client
    # dCache leaves out the propstats of unknown properties, status 404 (Milton 2.7.3, patched for
    # dCache, DefaultWebDavResponseHandler.java; seen with 11.2.5)
    "Brief": "t",
}


class Lister:
    """Sends PROPFIND to a WebDAV server and parses the answers; may be used by many threads.

    Parameters
    ----------
    transport : Transport
        Sends the requests for listings.
    session : Session
        For all other requests. Of its settings: ``door_url``; ``attempts`` and the pauses between
        them; ``listings``, how many directories are listed at once; ``listing_timeout_s``, the
        longest wait for the next bytes of a listing.

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

    def __init__(self, transport: Transport, session: Session) -> None:
        settings = session.settings
        self.permits = ListingSemaphore(settings.listings)
        self.server: str | None = None
        self.has_seen_dcache = False
        self._transport, self._session = transport, session
        self._settings = settings
        self.root = paths.root_of(settings.door_url)

    def batches(
        self, path: str, url: str, stop: threading.Event | None = None
    ) -> Iterator[Sequence[Entry]]:
        """Yield the entries of a directory in lists, as they arrive.

        What may be a symbolic link is asked for by itself, see `links.resolved`.

        If the connection breaks, or the door closes it because the reader was idle
        (``webdav.limits.idle-time``, 300 s in dCache 12.1; dCache #5461), the directory is listed
        again, and entries that were yielded before are left out. Only attempts in a row that bring
        no new entry count.

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
        with cancel.link_child(stop):
            yield from self._resumed(path, url, stop)

    def _resumed(self, path: str, url: str, stop: threading.Event) -> Iterator[Sequence[Entry]]:
        def describe(suspect: str) -> Entry:
            permit = ListingPermit()
            self.permits.acquire(permit, stop)
            try:
                return self.describe(suspect, paths.url(self._settings.door_url, suspect))
            finally:
                self.permits.release(permit)

        at_once = self._settings.listings
        yielded = _YieldedPaths()
        retries = Retries(self._settings)
        while True:
            n_before = len(yielded)
            try:
                for batch in self._once(path, url, stop):
                    if fresh := yielded.add(batch):
                        is_itself = fresh[0].path == path  # a file that lists itself
                        yield fresh if is_itself else links.resolved(fresh, describe, at_once, stop)
            except NetworkError as why:
                self._pause_or_raise(why, retries, stop, progress=len(yielded) > n_before)
                yielded.end_attempt()
            else:
                return

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
        return run_journey(journey, self._session, takes_slots=False)

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

    def _once(self, path: str, url: str, stop: threading.Event) -> Iterator[list[Entry]]:
        parser = MultistatusParser(path, self.root)
        permit = ListingPermit()
        self.permits.acquire(permit, stop)
        try:
            with self._propfind(url, "1") as stream:
                for chunk in stream.chunks():
                    if batch := parser.feed(chunk):
                        self.permits.lend(permit)
                        yield batch
                        self.permits.acquire(permit, stop)
                    if stop.is_set():
                        raise Stopped("The listing was stopped")
                last = parser.close()
        finally:
            self.permits.release(permit)
        if parser.itself is not None:
            self._notice(parser.itself)
            if not parser.itself.is_dir:
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
                    hint="Is this a WebDAV door? Check CTAFLOWS_DOOR_URL: StoRM has files below "
                    "the paths of its storage areas alone, such as https://host:port/AREA.",
                )
            yield got

    def _wait_s(self, depth: str) -> float | None:
        return self._settings.listing_timeout_s if depth == "1" else None

    @staticmethod
    def _pause_or_raise(
        why: NetworkError, retries: Retries, stop: threading.Event, *, progress: bool = False
    ) -> None:
        """Wait before the next attempt; raise unless the body broke off and attempts are left.

        Errors before the body have already been retried by the transport.
        """
        if not why.in_body:
            raise why
        pause = retries.pause_or_raise(why, progress=progress)
        log.warning("%s; listing it again in %.1f s", why, pause)
        if cancel.wait(pause, stop, cancel.current()):
            raise Stopped("The listing was stopped") from None


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


class _YieldedPaths:
    """The paths yielded by all attempts of a listing, as hashes: 8 bytes each."""

    def __init__(self) -> None:
        self._hashes = array("q")
        self._earlier = array("q")  # sorted, of the attempts before this one

    def __len__(self) -> int:
        return len(self._hashes) + len(self._earlier)

    def add(self, batch: Iterable[Entry]) -> list[Entry]:
        """Add entries, and return those that no earlier attempt had."""
        fresh = [e for e in batch if not self._earlier or not self._was_yielded(e)]
        self._hashes.extend([hash(entry.path) for entry in fresh])
        return fresh

    def end_attempt(self) -> None:
        """Begin the next attempt, which lists the same entries again."""
        self._earlier = array("q", sorted([*self._earlier, *self._hashes]))
        self._hashes = array("q")

    def _was_yielded(self, entry: Entry) -> bool:
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
