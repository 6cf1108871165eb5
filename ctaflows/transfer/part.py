"""The bytes of an unfinished download, and what a later run needs to go on with it.

For the target ``NAME`` there are, in the same folder, ``.NAME.part`` with the bytes and, where it
was interrupted or is large, ``.NAME.part.json``: what the remote file was (size, checksums, ETag,
time), what the answers said of its version, and which ranges are here.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctaflows import atomic_files
from ctaflows.atomic_files import local_error, lock, open_ours, read_ours, replace_ours
from ctaflows.errors import (
    NoRanges,
    NotTheFile,
    SizeMismatch,
    Stopped,
    StorageError,
    Truncated,
    UsageError,
)
from ctaflows.model import Checksum, Entry, utc_text, utc_time
from ctaflows.storage import checksum as sums
from ctaflows.storage.answers import Versions, check_answer, check_version, is_sized
from ctaflows.storage.webdav import digests
from ctaflows.transfer import progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctaflows.transport.wishes import Response

#: Smaller files are fetched by one request: further ones cost more than they gain.
RANGES_FROM_BYTES = 64 << 20
_MIB = 1 << 20
_LEAST_RANGE_BYTES, _MOST_RANGE_BYTES = 4 * _MIB, 64 * _MIB
#: What a kill may lose of each range: so many bytes, or those of so many seconds. Files that are
#: whole before have no journal.
_NOTED_BYTES, _NOTED_S = 1 << 17, 0.2
#: So many answers to a range that can't be used, and it is asked for without one.
_MOST_REFUSED = 2
_TELL_BYTES = 1 << 18
_READ_BYTES = 1 << 20
_POLL_S = 0.05
_VERSIONS = "answers"  # key in the journal; missing before the first answer
#: Missing where all bytes from the first on are here, as in 0.1; else how far each has come stands
#: in lines of one length below, which are written over in place.
_RANGES = "ranges"
_N_DIGITS = 20
_LINE_BYTES = _N_DIGITS + 1
#: Endings of the names of the files beside a part file; 0.1 wrote the last two.
BESIDE_ENDINGS = (".json", ".json.new", ".ranges", ".ranges.new")
_MAX_NAME_BYTES = 255 - len("..part" + max(BESIDE_ENDINGS, key=len))


class Receiver:
    """What a file's answers have in common: the entry, what was promised, the versions.

    Parameters
    ----------
    entry : Entry
        The remote file; its size is known.

    Attributes
    ----------
    windows : list of Window
        What is received; one for each request.
    promised : Checksum or None
        What the storage says of the whole file.
    n_answers : int
        Number of answers that the bytes are from.
    moved_bytes, resumed_bytes : int
        Bytes that came this time; bytes kept of an earlier run.
    server : str or None
        What the server calls itself.
    answered_by : str or None
        URL of the first answer, perhaps of a pool: it serves all ranges, as long as a connection
        to it is open (NettyTransferService.java, dCache 12.1; seen with 11.2.5).
    versions : dict
        ETag and Last-Modified of the answers, by server.
    """

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.size_bytes = entry.size_bytes or 0
        self.promised = sums.best(entry.checksums)
        self.windows = [Window(self, 0, self.size_bytes)]
        self.n_answers = self.moved_bytes = self.resumed_bytes = 0
        self.server: str | None = None
        self.answered_by: str | None = None
        self.versions: Versions = {}
        self._first: Response | None = None
        self._told_bytes = self._untold_bytes = 0

    def missing(self) -> list[Window]:
        """Return the windows that are not complete."""
        return [w for w in self.windows if w.next < w.end or (w.end == 0 and not self.n_answers)]

    def accept(self, answer: Response) -> None:
        """Take note of an answer whose body is going to be used.

        Raises
        ------
        SourceChanged
            It is of another version than those before it.
        """
        self.n_answers += 1
        if self._first is None:
            self._first = answer
            self.server = answer.header("server")
            self.answered_by = answer.url
        if self.promised is None:
            self.promised = sums.best(digests(answer))
        # where the whole will be compared with a checksum, versions are not: the servers behind one
        # name may write different ETags for the same file
        if self.promised is None and (self.n_answers > 1 or self.versions):
            self.note_versions()
            check_version(answer, self.entry, self.versions)

    def note_versions(self) -> None:
        """Add what the first answer said of its version."""
        if self._first is not None and not self.versions:
            check_version(self._first, self.entry, self.versions)

    def put(self, piece: bytes, at: int) -> None:
        """Keep bytes of the file, which begin at an offset."""
        raise NotImplementedError

    def begin_anew_at(self, window: Window) -> None:
        """Forget all bytes, since the whole file comes, into this only window."""
        raise NotImplementedError

    def checksum(self, algorithm: str) -> Checksum:
        """Return the checksum of all bytes."""
        raise NotImplementedError

    def count(self, n_bytes: int, window: Window) -> None:
        """Count bytes that came, and tell of them from time to time."""
        self.moved_bytes += n_bytes
        self._untold_bytes += n_bytes
        if self._untold_bytes >= _TELL_BYTES:
            self.tell()

    def tell(self) -> None:
        """Report how much is here, which may be less than it was."""
        here_bytes = sum(window.next - window.start for window in self.windows)
        progress.current().advance(here_bytes - self._told_bytes)
        self._told_bytes, self._untold_bytes = here_bytes, 0

    def begin_anew(self, entry: Entry | None = None) -> None:
        """Forget all bytes, to receive the file in one piece; perhaps another version of it."""
        self.entry = entry = entry or self.entry
        self.size_bytes = entry.size_bytes or 0
        self.promised = sums.best(entry.checksums)
        self.windows = [Window(self, 0, self.size_bytes)]
        self.versions, self._first = {}, None
        self.n_answers = self.resumed_bytes = 0
        self.tell()


class Window:
    """A range of a file, or the whole: the sink of its requests.

    Each piece is written and summed as it comes, while it is in the processor's cache.

    Parameters
    ----------
    receiver : Receiver
        Where the bytes go.
    start, end : int
        Offsets of the first byte, and of the first one after the range.
    next : int, optional
        Offset of the first byte that is not here yet; by default `start`.

    Attributes
    ----------
    adler : int
        adler32 of what is here.
    is_sized : bool
        Does the answer tell its length?
    unnoted_bytes, noted_at : int, float
        So much came since the journal was written; when that was, see `time.monotonic`.
    """

    __slots__ = (
        "_n_refused", "_receiver", "_sure", "_sure_adler", "adler", "end", "is_sized", "next",
        "noted_at", "start", "unnoted_bytes", "worth_bytes",
    )  # fmt: skip

    def __init__(self, receiver: Receiver, start: int, end: int, next_: int | None = None) -> None:
        self._receiver = receiver
        self.start, self.end = start, end
        self.next = self._sure = start if next_ is None else next_
        self.adler = self._sure_adler = 1
        self.worth_bytes = max(1, min(_MIB, (end - start) // 100))
        self.is_sized = True
        self.unnoted_bytes, self.noted_at = 0, time.monotonic()
        self._n_refused = 0

    @property
    def n_received(self) -> int:
        """Number of bytes that are here."""
        return self.next - self.start

    @property
    def sure(self) -> int:
        """Offset up to which a later run may go on.

        Of an answer that does not tell its length only the whole counts: it may have been a page.
        """
        return self.next if self.is_sized or self.next == self.end else self._sure

    @property
    def _is_alone(self) -> bool:
        return len(self._receiver.windows) == 1

    def range_line(self) -> bytes | None:
        """Return the Range header for the missing bytes; None for the whole file.

        Both ends are always named: XRootD 5.5 sends no bytes for a range without end, nor does a
        dCache door that does not redirect, before 9.2.47, 10.2.23, 11.0.12 and 11.1.7 (#7971).
        """
        if self._is_alone and (self.next == 0 or self._n_refused >= _MOST_REFUSED):
            return None
        return b"Range: bytes=%d-%d" % (self.next, self.end - 1)

    def begin(self, answer: Response) -> None:
        """Look at an answer before its bytes: only a file is a file.

        Raises
        ------
        NotTheFile, Staging, SourceChanged
            As for `answers.check_answer`.
        NoRanges
            The server ignores ranges, and there are several.
        """
        receiver = self._receiver
        try:
            check_answer(answer, receiver.entry, self.next, self.end)
            if answer.status == 200 and not self._is_alone:
                raise NotTheFile("The whole file came in place of a range", where=answer.url)
        except NotTheFile as why:
            self._n_refused += 1
            if not self._is_alone and self._n_refused >= _MOST_REFUSED:
                raise NoRanges("The server does not send ranges", where=answer.url) from why
            raise
        if answer.status == 200 and self.next:
            receiver.begin_anew_at(self)
        receiver.accept(answer)
        self.is_sized = is_sized(answer)
        if not self.is_sized and not self._is_alone:
            raise NoRanges("The server does not tell the length of ranges", where=answer.url)
        self._sure, self._sure_adler = self.next, self.adler

    def restart(self) -> None:
        """Forget all bytes."""
        self.next = self._sure = self.start
        self.adler = self._sure_adler = 1

    def write(self, piece: bytes) -> None:
        """Take the next bytes."""
        n_bytes = len(piece)
        if self.next + n_bytes > self.end:
            raise SizeMismatch(
                "More bytes came than the listing promised",
                where=self._receiver.entry.path,
                said=f"{self._receiver.size_bytes} bytes promised",
            )
        self.adler = sums.adler32(piece, self.adler)
        self._receiver.put(piece, self.next)
        self.next += n_bytes
        self._receiver.count(n_bytes, self)

    def ended(self, answer: Response) -> bool:
        """Judge an answer that ended, or broke off; return True if all bytes are here."""
        if self.next == self.end:
            return True
        n_bytes = self.next - self.start
        if not self.is_sized:
            self.next, self.adler = self._sure, self._sure_adler
            self._receiver.n_answers -= 1
        self._receiver.tell()
        if answer.error is None:
            raise Truncated(
                "The answer ended too early",
                where=self._receiver.entry.path,
                said=f"{n_bytes} of {self.end - self.start} bytes",
            )
        return False


class Part(Receiver):
    """The part file of one target, locked by one process at a time.

    Parameters
    ----------
    target : str
        The final path.
    entry : Entry
        The remote file.

    Attributes
    ----------
    path : str
        The part file.
    descriptor : int or None
        The open file; None before `open` and at the end.
    """

    def __init__(self, target: str, entry: Entry) -> None:
        super().__init__(entry)
        self.target = target
        self.path = part_name(target)
        self._folder = target.rpartition("/")[0]
        self.descriptor: int | None = None
        self.is_new = self._is_read = False
        self._has_journal = False  # of this run
        self._journal: int | None = None  # open, while ranges are noted in it
        self._stamp = (0, 0)
        self._hasher: sums.Hasher | None = None
        self._n_hashed = 0

    def open(self) -> bool:
        """Open and lock the part file; return False if another process is at it.

        Its folder is made. Whether there are bytes in it to go on with says `resume`.

        Raises
        ------
        UsageError, NoSpace
            It can't be written.
        """
        try:
            return self._opened()
        except FileNotFoundError:
            pass  # there is no folder, or another process has just removed the part file
        except OSError as why:
            raise local_error(why, self.target) from why
        try:
            atomic_files.make_folders(self._folder)
            return self._opened()
        except FileNotFoundError:
            return False
        except OSError as why:
            raise local_error(why, self.target) from why

    def _opened(self) -> bool:
        try:
            descriptor = atomic_files.create(self.path, os.O_RDWR)
            self.is_new = True
        except FileExistsError:
            descriptor = open_ours(self.path, os.O_RDWR)
            self.is_new = False
        try:
            is_ours = lock(descriptor, self.path) is not False
            about = os.fstat(descriptor)
            if is_ours and about.st_nlink:
                # another process may have given it its name in between
                is_ours = self.is_new or os.lstat(self.path).st_ino == about.st_ino
            else:
                is_ours = False
        except BaseException:
            os.close(descriptor)
            raise
        if not is_ours:
            os.close(descriptor)
            return False
        self.descriptor, self._is_read = descriptor, self.is_new
        return True

    def cut(self, *, may_cut: bool) -> None:
        """Cut the file into the ranges that it is received in; into one where it can't be cut."""
        ranges = ranges_of(self.size_bytes) if may_cut else [(0, self.size_bytes)]
        if len(ranges) > 1:
            self.windows = [Window(self, start, end) for start, end in ranges]

    def resume(self, may_cut: bool) -> None:
        """Go on with what an earlier run left.

        Bytes of another version of the file are discarded. What is here is read once, so that the
        sum is of what lies on disk.
        """
        windows = self._read_journal(may_cut=may_cut)
        self._is_read = True
        if windows is None:
            self._truncate()
            self._forget_journal()
            self.cut(may_cut=may_cut)
            return
        self.windows = windows
        for window in windows:
            window.adler = self._adler_of(window.start, window.next)
        self.resumed_bytes = sum(window.next - window.start for window in windows)
        self.n_answers = 1 if self.resumed_bytes else 0
        self.tell()

    def put(self, piece: bytes, at: int) -> None:
        """Write bytes at an offset, without a buffer: a kill of this process loses none."""
        descriptor = self.descriptor
        assert descriptor is not None  # noqa: S101
        try:
            n_bytes = os.pwrite(descriptor, piece, at)
            while n_bytes < len(piece):  # the disk is full, or a signal came
                n_bytes += os.pwrite(descriptor, piece[n_bytes:], at + n_bytes)
        except OSError as why:
            raise local_error(why, self.target) from why

    def count(self, n_bytes: int, window: Window) -> None:
        """Count bytes that came, and note them where a kill would lose too many."""
        window.unnoted_bytes += n_bytes
        now = time.monotonic()
        is_due = window.unnoted_bytes >= _NOTED_BYTES or now - window.noted_at >= _NOTED_S
        if is_due and not self._has_journal and window.is_sized:
            self.write_journal()
        if self._journal is not None and (is_due or window.next == window.end):
            window.unnoted_bytes, window.noted_at = 0, now
            self._note(window)
        super().count(n_bytes, window)

    def begin_anew(self, entry: Entry | None = None) -> None:
        """Forget all bytes, to receive the file in one piece; perhaps another version of it."""
        self._truncate()
        self._forget_journal()
        super().begin_anew(entry)

    def begin_anew_at(self, window: Window) -> None:
        """Forget all bytes, since the whole file comes, into this only window."""
        self._truncate()
        self._forget_journal()
        window.restart()
        self.versions, self._first = {}, None
        self.n_answers = self.resumed_bytes = 0
        self.tell()

    def _truncate(self) -> None:
        assert self.descriptor is not None  # noqa: S101
        self._hasher = None
        if not self.is_new or self.moved_bytes:
            try:
                os.ftruncate(self.descriptor, 0)
            except OSError as why:
                raise local_error(why, self.target) from why

    # -- the checksum of the whole -------------------------------------------------------------

    def checksum(self, algorithm: str) -> Checksum:
        """Return the checksum of all bytes, which are read once more unless it is adler32."""
        if algorithm == "adler32":
            whole = sums.joined_adler32((w.adler, w.end - w.start) for w in self.windows)
            return Checksum("adler32", f"{whole:08x}")
        self.hash_on(algorithm)
        assert self._hasher is not None  # noqa: S101
        return self._hasher.checksum()

    def hash_on(self, algorithm: str) -> None:
        """Hash further bytes, as far as they are here without a gap."""
        if self._hasher is None or self._hasher.algorithm != algorithm:
            self._hasher, self._n_hashed = sums.Hasher(algorithm), 0
        for window in self.windows:
            if window.start <= self._n_hashed <= window.next:
                end = window.next
                while self._n_hashed < end:
                    block = self._read_at(self._n_hashed, min(_READ_BYTES, end - self._n_hashed))
                    self._hasher.update(block)
                    self._n_hashed += len(block)
                if end < window.end:
                    return

    def _adler_of(self, start: int, end: int) -> int:
        value = 1
        while start < end:
            block = self._read_at(start, min(_READ_BYTES, end - start))
            value = sums.adler32(block, value)
            start += len(block)
        return value

    def _read_at(self, at: int, n_bytes: int) -> bytes:
        assert self.descriptor is not None  # noqa: S101
        try:
            block = os.pread(self.descriptor, n_bytes, at)
        except OSError as why:
            raise local_error(
                why, self.path, "What is here of the file can't be read", hint=None
            ) from why
        if not block:
            raise Truncated("The part file was truncated by another program", where=self.path)
        return block

    # -- the end -------------------------------------------------------------------------------

    def stamp(self) -> None:
        """Set the time of the last change, by which `finish` knows that nobody else wrote to it."""
        assert self.descriptor is not None  # noqa: S101
        self.tell()
        mtime = self.entry.mtime
        try:
            if mtime is not None:
                seconds = mtime.timestamp()
                os.utime(self.descriptor, (seconds, seconds))
            about = os.fstat(self.descriptor)
        except OSError as why:
            raise local_error(why, self.target) from why
        self._stamp = about.st_size, about.st_mtime_ns

    def sync(self) -> None:
        """Bring the bytes to disk, for a file that is alone."""
        self.stamp()
        assert self.descriptor is not None  # noqa: S101
        (refused,) = atomic_files.sync_together([(self.descriptor, self.path)])
        if refused is not None:
            raise local_error(refused, self.target)

    def finish(self) -> None:
        """Give the file its name.

        Raises
        ------
        UsageError, NoSpace
            It can't be renamed; or somebody else wrote to the part file, as another computer may
            where locks are not seen by all.
        """
        assert self.descriptor is not None  # noqa: S101
        try:
            about, named = os.fstat(self.descriptor), os.lstat(self.path)
            now = (about.st_size, about.st_mtime_ns)
            if named.st_ino != about.st_ino:
                # such as the target of another download, whose name is that of this part file
                raise FileExistsError(errno.EEXIST, "another file took the part's place")
            if now != self._stamp or now[0] != self.size_bytes:
                raise FileExistsError(errno.EEXIST, "another program wrote to the part file")
            os.replace(self.path, self.target)  # noqa: PTH105  a Path costs as much as the call
        except OSError as why:
            raise local_error(why, self.target) from why
        self._forget_journal()
        atomic_files.note_changed(self._folder)
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._close_journal()
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def leave(self, *, keep: bool) -> None:
        """Let go of an unfinished file; what came is kept for a later run, if it may be.

        So is what an earlier run left, where it was not looked at yet.
        """
        if self.descriptor is None:
            return
        if keep and not self._is_read:
            self.close()
            return
        has_bytes = any(window.sure > window.start for window in self.windows)
        try:
            with contextlib.suppress(OSError, UsageError):
                if keep and has_bytes:
                    if len(self.windows) == 1:
                        os.ftruncate(self.descriptor, self.windows[0].sure)
                    self.write_journal()
                else:
                    self.discard()
        finally:
            self.close()

    def discard(self) -> None:
        """Remove the part file and its journal; they are unlocked by `close`."""
        self._forget_journal()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)  # noqa: PTH108
        self.windows = [Window(self, 0, self.size_bytes)]
        self.tell()

    # -- the journal ---------------------------------------------------------------------------

    def write_journal(self) -> None:
        """Note what is here."""
        self.note_versions()
        values = identity_of(self.entry)
        if self.versions:
            values[_VERSIONS] = self.versions
        is_cut = len(self.windows) > 1
        if is_cut:
            values[_RANGES] = [(w.start, w.end) for w in self.windows]
        text = json.dumps(values) + "\n"
        if is_cut:
            text += "".join(_line(window) for window in self.windows)
        self._close_journal()
        self._has_journal = True
        journal = Path(self.path + ".json")
        try:
            replace_ours(journal, text.encode())
            if is_cut:
                self._journal = open_ours(journal, os.O_WRONLY)
                self._n_before = len(text) - len(self.windows) * _LINE_BYTES
        except OSError as why:
            raise local_error(why, self.target) from why

    def _note(self, window: Window) -> None:
        """Write how much is here of a range to its line, by one call of the system.

        A kill leaves the old line or the new one. After a crash of the system the journal may be
        ahead of the bytes on the disk; the checksum of the whole finds that.
        """
        at = self._n_before + self.windows.index(window) * _LINE_BYTES
        assert self._journal is not None  # noqa: S101
        try:
            os.pwrite(self._journal, _line(window).encode(), at)
        except OSError as why:
            raise local_error(why, self.target) from why

    def _close_journal(self) -> None:
        if self._journal is not None:
            os.close(self._journal)
            self._journal = None

    def _forget_journal(self) -> None:
        self._close_journal()
        if self._has_journal or not self.is_new:
            self._has_journal = False
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path + ".json")  # noqa: PTH108

    def _read_journal(self, *, may_cut: bool) -> list[Window] | None:
        """Return the ranges of the same version of the file that are here, None where none are."""
        assert self.descriptor is not None  # noqa: S101
        here_bytes = os.fstat(self.descriptor).st_size
        known = read_journal(self.path)
        if known is None:
            return None
        source, versions, ranges = known
        # also where that is unknown, without checksum, ETag or time, the bytes are of no use
        if source.path != self.entry.path or not source.same_file_as(self.entry):
            return None
        if ranges is None:
            if here_bytes > self.size_bytes:
                return None
            cut = ranges_of(self.size_bytes) if may_cut else [(0, self.size_bytes)]
            ranges = [(start, min(max(here_bytes, start), end), end) for start, end in cut]
        at = 0
        for start, next_, end in ranges:
            if start != at or not start <= next_ <= end or (next_ > start and next_ > here_bytes):
                return None
            at = end
        if at != self.size_bytes:
            return None
        self.versions = versions
        return [Window(self, start, end, next_) for start, next_, end in ranges]


