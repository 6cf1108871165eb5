"""Part files: the bytes of an unfinished download, and what a later run needs to resume it.

For the target ``NAME`` there are, in the same folder, ``.NAME.part`` with the bytes,
``.NAME.part.json`` with the identity of the remote file (size, checksums, ETag, time), and, for a
download in several ranges, ``.NAME.part.ranges`` with what has been written of each.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import threading
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ctaflows import atomic_files
from ctaflows.atomic_files import (
    is_special,
    local_errors,
    lock,
    open_ours,
    read_ours,
    replace_ours,
)
from ctaflows.errors import Stopped, StorageError, Truncated, UsageError
from ctaflows.model import Checksum, Entry, utc_text, utc_time
from ctaflows.storage.answers import Versions, check_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ctaflows.transport import Head

    Rest = Sequence[bytes | memoryview]

_READ_BYTES = 1 << 20
_POLL_S = 0.05
_UNREADABLE = "What is here of the file can't be read"
_VERSIONS = "answers"  # key in the journal; missing before the first answer, and in 0.1.0
_MAX_PIECES = 1024  # buffers of one call: IOV_MAX of Linux
#: Endings of the names of the files beside a part file.
BESIDE_ENDINGS = (".json", ".json.new", ".ranges", ".ranges.new")
_MAX_NAME_BYTES = 255 - len("..part" + max(BESIDE_ENDINGS, key=len))


class Part:
    """The part file of one target, locked by one process at a time.

    Parameters
    ----------
    target : Path
        The final path. Its folder is created.
    entry : Entry
        The remote file. Bytes of another version of it are discarded.
    stop : threading.Event, optional
        Ends the wait for another process that holds the part file.

    Attributes
    ----------
    waited : bool
        Did another process hold it?
    size_bytes : int
        Number of bytes from the start that are of this version of the remote file.
    versions : dict
        ETag and Last-Modified of the responses that the bytes are from, by server, including those
        of earlier runs.

    Raises
    ------
    UsageError
        The file can't be written.
    NoSpace
        The disk is full.
    Stopped
        The event was set while another process held the part file.
    """

    def __init__(self, target: Path, entry: Entry, stop: threading.Event | None = None) -> None:
        self.target = target
        self.path = part_path(target)
        self._journal = self.path.with_name(self.path.name + ".json")
        self._source = entry
        self.versions: Versions = {}
        self.ranges_path = self.path.with_name(self.path.name + ".ranges")
        with local_errors(target):
            if is_special(target):
                raise FileExistsError(errno.EEXIST, "a device, a pipe or a socket stands there")
            target.parent.mkdir(parents=True, exist_ok=True)
            self._stream, self.waited = _locked(self.path, stop or threading.Event())
        try:
            with local_errors(target):
                self._resume_or_restart(entry)
        except BaseException:
            self._stream.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.close()

    def _resume_or_restart(self, entry: Entry) -> None:
        source, versions = _read_journal(self._journal)
        # also where that is unknown, without checksum, ETag or time, the bytes are of no use
        if source is not None and source.path == entry.path and source.same_file_as(entry):
            self.size_bytes = self._stream.seek(0, os.SEEK_END)
            if entry.size_bytes is None or self.size_bytes <= entry.size_bytes:
                self.versions = versions
                return
        self.restart()
        self._write_journal()

    def _write_journal(self) -> None:
        known = {_VERSIONS: self.versions} if self.versions else {}
        text = json.dumps({**_identity(self._source), **known})
        replace_ours(self._journal, text.encode())

    def check_version(
        self, head: Head, entry: Entry, *, is_sized: bool = True, is_proven: bool = False
    ) -> None:
        """Check and record the version of a response before its body is written.

        Parameters
        ----------
        head, entry
            As for `answers.check_version`.
        is_sized : bool
            Does the response give its length? A body without one can't be checked for truncation,
            so the journal is removed, and no later run resumes from its bytes.
        is_proven : bool
            Will the complete file be compared with a checksum? Versions are not compared then: the
            servers behind one name may write different ETags for the same file.

        Raises
        ------
        SourceChanged
            Earlier bytes are from another version.
        """
        before = dict(self.versions)
        if not is_proven:
            check_version(head, entry, self.versions)
        with local_errors(self.target):
            if not is_sized:
                self._journal.unlink(missing_ok=True)
            elif self.versions != before:
                self._write_journal()

    def cut(self, size_bytes: int) -> None:
        """Truncate the file to a size from which a later run may resume."""
        with local_errors(self.target):
            self._stream.truncate(size_bytes)
            self._stream.seek(size_bytes)
            self.size_bytes = size_bytes
            self._write_journal()

    def restart(self) -> None:
        """Discard all bytes."""
        self.versions = {}
        with local_errors(self.target):
            self.ranges_path.unlink(missing_ok=True)
            self._stream.seek(0)
            self._stream.truncate()
        self.size_bytes = 0

    def read_back(self) -> Iterator[bytes]:
        """Yield the bytes so far in blocks; the next `write` appends to them."""
        with local_errors(self.path, _UNREADABLE, hint=None):
            self._stream.seek(0)
            while block := self._stream.read(_READ_BYTES):
                yield block

    def read_at(self, start: int, end: int, block_bytes: int = _READ_BYTES) -> Iterator[bytes]:
        """Yield the bytes of a range in blocks.

        Raises
        ------
        Truncated
            The file ends before the range does.
        """
        while start < end:
            with local_errors(self.path, _UNREADABLE, hint=None):
                block = os.pread(self._stream.fileno(), min(block_bytes, end - start), start)
            if not block:
                raise Truncated(
                    "The part file was truncated by another program", where=str(self.path)
                )
            yield block
            start += len(block)

    def write_at(self, pieces: list[bytes], where: int) -> None:
        """Write bytes at an offset; may be called from many threads at once."""
        descriptor = self._stream.fileno()

        def put(rest: Rest, n_done: int) -> int:
            return _pwritev(descriptor, rest, where + n_done)

        with local_errors(self.target):
            _write_all(put, pieces)

    def write(self, pieces: list[bytes]) -> None:
        """Append bytes by unbuffered system calls, so that a kill of this process loses none."""
        descriptor = self._stream.fileno()

        def append(rest: Rest, _: int) -> int:
            n_bytes = os.writev(descriptor, rest)
            self.size_bytes += n_bytes
            return n_bytes

        with local_errors(self.target):
            _write_all(append, pieces)

    def finish(self, mtime: float | None) -> None:
        """Sync the bytes to disk, then move the file to its final path.

        Parameters
        ----------
        mtime : float or None
            Modification time to set, seconds since 1970.
        """
        with local_errors(self.target):
            if mtime is not None:
                os.utime(self._stream.fileno(), (mtime, mtime))
            os.fsync(self._stream.fileno())
            if os.fstat(self._stream.fileno()).st_ino != self.path.stat().st_ino:
                # such as the target of another download, whose name is that of this part file
                raise FileExistsError(errno.EEXIST, "another file took the part's place")
            self.path.replace(self.target)
            self.ranges_path.unlink(missing_ok=True)
            self._journal.unlink(missing_ok=True)
            atomic_files.note_changed(os.fspath(self.target.parent))

    def discard(self) -> None:
        """Remove the part file and the files beside it."""
        with local_errors(self.target):
            self.path.unlink(missing_ok=True)
            self.ranges_path.unlink(missing_ok=True)
            self._journal.unlink(missing_ok=True)


class Pipe:
    """A device, pipe or stream to download into, with the methods of `Part`.

    Bytes are written in order, and can't be read back or discarded.

    Parameters
    ----------
    descriptor : int
        Open file descriptor of the device, pipe or stream.
    name : str
        Its name, for messages.

    Attributes
    ----------
    size_bytes : int
        Number of bytes written.
    versions : dict
        As for `Part`.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor, self._name = descriptor, name
        self.size_bytes = 0
        self.versions: Versions = {}

    def write(self, pieces: list[bytes]) -> None:
        """Write bytes, as fast as the reader takes them."""
        with local_errors(Path(self._name)):
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    n_bytes = os.write(self._descriptor, rest)
                    self.size_bytes += n_bytes
                    rest = rest[n_bytes:]

    def check_version(
        self, head: Head, entry: Entry, *, is_sized: bool = True, is_proven: bool = False
    ) -> None:
        """Check the version of a response as `Part.check_version` does; nothing is stored."""
        if not is_proven:
            check_version(head, entry, self.versions)

    def restart(self) -> None:
        """Restart the download, which is possible only before the first byte.

        Raises
        ------
        StorageError
            Bytes have been written.
        """
        if self.size_bytes:
            raise StorageError(
                "The transfer can't go on: some bytes were written, and the server has no ranges",
                where=self._name,
                hint="Fetch it into a file.",
            )
        self.versions = {}

    def cut(self, size_bytes: int) -> None:
        """Restart the download: written bytes can't be truncated, see `restart`."""
        self.restart()

    def read_back(self) -> Iterator[bytes]:
        """Restart the download: written bytes can't be read back, see `restart`."""
        self.restart()
        return iter(())

    def discard(self) -> None:
        """Do nothing: written bytes can't be removed."""


