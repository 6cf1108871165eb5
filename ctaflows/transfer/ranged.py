"""One large file in several ranges at once, over as many connections as it helps."""

from __future__ import annotations

import logging
import threading
from collections import deque
from functools import reduce
from typing import TYPE_CHECKING

from ctaflows.errors import NoRanges, ProtocolSurprise, Stopped, Truncated
from ctaflows.model import Checksum
from ctaflows.storage import checksum as sums
from ctaflows.storage.answers import check_answer, is_sized
from ctaflows.storage.webdav import digests
from ctaflows.thread_pool import FIRST, POLL_S, ConcurrencyController, Worker, started
from ctaflows.transfer import progress
from ctaflows.transfer.copy import BROKEN, end_if, is_hopeless, pause_s, proven

if TYPE_CHECKING:
    from ctaflows.model import Entry
    from ctaflows.storage.protocol import Storage
    from ctaflows.transfer.part_file import Part
    from ctaflows.transfer.range_journal import Range, RangeJournal
    from ctaflows.transport import Head

log = logging.getLogger("ctaflows.transfer")

#: Summed in one go: between two, Python's lock has to be waited for, behind all that receive.
_BLOCK_BYTES = 4 << 20
_HASH_BYTES = 16 << 20  # some 10 to 30 ms, then there is to be looked at the threads again


class RangedCopy:
    """The state of one file that comes in ranges; used by many threads at once.

    Parameters
    ----------
    part, ledger : Part, RangeJournal
        Where the bytes go, and what is there of each range.
    entry : Entry
        The source; its size is known.
    keeps_sum : bool
        See `fetch.Job`.

    Attributes
    ----------
    moved_bytes, resumed_bytes, retries, server, promised, n_answers
        As for `copy.Copy`.
    """

    def __init__(
        self, part: Part, ledger: RangeJournal, entry: Entry, *, keeps_sum: bool = True
    ) -> None:
        self.part, self.entry = part, entry
        self._keeps_sum = keeps_sum
        self.ledger = ledger
        self.resumed_bytes = part.size_bytes = sum(r.next - r.start for r in ledger.ranges)
        self.moved_bytes = 0
        self.retries = 0
        self.n_answers = 1 if self.resumed_bytes else 0
        self.server: str | None = None
        self.promised = sums.best(entry.checksums)
        self._waiting = deque(r for r in ledger.ranges if not r.is_complete)
        self._adlers: dict[int, int] = {}
        self._lock = threading.Lock()
        self._hashing = threading.Lock()
        self._hasher: sums.Hasher | None = None
        self._first_unhashed = 0  # among the ranges
        self._hashed_bytes = 0
        progress.current().advance(self.resumed_bytes)

    @property
    def uses_adler32(self) -> bool:
        """Is the whole file's sum made of those of the ranges?"""
        return self.promised is not None and self.promised.algorithm == "adler32"

    def claim(self) -> Range | None:
        """Give a range that nobody receives yet, in order."""
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    @property
    def has_more(self) -> bool:
        """Is there a range that nobody receives yet?"""
        return bool(self._waiting)

    def begin(self, head: Head, part: Range) -> None:
        """Look at the headers of an answer: is it the same file as in the other ranges?"""
        check_answer(head, self.entry, part.next, part.end)
        if head.status == 200 and part.end - part.next != self.entry.size_bytes:
            raise NoRanges("The server knows no ranges", where=head.url)
        if not is_sized(head):  # where it ends too early, nobody knows what it was
            raise NoRanges("The server does not tell the length of ranges", where=head.url)
        with self._lock:
            self.n_answers += 1
            self.server = head.headers.get("server") or self.server
            self.promised = self.promised or sums.best(digests(head.headers))
            self.part.check_version(head, self.entry, is_proven=self.promised is not None)

    def adler_of(self, part: Range) -> int:
        """Give the adler32 of what is here of a range."""
        if part.index not in self._adlers:
            value = 1
            for block in self.part.read_at(part.start, part.next):
                value = sums.adler32(block, value)
            self._adlers[part.index] = value
        return self._adlers[part.index]

    def write(self, part: Range, pieces: list[bytes]) -> None:
        """Put bytes of a range in their place, and note it."""
        n_bytes = sum(map(len, pieces))
        if part.next + n_bytes > part.end:
            raise ProtocolSurprise("More bytes came than were asked for", where=self.entry.path)
        self.part.write_at(pieces, part.next)
        if self.uses_adler32:
            self._adlers[part.index] = reduce(_longer, pieces, self.adler_of(part))
        part.next += n_bytes
        self.ledger.note(part)
        with self._lock:
            self.moved_bytes += n_bytes
            self.part.size_bytes += n_bytes
        progress.current().advance(n_bytes)
        progress.rate_limiter().consume(n_bytes)

    def hash_on(self, most_bytes: int | None = None) -> bool:
        """Bring the checksum of the file's beginning nearer to what has come.

        Parameters
        ----------
        most_bytes : int, optional
            Do no more than about this.

        Returns
        -------
        bool
            False if there was little to do, or another thread is at it.
        """
        is_summed = self._keeps_sum or self.promised is not None
        if self.uses_adler32 or not is_summed or not self._hashing.acquire(blocking=False):
            return False
        try:
            return self._hash_on(most_bytes)
        finally:
            self._hashing.release()

    def _hash_on(self, most_bytes: int | None) -> bool:
        self._hasher = self._hasher or sums.Hasher(
            self.promised.algorithm if self.promised else "sha256"
        )
        before = self._hashed_bytes
        while self._first_unhashed < len(self.ledger.ranges):
            part = self.ledger.ranges[self._first_unhashed]
            for block in self.part.read_at(self._hashed_bytes, part.next, _BLOCK_BYTES):
                self._hasher.update(block)
                self._hashed_bytes += len(block)
                if most_bytes is not None and self._hashed_bytes - before >= most_bytes:
                    return True
            if self._hashed_bytes < part.end:
                break
            self._first_unhashed += 1
        return False

    def proof(self) -> tuple[Checksum | None, bool]:
        """Compare the whole file with what was promised, see `copy.Copy.proof`."""
        if self.promised is None and not self._keeps_sum:
            return None, False
        if self.uses_adler32:
            ranges = self.ledger.ranges
            whole = sums.joined_adler32((self.adler_of(r), r.end - r.start) for r in ranges)
            ours = Checksum("adler32", f"{whole:08x}")
        else:
            self.hash_on()
            assert self._hasher is not None  # noqa: S101
            ours = self._hasher.checksum()
        return proven(self.entry.path, ours, self.promised)