class Pipe(Receiver):
    """A device, pipe or stream to download into: in order, without a way back.

    Parameters
    ----------
    entry : Entry
        The remote file.
    descriptor : int
        Open file descriptor of the device, pipe or stream.
    name : str
        Its name, for messages.
    """

    def __init__(self, entry: Entry, descriptor: int, name: str) -> None:
        super().__init__(entry)
        self._descriptor, self.name = descriptor, name
        self._hasher: sums.Hasher | None = None
        self._n_written = 0

    def put(self, piece: bytes, at: int) -> None:
        """Write bytes, as fast as the reader takes them; refuse those that were written already."""
        if at < self._n_written:
            self.begin_anew_at(self.windows[0])
        if self._hasher is None:
            self._hasher = sums.Hasher(self.promised.algorithm if self.promised else "sha256")
        try:
            atomic_files.write_all(self._descriptor, piece)
        except OSError as why:
            raise local_error(why, self.name) from why
        self._n_written += len(piece)
        self._hasher.update(piece)

    def begin_anew_at(self, window: Window) -> None:
        """Refuse: what was written can't be taken back."""
        raise StorageError(
            "The transfer can't go on: some bytes were written, and the server has no ranges",
            where=self.name,
            hint="Fetch it into a file.",
        )

    def begin_anew(self, entry: Entry | None = None) -> None:
        """Refuse, unless nothing was written yet."""
        if self._n_written:
            self.begin_anew_at(self.windows[0])
        super().begin_anew(entry)

    def checksum(self, algorithm: str) -> Checksum:
        """Return the checksum of what was written; of another algorithm where this is too late."""
        if algorithm == "adler32":
            return Checksum(algorithm, f"{self.windows[0].adler:08x}")
        hasher = self._hasher or sums.Hasher(algorithm)
        return hasher.checksum()


