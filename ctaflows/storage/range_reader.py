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
import os
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
from ctaflows.transport import Transport, origin

if TYPE_CHECKING:
    from ctaflows.model import Entry
    from ctaflows.storage.protocol import Storage
    from ctaflows.transport import Head

log = logging.getLogger("ctaflows.storage")

#: URLs with this query are of one replica (HttpTransferService.java:70, dCache 12.1).
_ONE_REPLICA = re.compile(r"[?&]dcache-http-uuid=")


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
        self._transport: Transport | None = None
        self._process = 0
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
        """Close the connection.

        A dCache mover, which takes one of the pool's slots, ends with the last connection that uses
        it (NettyTransferService.java, dCache 12.1).
        """
        if self._transport is not None and self._process == os.getpid():
            self._transport.close()
        self._transport = None

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes of a range; requests that fail are repeated from where they broke off.

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
            It can't be read, after as many attempts as the settings allow.
        """
        received = bytearray()
        retries = Retries(self._door.settings, also=(Truncated,))
        while start + len(received) < end:
            piece, failure = self._request(self._pool or self._url, start + len(received), end)
            received += piece
            if failure is None:
                continue
            self._pool = None
            pause = self._pause_or_raise(failure, retries, progress=bool(piece))
            log.info("%s; asking the door again from byte %d", failure, start + len(received))
            cancel.wait(pause, self._stop or cancel.current())
        return bytes(received)

    def _request(self, url: str, start: int, end: int) -> tuple[bytes, CtaflowsError | None]:
        """Send one request; return the bytes received, and the error where some are missing."""
        body = _Body(self._entry, start, end)
        failure: CtaflowsError | None = None
        headers = {"Range": f"bytes={start}-{end - 1}"}
        stop = self._stop or cancel.current()
        self.n_requests += 1
        try:
            self._connection().receive(url, body, headers=headers, stop=stop)
            if len(body.data) < end - start:
                failure = Truncated("The answer ended too early", where=self._entry.path)
        except NetworkError as why:
            failure = why
        except CtaflowsError as why:
            return b"", why
        if body.head is None or not body.data:
            return b"", failure
        try:
            self._identity.check(body.head)
        except CtaflowsError as why:
            return b"", why
        self._pool = body.head.url if body.head.url != self._url else None
        self.read_bytes += len(body.data)
        return bytes(body.data), failure

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

    def _connection(self) -> Transport:
        """Return the connection; a forked process gets one of its own."""
        if self._transport is None or self._process != os.getpid():
            settings = self._door.settings
            once = settings.replace(
                attempts=1
            )  # `read` repeats requests, at the door where need be
            self._transport = Transport(once, self._door.url, self._door.tokens)
            self._process = os.getpid()
        return self._transport


class _Identity:
    """Checks that all answers are of the same version of a file; shared by its readers."""

    def __init__(self, door: Storage, entry: Entry) -> None:
        self._door, self._entry = door, entry
        self._lock = threading.Lock()
        self._has_answered = False
        self._replicas: set[str] = set()
        self._versions: Versions = {}

    def check(self, head: Head) -> None:
        """Check an answer by its headers, after its bytes were received.

        Raises
        ------
        SourceChanged
            It is of another version of the file.
        """
        with self._lock:
            is_first, self._has_answered = not self._has_answered, True
            if _ONE_REPLICA.search(head.url):
                if head.url not in self._replicas and not is_first:
                    self._ask_the_door()
                self._replicas.add(head.url)
            elif check_version(head, self._entry, self._versions) is None and not (
                is_first and any(version_of(head))
            ):
                self._ask_the_door()

    def _ask_the_door(self) -> None:
        compare(self._entry, self._door.stat(self._entry.path))


def compare(before: Entry, now: Entry) -> None:
    """Raise `SourceChanged` if two descriptions of a file are of different ones."""
    if before.same_file_as(now) is False:
        raise SourceChanged(
            "The file was replaced meanwhile", where=before.path, hint="Open it again."
        )


class _Body:
    """A sink for the answer to one range request, which checks that it holds that range."""

    def __init__(self, entry: Entry, start: int, end: int) -> None:
        self._entry, self._start, self._end = entry, start, end
        self.data = bytearray()
        self.head: Head | None = None

    def begin(self, head: Head) -> None:
        """Check the headers."""
        check_answer(head, self._entry, self._start, self._end)
        if head.status == 200 and self._end - self._start != self._entry.size_bytes:
            raise NoRanges(
                "The server sends whole files only, so that no range can be read",
                where=self._entry.path,
                hint="Fetch the file with `ctaflows get`.",
            )
        self.head = head

    def take(self, pieces: list[bytes]) -> None:
        """Add the next bytes."""
        if len(self.data) + sum(map(len, pieces)) > self._end - self._start:
            raise ProtocolSurprise("More bytes came than were asked for", where=self._entry.path)
        for piece in pieces:
            self.data += piece
