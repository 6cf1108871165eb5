"""A file that is not whole yet: its bytes so far, and what a later run needs to go on.

``.NAME.part`` lies beside the target, ``.NAME.part.json`` tells what source it belongs to. A file
that comes in several ranges has ``.NAME.part.ranges`` too, which tells what is there of each.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import threading
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ctaflows import atomic_files
from ctaflows.atomic_files import is_special, open_ours, read_ours, replace_ours
from ctaflows.errors import (
    CtaflowsError,
    NoSpace,
    Stopped,
    StorageError,
    Truncated,
    UsageError,
)
from ctaflows.model import utc_text
from ctaflows.storage.answers import Versions, check_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ctaflows.model import Entry
    from ctaflows.transport import Head

    Rest = Sequence[bytes | memoryview]

_READ_BYTES = 1 << 20
_GLANCE_S = 0.05
_VERSIONS = "answers"  # in the journal; left out until the first answer, as 0.1.0 always does
_MAX_PIECES = 1024  # of one call, IOV_MAX of Linux
#: What lies beside a part, by the end of its name.
BESIDE_ENDINGS = (".json", ".json.new", ".ranges", ".ranges.new")
_MAX_NAME_BYTES = 255 - len("..part" + max(BESIDE_ENDINGS, key=len))


class NobodyReads(UsageError):
    """The reader of a pipe has gone away."""


class Part:
    """The unfinished file of one target, held by one process at a time.

    Parameters
    ----------
    target : Path
        The final name. Its folder is made.
    entry : Entry
        The source. Bytes that belong to another source are thrown away.
    stop : threading.Event, optional
        Ends the waiting for another process that holds the part.

    Attributes
    ----------
    waited : bool
        Was another process at the same file?
    size_bytes : int
        Bytes that are there and belong to the source.
    versions : dict
        ETag and Last-Modified of the answers that the bytes are from, by server; an earlier run's
        count too.

    Raises
    ------
    UsageError
        No right to write there.
    NoSpace
        The disk is full.
    """

    def __init__(self, target: Path, entry: Entry, stop: threading.Event | None = None) -> None:
        self.target = target
        self.path = part_path(target)
        self._journal = self.path.with_name(self.path.name + ".json")
        self._source = _identity(entry)
        self.versions: Versions = {}
        self.ranges_path = self.path.with_name(self.path.name + ".ranges")
        try:
            if is_special(target):
                raise FileExistsError(errno.EEXIST, "a device, a pipe or a socket stands there")
            target.parent.mkdir(parents=True, exist_ok=True)
            self._stream, self.waited = _locked(self.path, stop or threading.Event())
        except OSError as why:
            raise local_error(why, target) from why
        try:
            self._adopt(entry)
        except OSError as why:
            self._stream.close()
            raise local_error(why, target) from why

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.close()

    def _adopt(self, entry: Entry) -> None:
        # without a sum, a tag or a time nobody can tell whether the source is still the same
        is_known = bool(entry.checksums or entry.etag or entry.mtime)
        source, versions = _read_journal(self._journal)
        if is_known and source == self._source:
            self.size_bytes = self._stream.seek(0, os.SEEK_END)
            if entry.size_bytes is None or self.size_bytes <= entry.size_bytes:
                self.versions = versions
                return
        self.restart()
        self._write_journal()

    def _write_journal(self) -> None:
        known = {_VERSIONS: self.versions} if self.versions else {}
        text = json.dumps({**self._source, **known})
        replace_ours(self._journal, text.encode())

    def check_version(
        self, head: Head, entry: Entry, *, is_sized: bool = True, is_proven: bool = False
    ) -> None:
        """Note the version of an answer whose bytes are about to come.

        Parameters
        ----------
        head, entry
            As for `answers.check_version`.
        is_sized : bool
            Without a length only the whole counts, so that no later run may go on from its bytes.
        is_proven : bool
            Will the whole be compared with a checksum? It tells more than versions, of which the
            servers behind one name may write several.

        Raises
        ------
        SourceChanged
            Those before it were of another one.
        """
        n_before = len(self.versions)
        if not is_proven:
            check_version(head, entry, self.versions)
        try:
            if not is_sized:
                self._journal.unlink(missing_ok=True)
            elif len(self.versions) > n_before:
                self._write_journal()
        except OSError as why:
            raise local_error(why, self.target) from why

    def cut(self, size_bytes: int) -> None:
        """Throw away what comes after so many bytes; a later run may go on from there."""
        try:
            self._stream.truncate(size_bytes)
            self._stream.seek(size_bytes)
            self.size_bytes = size_bytes
            self._write_journal()
        except OSError as why:
            raise local_error(why, self.target) from why

    def restart(self) -> None:
        """Throw the bytes away."""
        self.versions = {}
        self.ranges_path.unlink(missing_ok=True)
        self._stream.seek(0)
        self._stream.truncate()
        self.size_bytes = 0

    def read_back(self) -> Iterator[bytes]:
        """Give the bytes that are there, block by block, and stand at their end."""
        self._stream.seek(0)
        while block := self._stream.read(_READ_BYTES):
            yield block

    def read_at(self, start: int, end: int, block_bytes: int = _READ_BYTES) -> Iterator[bytes]:
        """Give the bytes of a range, block by block."""
        while start < end:
            block = os.pread(self._stream.fileno(), min(block_bytes, end - start), start)
            if not block:
                raise Truncated("The part file was cut by somebody else", where=str(self.path))
            yield block
            start += len(block)

    def write_at(self, pieces: list[bytes], where: int) -> None:
        """Put bytes anywhere; for many threads at once."""
        descriptor = self._stream.fileno()

        def put(rest: Rest, n_done: int) -> int:
            return _pwritev(descriptor, rest, where + n_done)

        try:
            _write_all(put, pieces)
        except OSError as why:
            raise local_error(why, self.target) from why

    def write(self, pieces: list[bytes]) -> None:
        """Append bytes. They are the system's at once: a kill of this process loses none."""
        descriptor = self._stream.fileno()

        def append(rest: Rest, _: int) -> int:
            n_bytes = os.writev(descriptor, rest)
            self.size_bytes += n_bytes
            return n_bytes

        try:
            _write_all(append, pieces)
        except OSError as why:
            raise local_error(why, self.target) from why

    def finish(self, mtime: float | None) -> None:
        """Give the file its final name, after its bytes have reached the disk."""
        try:
            if mtime is not None:
                os.utime(self._stream.fileno(), (mtime, mtime))
            os.fsync(self._stream.fileno())
            if os.fstat(self._stream.fileno()).st_ino != self.path.stat().st_ino:
                # a file whose own name is that of our part
                raise FileExistsError(errno.EEXIST, "another file took the part's place")
            self.path.replace(self.target)
            self.ranges_path.unlink(missing_ok=True)
            self._journal.unlink(missing_ok=True)
            atomic_files.note_changed(os.fspath(self.target.parent))
        except OSError as why:
            raise local_error(why, self.target) from why

    def discard(self) -> None:
        """Remove the bytes and the journal."""
        self.path.unlink(missing_ok=True)
        self.ranges_path.unlink(missing_ok=True)
        self._journal.unlink(missing_ok=True)


