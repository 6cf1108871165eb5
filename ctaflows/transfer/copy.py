"""One file on its way: the bytes so far, their checksum, and what was promised of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctaflows.errors import (
    ChecksumMismatch,
    NetworkError,
    NotTheFile,
    SizeMismatch,
    Staging,
    Stopped,
    Truncated,
)
from ctaflows.retry import MAX_RETRY_AFTER_S, asked_pause_s
from ctaflows.storage import checksum as sums
from ctaflows.storage.answers import check_answer, is_sized
from ctaflows.storage.webdav import digests
from ctaflows.transfer import progress

if TYPE_CHECKING:
    import threading

    from ctaflows.errors import CtaflowsError
    from ctaflows.model import Checksum, Entry
    from ctaflows.settings import Settings
    from ctaflows.transfer.part_file import Part, Pipe
    from ctaflows.transport import Head


class Copy:
    """The state of one file that comes in one piece.

    Parameters
    ----------
    part : Part or Pipe
        Where the bytes go; those that are there already are kept.
    entry : Entry
        The source.
    stop : threading.Event
        Ends the transfer at the next block after it is set.
    keeps_sum : bool
        See `fetch.Job`.

    Attributes
    ----------
    moved_bytes, resumed_bytes : int
        Bytes that came this time; bytes kept of an earlier try.
    retries : int
        Requests that had to be repeated.
    server : str or None
        What the server calls itself.
    promised : Checksum or None
        What the storage says of the whole file.
    n_answers : int
        How many answers the bytes are from.
    complete : bool
        Have all bytes come?
    """

    def __init__(
        self, part: Part | Pipe, entry: Entry, stop: threading.Event, *, keeps_sum: bool = True
    ) -> None:
        self.part = part
        self._keeps_sum = keeps_sum
        self._stop = stop
        self.entry = entry
        self.resumed_bytes = part.size_bytes
        self.moved_bytes = 0
        self.retries = 0
        self.n_answers = 1 if part.size_bytes else 0  # an earlier run had one
        self._furthest_bytes = 0
        self._fruitless = 0
        self.server: str | None = None
        self.promised = sums.best(entry.checksums)
        self._hasher: sums.Hasher | None = None
        self._is_sized = True
        self._kept_bytes = 0
        self.complete = False
        progress.current().advance(part.size_bytes)

    def begin(self, head: Head) -> None:
        """Look at the headers of an answer, before its bytes."""
        check_answer(head, self.entry, self.part.size_bytes)
        self.n_answers += 1
        self.server = head.headers.get("server") or self.server
        before = self.promised
        if self.promised is None:
            self.promised = sums.best(digests(head.headers))
        if head.status == 200:
            self._begin_anew()  # where there are bytes: the server ignores ranges
        self._is_sized = is_sized(head)
        self._kept_bytes = self.part.size_bytes
        is_proven = self.promised is not None
        self.part.check_version(head, self.entry, is_sized=self._is_sized, is_proven=is_proven)
        if self._hasher is None or self.promised != before:
            self._hash_what_is_there()

    def _begin_anew(self) -> None:
        if self.part.size_bytes or self.part.versions:
            progress.current().advance(-self.part.size_bytes)
            self.part.restart()
            self.resumed_bytes = 0
            self._hasher = None

    def broke_off(self) -> None:
        """Say that an answer ended before the file did: what came may be kept if it was sized.

        Of an answer that does not tell its length only the whole counts: it may have been a page.
        """
        if not self._is_sized and self.part.size_bytes > self._kept_bytes:
            progress.current().advance(self._kept_bytes - self.part.size_bytes)
            self.part.cut(self._kept_bytes)
            self._hasher = None

    def adopt(self, promised: Checksum | None) -> None:
        """Take the bytes that are there for the whole file; nothing is left to receive."""
        self.promised = self.promised or promised
        self._hash_what_is_there()
        self.complete = True

    def n_fruitless_tries(self) -> int:
        """Count the tries in a row that came no further than any before."""
        fruitful = self.part.size_bytes > self._furthest_bytes
        self._furthest_bytes = max(self._furthest_bytes, self.part.size_bytes)
        self._fruitless = 1 if fruitful else self._fruitless + 1
        return self._fruitless

    def _hash_what_is_there(self) -> None:
        self._hasher = sums.Hasher(self.promised.algorithm if self.promised else "sha256")
        for block in self.part.read_back() if self._is_summed else ():
            self._hasher.update(block)

    @property
    def _is_summed(self) -> bool:
        return self._keeps_sum or self.promised is not None

    def take(self, pieces: list[bytes]) -> None:
        """Take in the next bytes: they are the system's at once."""
        n_bytes = sum(map(len, pieces))
        size = self.entry.size_bytes
        if size is not None and self.part.size_bytes + n_bytes > size:
            self.part.discard()
            raise SizeMismatch(
                "More bytes came than the listing promised",
                where=self.entry.path,
                said=f"{size} bytes promised",
            )
        self.part.write(pieces)
        if self._is_summed:
            assert self._hasher is not None  # noqa: S101  begin() made it
            for piece in pieces:
                self._hasher.update(piece)
        self.moved_bytes += n_bytes
        progress.current().advance(n_bytes)
        progress.rate_limiter().consume(n_bytes)
        end_if(self._stop, self.entry.path)

    def ended(self) -> None:
        """Say that an answer came to its end."""
        size = self.entry.size_bytes
        if size is not None and self.part.size_bytes < size:
            raise Truncated(
                "The answer ended too early",
                where=self.entry.path,
                said=f"{self.part.size_bytes} of {size} bytes",
            )
        self.complete = True

    def proof(self) -> tuple[Checksum | None, bool]:
        """Compare the whole file with what was promised.

        Returns
        -------
        ours : Checksum or None
            None where none was wanted.
        verified : bool
            False where nothing was promised.

        Raises
        ------
        ChecksumMismatch
            It is not the same.
        """
        if not self._is_summed:
            return None, False
        assert self._hasher is not None  # noqa: S101
        return proven(self.entry.path, self._hasher.checksum(), self.promised)


#: What ends an answer before its file; the next one may bring the rest.
BROKEN = (NetworkError, Truncated, NotTheFile, Staging)


def is_hopeless(why: CtaflowsError) -> bool:
    """Tell whether what ended an answer would end the next one, too."""
    if (why.retry_after_s or 0.0) > MAX_RETRY_AFTER_S:
        return True
    return not why.retryable and not isinstance(why, Truncated)


def pause_s(why: CtaflowsError, settings: Settings) -> float:
    """Say how long to wait, in seconds, before the rest is asked for."""
    asked = asked_pause_s(why, settings)
    return settings.backoff_s if asked is None else asked


def end_if(stop: threading.Event, path: str) -> None:
    """Raise Stopped if that is asked for; what came of the file is kept."""
    if stop.is_set():
        raise Stopped("Stopped; the next run goes on from here", where=path)


def proven(path: str, ours: Checksum, promised: Checksum | None) -> tuple[Checksum, bool]:
    """Compare a whole file's checksum with what the storage promised.

    Returns
    -------
    ours : Checksum
        Our own.
    verified : bool
        False where nothing was promised.

    Raises
    ------
    ChecksumMismatch
        They differ.
    """
    if promised is None:
        return ours, False
    if ours != promised:
        raise ChecksumMismatch(
            "The bytes are not those the storage holds",
            where=path,
            said=f"{promised} promised, {ours.value} came",
            hint="Try again; if it lasts, tell the site: the file may be damaged there.",
        )
    return ours, True