def tidy(target: str) -> None:
    """Remove the part files that a killed process left beside a complete file.

    Part files that another process holds stay.
    """
    part = part_name(target)
    # `Part.finish` removes the journal last
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


def _write_all(put: Callable[[Rest, int], int], pieces: list[bytes]) -> None:
    """Write all pieces by a function of the rest and of the number of bytes written before it."""
    n_bytes = sum(map(len, pieces))
    n_done = put(pieces if len(pieces) <= _MAX_PIECES else [b"".join(pieces)], 0)
    while n_done < n_bytes:  # the disk is full, or a signal came
        n_done += put([memoryview(b"".join(pieces))[n_done:]], n_done)


def _pwritev(descriptor: int, rest: Rest, where: int) -> int:
    if hasattr(os, "pwritev"):
        return os.pwritev(descriptor, rest, where)
    return os.pwrite(descriptor, b"".join(rest), where)  # macOS


def part_path(target: Path) -> Path:
    """Return the path of a target's part file."""
    return target.with_name(part_name(target.name))


def part_name(target: str) -> str:
    """Return the path of a target's part file as text, with the folder that `target` has."""
    folder, slash, name = target.rpartition("/")
    return f"{folder}{slash}.{_short(name)}.part"


def _identity(entry: Entry) -> dict[str, Any]:
    return {
        "path": entry.path,
        "size_bytes": entry.size_bytes,
        "etag": entry.etag,
        "mtime": utc_text(entry.mtime),
        "checksums": sorted(str(c) for c in entry.checksums),
    }


