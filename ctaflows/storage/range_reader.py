"""Range requests for one file, sent to its pool over a persistent connection.

The first request goes to the door, which redirects to a pool; later ones go to the pool's URL. It
expires (dCache ends it after some idle time, with its last connection, or when the pool restarts;
then the pool answers 307 to the door, 400, 404 or 410: HttpPoolRequestHandler.java,
NettyTransferService.java, dCache 12.1), and then the door is asked again.

All answers must be of the same version of the file. A dCache pool's answers have no ETag, but a
pool URL stands for one replica, which never changes: after the first one, a *new* pool URL is used
once PROPFIND at the door has shown that the file is unchanged. Answers of other servers are
compared by ETag and Last-Modified; where they have neither, the door is asked after each of them.
"""

from __future__ import annotations

import logging
import re
import threading
from typing import TYPE_CHECKING

from ctaflows import cancel
from ctaflows.errors import (
    CtaflowsError,
    NetworkError,
    NoRanges,
    ProtocolSurprise,
    SourceChanged,
    Stopped,
    Truncated,
)
from ctaflows.retry import Retries
from ctaflows.storage import paths
from ctaflows.storage.answers import Versions, check_answer, check_version, version_of
from ctaflows.transport import origin
from ctaflows.transport.ask import ask
from ctaflows.transport.driver import Driver, run_journey
from ctaflows.transport.wishes import READ, Pause, Request

if TYPE_CHECKING:
    from ctaflows.model import Entry
    from ctaflows.storage.protocol import Storage
    from ctaflows.transport.wishes import Journey, Response

log = logging.getLogger("ctaflows.storage")

#: URLs with this query are of one replica (HttpTransferService.java:70, dCache 12.1).
_ONE_REPLICA = re.compile(r"[?&]dcache-http-uuid=")
#: After these failures what came before is right; None stands for success.
_HAS_BYTES = NetworkError | Truncated | None