@contextlib.contextmanager
def held_part(target: Path, entry: Entry, stop: threading.Event | None = None) -> Iterator[Part]:
    """Yield the part file of a file that is made from a remote one, empty and locked.

    Parameters
    ----------
    target : Path
        The final path.
    entry : Entry
        What it is made from.
    stop : threading.Event, optional
        Ends the wait for another process that holds the part file.

    Raises
    ------
    Stopped
        The event was set meanwhile.
    UsageError, NoSpace
        It can't be written.
    """
    part, stop = Part(os.fspath(target), replace(entry, mtime=None)), stop or threading.Event()
    while not part.open():
        if stop.wait(_POLL_S):
            raise Stopped("Stopped while another process fetches this file", where=part.path)
    try:
        part.begin_anew()
        yield part
    finally:
        part.close()


def ranges_of(size_bytes: int) -> list[tuple[int, int]]:
    """Cut a large file into ranges that become shorter, so that all connections end together.

    Returns
    -------
    list of (int, int)
        Offsets of the first byte and after the last one of each, in order and without gaps: of 4 to
        64 MiB, but one for a file that is fetched in one piece.
    """
    if size_bytes < RANGES_FROM_BYTES:
        return [(0, size_bytes)]
    found, at = [], 0
    while at < size_bytes:
        wanted = (size_bytes - at) // 16 // _MIB * _MIB
        end = min(at + min(max(wanted, _LEAST_RANGE_BYTES), _MOST_RANGE_BYTES), size_bytes)
        found.append((at, end))
        at = end
    return found