def _read_journal(file: Path) -> tuple[Entry | None, Versions]:
    """Return a journal's remote file and its versions; None where it has none."""
    try:
        values = json.loads(read_ours(file))
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
    except (OSError, UsageError, ArithmeticError, AttributeError, LookupError, RecursionError,
            TypeError, ValueError):  # fmt: skip
        return None, {}
    return source, versions


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError("no text")


def _short(name: str) -> str:
    """Shorten a name so that its part files' names have at most 255 bytes, the usual limit."""
    raw = os.fsencode(name)
    if len(raw) <= _MAX_NAME_BYTES:
        return name
    digest = hashlib.sha256(raw).hexdigest()[:16]
    return os.fsdecode(raw[: _MAX_NAME_BYTES - 17]) + "~" + digest


def _locked(path: Path, stop: threading.Event) -> tuple[FileIO, bool]:
    """Open and lock a part file; return it, and whether another process had to be waited for."""
    waited = False
    while True:
        stream = FileIO(open_ours(path, os.O_RDWR | os.O_CREAT), "r+b")
        try:
            is_held = lock(stream.fileno(), path) is not False  # as far as anybody knows
            if is_held and os.fstat(stream.fileno()).st_ino == path.stat().st_ino:
                return stream, waited
        except FileNotFoundError:
            pass  # just renamed or removed by another process
        except OSError:
            stream.close()
            raise
        stream.close()
        waited = True
        if stop.wait(_POLL_S):
            raise Stopped("Stopped while another process fetches this file", where=str(path))
