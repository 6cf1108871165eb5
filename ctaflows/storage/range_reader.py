"""Ranges of one file, asked of the pool that has it, over one connection that is kept.

The door is asked once and sends us to a pool; from then on the pool is asked. When its URL is no
longer good (dCache ends it after some silence, with its last connection, or when the pool restarts:
then it answers 307 to the door, 400, 404 or 410; HttpPoolRequestHandler.java,
NettyTransferService.java, dCache 12.1), the door is asked again.

No two answers may be of different files. A dCache pool's answers carry no ETag, but one pool URL is
one replica, which never changes: a *new* one is trusted after the door has said that the file is
still the same. Other servers' answers are compared by ETag and Last-Modified; where there is
neither, the door is asked after each answer.
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
from ctaflows.storage.answers import check_answer
from ctaflows.transport import Transport, origin

if TYPE_CHECKING:
    from ctaflows.model import Entry
    from ctaflows.storage.webdav import WebDAVStorage
    from ctaflows.transport import Head
    from ctaflows.transport.policy import Origin

log = logging.getLogger("ctaflows.storage")

#: What makes a URL good for one replica alone (HttpTransferService.java:70, dCache 12.1).
_ONE_REPLICA = re.compile(r"[?&]dcache-http-uuid=")


class RangeReader:
    """Reads ranges of one file; for one thread at a time.

    Parameters
    ----------
    door : WebDAVStorage
        Tells whether the file is still the same; its settings and tokens hold.
    entry : Entry
        The file, of known size.
    stop : threading.Event, optional
        Ends a request soon after it is set; None means what ends all work of the context.

    Attributes
    ----------
    n_requests : int
        How many ranges were asked for; a redirect makes two requests of one.
    read_bytes : int
        How many bytes came.
    """

    def __init__(
        self, door: WebDAVStorage, entry: Entry, stop: threading.Event | None = None
    ) -> None:
        self._door, self._entry = door, entry
        self._stop = stop
        self._url = paths.url(door.settings.door_url, door.normalise(entry.path))
        self._pool: str | None = None
        self._identity = _Identity(door, entry)
        self._transport: Transport | None = None
        self._process = 0
        self.n_requests = 0
        self.read_bytes = 0

    def sibling(self) -> RangeReader:
        """Give a reader of the same file with a connection of its own, for another thread.

        It asks the same pool by the same URL: that is one mover in dCache, not another one
        (NettyTransferService.java, dCache 12.1; seen with 11.2.5: as long as one connection is
        open).
        """
        other = RangeReader(self._door, self._entry, self._stop)
        other._pool, other._identity = self._pool, self._identity
        return other

    def close(self) -> None:
        """Close the connection, which frees the pool's slot too.

        A mover ends with the last connection that uses it (NettyTransferService.java, dCache 12.1).
        """
        if self._transport is not None and self._process == os.getpid():
            self._transport.close()
        self._transport = None

    def read(self, start: int, end: int) -> bytes:
        """Read a range, whatever happens to the connection and the pool's URL meanwhile.

        Parameters
        ----------
        start, end : int
            Within the file, not empty.

        Raises
        ------
        SourceChanged
            The file was replaced since it was opened.
        NoRanges
            The server gives whole files only.
        CtaflowsError
            It can't be read, after as many tries as the settings allow.
        """
        got = bytearray()
        retries = Retries(self._door.settings, also=(Truncated,))
        while start + len(got) < end:
            piece, failure = self._ask(self._pool or self._url, start + len(got), end)
            got += piece
            if failure is None:
                continue
            self._pool = None
            pause = self._pause_or_raise(failure, retries, progress=bool(piece))
            log.info("%s; asking the door again from byte %d", failure, start + len(got))
            cancel.wait(pause, self._stop or cancel.current())
        return bytes(got)

    def _ask(self, url: str, start: int, end: int) -> tuple[bytes, CtaflowsError | None]:
        """Ask once, and give what came, with what went wrong."""
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
        """Return how long to wait before the door is asked."""
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
        """Did it happen at a pool? The door may know a better one."""
        where = failure.where or ""
        return where.startswith("http") and origin(where) != origin(self._url)

    def _connection(self) -> Transport:
        """Give the connection; a process made by fork gets one of its own."""
        if self._transport is None or self._process != os.getpid():
            settings = self._door.settings
            once = settings.replace(
                attempts=1
            )  # trying again is decided here: it may take the door
            self._transport = Transport(once, settings.door_url, self._door.tokens)
            self._process = os.getpid()
        return self._transport


class _Identity:
    """Makes sure that all answers are of the file that was opened; shared by its readers."""

    def __init__(self, door: WebDAVStorage, entry: Entry) -> None:
        self._door, self._entry = door, entry
        self._lock = threading.Lock()
        self._has_answered = False
        self._replicas: set[str] = set()
        self._versions: dict[Origin, tuple[str | None, str | None]] = {}

    def check(self, head: Head) -> None:
        """Look at the headers of an answer whose bytes have come.

        Raises
        ------
        SourceChanged
            It is of another file.
        """
        with self._lock:
            is_first, self._has_answered = not self._has_answered, True
            if _ONE_REPLICA.search(head.url):
                if head.url not in self._replicas and not is_first:
                    self._ask_the_door()
                self._replicas.add(head.url)
            else:
                self._check_version(head, is_first=is_first)

    def _check_version(self, head: Head, *, is_first: bool) -> None:
        version = head.headers.get("etag"), head.headers.get("last-modified")
        if not any(version):
            self._ask_the_door()
            return
        where = origin(head.url)
        before = self._versions.get(where)
        if before is None and not is_first:
            self._ask_the_door()
        if before not in (None, version):
            raise SourceChanged(
                "The file was replaced meanwhile",
                where=self._entry.path,
                said=f"{version} now, {before} before",
            )
        self._versions[where] = version

    def _ask_the_door(self) -> None:
        compare(self._entry, self._door.stat(self._entry.path))


def compare(before: Entry, now: Entry) -> None:
    """Compare two descriptions of a file.

    Raises
    ------
    SourceChanged
        They are of different files.
    """
    both_tell = before.checksums and now.checksums
    same_sums = not both_tell or bool(set(before.checksums) & set(now.checksums))
    if not same_sums or (
        (now.size_bytes, now.mtime, now.etag) != (before.size_bytes, before.mtime, before.etag)
    ):
        raise SourceChanged(
            "The file was replaced meanwhile", where=before.path, hint="Open it once more."
        )


class _Body:
    """Takes in one answer, if it is the one that was asked for."""

    def __init__(self, entry: Entry, start: int, end: int) -> None:
        self._entry, self._start, self._end = entry, start, end
        self.data = bytearray()
        self.head: Head | None = None

    def begin(self, head: Head) -> None:
        """Look at the headers."""
        check_answer(head, self._entry, self._start, self._end)
        if head.status == 200 and self._end - self._start != self._entry.size_bytes:
            raise NoRanges(
                "The server gives whole files only, so that no part can be read",
                where=self._entry.path,
                hint="Fetch the file with `ctaflows get`.",
            )
        self.head = head

    def take(self, pieces: list[bytes]) -> None:
        """Take in the next bytes."""
        if len(self.data) + sum(map(len, pieces)) > self._end - self._start:
            raise ProtocolSurprise("More bytes came than were asked for", where=self._entry.path)
        for piece in pieces:
            self.data += piece