class Pipe:
    """What bytes are written into in order, and can't be taken back from; stands for a `Part`.

    Parameters
    ----------
    descriptor : int
        A device, a pipe or a stream.
    name : str
        What it is called.

    Attributes
    ----------
    size_bytes : int
        Bytes that were written.
    versions : dict
        As of `Part`.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor, self._name = descriptor, name
        self.size_bytes = 0
        self.versions: Versions = {}

    def write(self, pieces: list[bytes]) -> None:
        """Write bytes, waiting for who reads them."""
        try:
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    n_bytes = os.write(self._descriptor, rest)
                    self.size_bytes += n_bytes
                    rest = rest[n_bytes:]
        except OSError as why:
            raise local_error(why, Path(self._name)) from why

    def check_version(
        self, head: Head, entry: Entry, *, is_sized: bool = True, is_proven: bool = False
    ) -> None:
        """Do as `Part.check_version`; nothing is kept for a later run."""
        if not is_proven:
            check_version(head, entry, self.versions)

    def restart(self) -> None:
        """Begin anew, which can be done before the first byte alone."""
        if self.size_bytes:
            raise StorageError(
                "The transfer can't go on: some bytes were written, and the server has no ranges",
                where=self._name,
                hint="Fetch it into a file.",
            )
        self.versions = {}

    def cut(self, size_bytes: int) -> None:
        """Refuse to take bytes back."""
        self.restart()

    def read_back(self) -> Iterator[bytes]:
        """Give none of the bytes; they are gone."""
        self.restart()
        return iter(())

    def discard(self) -> None:
        """Do nothing: nothing can be taken back."""


def tidy(target: str) -> None:
    """Remove what a kill left beside a file that is in place, unless somebody is at it."""
    part = part_name(target)
    # of what a fetch leaves, its journal goes last
    if not os.path.lexists(part + ".json") and not os.path.lexists(part):
        return
    with contextlib.suppress(OSError, UsageError):
        descriptor = open_ours(part, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino != os.lstat(part).st_ino:
                return  # another process has begun meanwhile
            for ending in (*BESIDE_ENDINGS, ""):  # who finds the part leaves the others alone
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(part + ending)  # noqa: PTH108
        finally:
            os.close(descriptor)


def _write_all(put: Callable[[Rest, int], int], pieces: list[bytes]) -> None:
    """Write pieces by a function that gets them, and how many bytes it has written before."""
    n_bytes = sum(map(len, pieces))
    n_done = put(pieces if len(pieces) <= _MAX_PIECES else [b"".join(pieces)], 0)
    while n_done < n_bytes:  # the disk is full, or a signal came
        n_done += put([memoryview(b"".join(pieces))[n_done:]], n_done)


def _pwritev(descriptor: int, rest: Rest, where: int) -> int:
    if hasattr(os, "pwritev"):
        return os.pwritev(descriptor, rest, where)
    return os.pwrite(descriptor, b"".join(rest), where)  # macOS


def part_path(target: Path) -> Path:
    """Say where the bytes of a target lie as long as it is not whole."""
    return target.with_name(part_name(target.name))


def part_name(target: str) -> str:
    """Say the same of a path as text."""
    folder, slash, name = target.rpartition("/")
    return f"{folder}{slash}.{_short(name)}.part"


def local_error(why: OSError, where: Path) -> CtaflowsError:
    """Turn a fault of the local file system into our error."""
    said = why.strerror or str(why)
    if why.errno == errno.EPIPE:
        return NobodyReads("Nobody reads the pipe any more", where=str(where), said=said)
    if why.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return NoSpace(
            "No space is left here",
            where=str(where),
            said=said,
            hint="Make room, then run the same command again: it goes on where it stopped.",
        )
    return UsageError(
        "The destination can't be written",
        where=str(where),
        said=said,
        hint="Name a folder that you may write to.",
    )


def _identity(entry: Entry) -> dict[str, Any]:
    return {
        "path": entry.path,
        "size_bytes": entry.size_bytes,
        "etag": entry.etag,
        "mtime": utc_text(entry.mtime),
        "checksums": sorted(str(c) for c in entry.checksums),
    }


def _read_journal(file: Path) -> tuple[object, Versions]:
    """Read what source a part belongs to, and the versions of the answers it is from."""
    try:
        values = json.loads(read_ours(file))
        versions = values.pop(_VERSIONS, {})
        return values, {str(origin): list(version) for origin, version in versions.items()}
    except (OSError, UsageError, ValueError, TypeError, AttributeError, RecursionError):
        return None, {}


def _short(name: str) -> str:
    """Give a name that leaves room for what is put around it: file systems take 255 bytes."""
    raw = os.fsencode(name)
    if len(raw) <= _MAX_NAME_BYTES:
        return name
    digest = hashlib.sha256(raw).hexdigest()[:16]
    return os.fsdecode(raw[: _MAX_NAME_BYTES - 17]) + "~" + digest


def _locked(path: Path, stop: threading.Event) -> tuple[FileIO, bool]:
    """Open a part file and hold it; another process that fetches the same file is waited for."""
    waited = False
    while True:
        stream = FileIO(open_ours(path, os.O_RDWR | os.O_CREAT), "r+b")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(stream.fileno()).st_ino == path.stat().st_ino:
                return stream, waited
        except (BlockingIOError, FileNotFoundError):
            pass  # held, or finished or thrown away just now
        stream.close()
        waited = True
        if stop.wait(_GLANCE_S):
            raise Stopped("Stopped while another process fetches this file", where=str(path))