def tidy(target: str) -> None:
    """Remove the part files that a killed process left beside a complete file.

    Part files that another process holds stay.
    """
    part = part_name(target)
    if not os.path.lexists(part + ".json") and not os.path.lexists(part):
        return
    with contextlib.suppress(OSError, UsageError):
        descriptor = open_ours(part, os.O_RDWR | os.O_CREAT)
        try:
            if not lock(descriptor, part):
                return  # held, or nobody knows
            if os.fstat(descriptor).st_ino != os.lstat(part).st_ino:
                return  # another process has started a download meanwhile
            for ending in (*BESIDE_ENDINGS, ""):  # the part file last: it is the lock
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(part + ending)  # noqa: PTH108
        finally:
            os.close(descriptor)


def part_path(target: Path) -> Path:
    """Return the path of a target's part file."""
    return target.with_name(part_name(target.name))


def part_name(target: str) -> str:
    """Return the path of a target's part file as text, with the folder that `target` has."""
    folder, slash, name = target.rpartition("/")
    return f"{folder}{slash}.{_short(name)}.part"


def _short(name: str) -> str:
    """Shorten a name so that its part files' names have at most 255 bytes, the usual limit."""
    if len(name) * 4 <= _MAX_NAME_BYTES:
        return name
    raw = os.fsencode(name)
    if len(raw) <= _MAX_NAME_BYTES:
        return name
    digest = hashlib.sha256(raw).hexdigest()[:16]
    return os.fsdecode(raw[: _MAX_NAME_BYTES - 17]) + "~" + digest