class RangeReader:
    """Reads ranges of one remote file; for one thread at a time.

    Parameters
    ----------
    door : Storage
        Where the file is; its settings and tokens are used.
    entry : Entry
        The file, with its size.
    stop : threading.Event, optional
        Ends a request soon after it is set; by default the event of this context, see `cancel`.

    Attributes
    ----------
    n_requests : int
        Number of range requests, in which redirects do not count.
    read_bytes : int
        Number of bytes received.
    """

    def __init__(self, door: Storage, entry: Entry, stop: threading.Event | None = None) -> None:
        self._door, self._entry = door, entry
        self._stop = stop
        self._url = paths.url(door.url, door.normalise(entry.path))
        self._pool: str | None = None
        self._identity = _Identity(door, entry)
        self._driver: Driver | None = None
        self._once = door.settings.replace(attempts=1)  # `reading` tries again, at the door
        self.n_requests = 0
        self.read_bytes = 0

    def sibling(self) -> RangeReader:
        """Return a reader of the same file with a connection of its own, for another thread.

        It uses the same pool URL, which is one mover in dCache however many connections it has
        (NettyTransferService.java, dCache 12.1; seen with 11.2.5, as long as one is open).
        """
        other = RangeReader(self._door, self._entry, self._stop)
        other._pool, other._identity = self._pool, self._identity
        return other

    def close(self) -> None:
        """Close the connections.

        A dCache mover, which takes one of the pool's slots, ends with the last connection that uses
        it (NettyTransferService.java, dCache 12.1).
        """
        if self._driver is not None:
            self._driver.close()
        self._driver = None

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes of a range, as `reading` does.

        No transfer slot is taken: the caller acquires one for as long as the file is open.
        """
        # connections of its own, since `close` must end them; a forked process gets others
        if self._driver is None or not self._driver.is_ours:
            self.close()
            self._driver = Driver(self._door.settings)
        return run_journey(
            self.reading(start, end),
            self._door.session,
            driver=self._driver,
            takes_slots=False,
            stop=self._stop or cancel.current(),
        )

    def reading(self, start: int, end: int) -> Journey[bytes]:
        """Read a range; what breaks off goes on from there, by way of the door. A journey.

        Parameters
        ----------
        start, end : int
            Offsets of the first byte and after the last, within the file; not an empty range.

        Raises
        ------
        SourceChanged
            The file was replaced since it was opened.
        NoRanges
            The server ignores Range, and sends whole files only.
        Stopped
            The stop event was set.
        CtaflowsError
            It can't be read, after as many tries as the settings allow.
        """
        sink = _Range(self._entry, start, end)
        retries = Retries(self._door.settings, also=(Truncated,))
        while True:
            n_before = sink.n_received
            failure = yield from self._asked(sink)
            if failure is None:
                return bytes(sink.data)
            self._pool = None
            is_progress = sink.n_received > n_before
            pause_s = self._pause_or_raise(failure, retries, progress=is_progress)
            log.info("%s; asking the door again from byte %d", failure, start + sink.n_received)
            yield Pause(pause_s)

    def _asked(self, sink: _Range) -> Journey[CtaflowsError | None]:
        """Send one request, without trying again; return why bytes are still missing."""
        self.n_requests += 1
        failure: CtaflowsError | None = None
        request = Request("GET", self._pool or self._url, sink=sink, good=READ)
        try:
            yield from ask(request, self._door.session, Retries(self._once))
        except CtaflowsError as why:
            failure = why
        answer, n_new = sink.answer, sink.n_received - sink.n_kept
        if answer is None or not n_new or not isinstance(failure, _HAS_BYTES):
            sink.drop()
            return failure
        try:
            yield from self._identity.checking(answer)
        except CtaflowsError as why:
            sink.drop()
            return why
        sink.keep()
        self._pool = answer.url if answer.url != self._url else None
        self.read_bytes += n_new
        return failure

    def _pause_or_raise(self, failure: CtaflowsError, retries: Retries, *, progress: bool) -> float:
        """Return the pause before the door is asked, in seconds; raise if it is not to be asked."""
        if isinstance(failure, SourceChanged | NoRanges | Stopped):
            raise failure
        is_first = progress or retries.n_failed == 0
        pause = retries.pause_s(failure, progress=progress)
        if is_first and failure.retry_after_s is None and self._is_of_pool(failure):
            return 0.0
        if pause is None:
            raise failure
        return pause

    def _is_of_pool(self, failure: CtaflowsError) -> bool:
        """Return whether an error is of a pool: the door may redirect to another one."""
        where = failure.where or ""
        return where.startswith("http") and origin(where) != origin(self._url)


class _Identity:
    """Checks that all answers are of the same version of a file; shared by its readers."""

    def __init__(self, door: Storage, entry: Entry) -> None:
        self._door, self._entry = door, entry
        self._lock = threading.Lock()
        self._has_answered = False
        self._replicas: set[str] = set()
        self._versions: Versions = {}

    def checking(self, answer: Response) -> Journey[None]:
        """Check an answer by its headers, after its bytes were received. A journey.

        Raises
        ------
        SourceChanged
            It is of another version of the file.
        """
        with self._lock:
            is_known = self._is_known(answer)
        if not is_known:
            retries = Retries(self._door.settings)
            compare(self._entry, (yield from self._door.describing(self._entry.path, retries)))
        if _ONE_REPLICA.search(answer.url):
            with self._lock:
                self._replicas.add(answer.url)

    def _is_known(self, answer: Response) -> bool:
        """Return False where the door has to be asked whether the file is still the same."""
        is_first, self._has_answered = not self._has_answered, True
        if _ONE_REPLICA.search(answer.url):
            return is_first or answer.url in self._replicas
        is_same = check_version(answer, self._entry, self._versions)
        return is_same is not None or (is_first and any(version_of(answer)))


def compare(before: Entry, now: Entry) -> None:
    """Raise `SourceChanged` if two descriptions of a file are of different ones."""
    if before.same_file_as(now) is False:
        raise SourceChanged(
            "The file was replaced meanwhile", where=before.path, hint="Open it again."
        )


class _Range:
    """A range of a file, in memory: the sink of its requests.

    Attributes
    ----------
    data : bytearray
        What came, from the first byte on.
    n_kept : int
        How many of these bytes were kept: those of the last answer may be of another file.
    answer : Response or None
        The last answer with bytes of it; None where there is none since `keep` or `drop`.
    """

    worth_bytes = 1

    def __init__(self, entry: Entry, start: int, end: int) -> None:
        self._entry, self._start, self._end = entry, start, end
        self.data = bytearray()
        self.n_kept = 0
        self.answer: Response | None = None

    @property
    def n_received(self) -> int:
        """Number of bytes that are here."""
        return len(self.data)

    def range_line(self) -> bytes:
        """Return the Range header for the missing bytes."""
        return b"Range: bytes=%d-%d" % (self._start + len(self.data), self._end - 1)

    def begin(self, answer: Response) -> None:
        """Check the headers."""
        check_answer(answer, self._entry, self._start + len(self.data), self._end)
        if answer.status == 200:
            if self._end - self._start != self._entry.size_bytes:
                raise NoRanges(
                    "The server sends whole files only, so that no range can be read",
                    where=self._entry.path,
                    hint="Fetch the file with `ctaflows get`.",
                )
            self.data.clear()
            self.n_kept = 0
        self.answer = answer

    def write(self, piece: bytes) -> None:
        """Add the next bytes."""
        if len(self.data) + len(piece) > self._end - self._start:
            raise ProtocolSurprise("More bytes came than were asked for", where=self._entry.path)
        self.data += piece

    def ended(self, answer: Response) -> bool:
        """Judge an answer that ended, or broke off; return True if all bytes are here."""
        if len(self.data) == self._end - self._start:
            return True
        if answer.error is None:
            raise Truncated("The answer ended too early", where=self._entry.path)
        return False

    def keep(self) -> None:
        """Keep the bytes of the last answer."""
        self.n_kept, self.answer = len(self.data), None

    def drop(self) -> None:
        """Forget the bytes of the last answer."""
        del self.data[self.n_kept :]
        self.answer = None