def _longer(adler: int, piece: bytes) -> int:
    return sums.adler32(piece, adler)


class _RangeSink:
    """Takes in one answer for one range."""

    def __init__(self, copy: RangedCopy, part: Range, stop: threading.Event) -> None:
        self._copy, self._part, self._stop = copy, part, stop

    def begin(self, head: Head) -> None:
        self._copy.begin(head, self._part)

    def take(self, pieces: list[bytes]) -> None:
        self._copy.write(self._part, pieces)
        end_if(self._stop, self._copy.entry.path)


class Crew:
    """The threads that receive the ranges of one file.

    Parameters
    ----------
    door : Storage
        Where from. The first thread moves in its caller's transfer slot, each other takes one that
        is free, so that all files together keep to the limit.
    copy : RangedCopy
        What to receive.
    stop : threading.Event
        Ends the transfer soon after it is set.
    """

    def __init__(self, door: Storage, copy: RangedCopy, stop: threading.Event) -> None:
        self._door, self._copy, self._stop = door, copy, stop
        self._halt = threading.Event()
        self._threads: list[Worker] = []
        self._errors: list[BaseException] = []

    def receive(self) -> None:
        """Receive all that is missing.

        Raises
        ------
        CtaflowsError
            What the first thread met that failed; the bytes that came are kept.
        """
        try:
            pace = ConcurrencyController(self._door.settings.transfers)
            if not self._start(is_first=True):
                self._work(is_first=True)
            self._grow(pace.n_wanted(0))
            while alive := [thread for thread in self._threads if thread.is_alive()]:
                if not (self._is_wide and self._copy.hash_on(_HASH_BYTES)):
                    alive[0].join(POLL_S)
                if self._stop.is_set():
                    self._halt.set()
                self._grow(pace.n_wanted(len(self._threads)))
        finally:
            self._halt.set()
            for thread in self._threads:
                thread.join()
        if self._errors:
            raise self._errors[0]
        if not all(part.is_complete for part in self._copy.ledger.ranges):
            raise Stopped("Stopped; the next run goes on from here", where=self._copy.entry.path)

    @property
    def _is_wide(self) -> bool:
        """Is the network the limit? Then the sum is taken beside those that receive.

        Where the CPU is, a third thread at work beside two would cost more than it brings.
        """
        return len(self._threads) > FIRST

    def _grow(self, n_threads: int) -> None:
        """Let more threads begin, as long as there is work and a slot for each."""
        while len(self._threads) < n_threads and self._copy.has_more and not self._halt.is_set():
            if not self._door.transfer_slots.acquire(blocking=False):
                return
            if not self._start(is_first=False):
                self._door.transfer_slots.release()
                return

    def _start(self, *, is_first: bool) -> bool:
        """Let a thread begin, if there may be one more."""
        thread = Worker(lambda: self._work(is_first))
        if not started(thread):
            return False
        self._threads.append(thread)
        return True

    def _work(self, is_first: bool) -> None:
        try:
            while not self._halt.is_set() and (part := self._copy.claim()):
                self._receive(part)
                if not self._is_wide:
                    while not self._halt.is_set() and self._copy.hash_on(_HASH_BYTES):
                        pass
        except BaseException as why:  # noqa: BLE001  raised again by receive()
            self._errors.append(why)
            self._halt.set()
        finally:
            if not is_first:
                self._door.transfer_slots.release()

    def _receive(self, part: Range) -> None:
        """Receive one range; where the connection breaks, go on from there."""
        fruitless = 0
        while not part.is_complete:
            before, sink = part.next, _RangeSink(self._copy, part, self._stop)
            try:
                head = self._door.receive(
                    self._copy.entry.path, sink,
                    start=part.next, end=part.end, stop=self._halt,
                )  # fmt: skip
                self._copy.retries += head.retries
                if not part.is_complete:
                    raise Truncated("The answer ended too early", where=self._copy.entry.path)
            except BROKEN as why:
                fruitless = 1 if part.next > before else fruitless + 1
                self._copy.retries += 1
                if is_hopeless(why) or fruitless >= self._door.settings.attempts:
                    raise
                log.warning("%s; going on from byte %d", why, part.next)
                self._halt.wait(pause_s(why, self._door.settings))