def identity_of(entry: Entry) -> dict[str, Any]:
    """Return what a journal says of a remote file."""
    return {
        "path": entry.path,
        "size_bytes": entry.size_bytes,
        "etag": entry.etag,
        "mtime": utc_text(entry.mtime),
        "checksums": sorted(str(c) for c in entry.checksums),
    }


def read_journal(part: str) -> tuple[Entry, Versions, list[tuple[int, int, int]] | None] | None:
    """Return a journal's remote file, its versions and its ranges; None where it has none.

    Parameters
    ----------
    part : str
        The part file.
    """
    if os.path.lexists(part + ".ranges"):  # of 0.1: the part file has gaps, which that one knew
        with contextlib.suppress(OSError):
            os.unlink(part + ".ranges")  # noqa: PTH108
            os.unlink(part + ".json")  # noqa: PTH108
        return None
    try:
        header, *lines = read_ours(part + ".json").split(b"\n")
        values = json.loads(header)
        source = Entry(
            values["path"],
            size_bytes=values["size_bytes"],
            mtime=utc_time(values["mtime"]),
            checksums=tuple(map(Checksum.parse, values["checksums"])),
            etag=_text(values["etag"]),
        )
        versions: Versions = {
            str(server): [_text(etag), _text(last_modified)]
            for server, (etag, last_modified) in values.get(_VERSIONS, {}).items()
        }
        ranges = values.get(_RANGES)
        if ranges is not None:
            ranges = [
                (int(start), int(lines[n]), int(end)) for n, (start, end) in enumerate(ranges)
            ]
    except (OSError, UsageError, ArithmeticError, AttributeError, LookupError, RecursionError,
            TypeError, ValueError):  # fmt: skip
        return None
    return source, versions, ranges


def _line(window: Window) -> str:
    return f"{window.sure:0{_N_DIGITS}d}\n"


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError("no text")
