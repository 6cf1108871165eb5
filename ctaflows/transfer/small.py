"""Small files: received into memory, proven there, then written in one go.

No journal, since there is nothing worth resuming; a thousand of them must cost little.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from typing import TYPE_CHECKING

from ctaflows import atomic_files
from ctaflows.atomic_files import local_error
from ctaflows.errors import SizeMismatch, Truncated
from ctaflows.model import Transfer
from ctaflows.storage import checksum as sums
from ctaflows.storage.answers import check_answer
from ctaflows.storage.webdav import digests
from ctaflows.transfer import progress
from ctaflows.transfer.copy import BROKEN, is_hopeless, pause_s, proven
from ctaflows.transfer.part_file import part_name
from ctaflows.transport import MAX_SMALL_BYTES

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from ctaflows.model import Checksum, Entry
    from ctaflows.storage.protocol import Storage
    from ctaflows.transport import Head

log = logging.getLogger("ctaflows.transfer")

#: Up to this size a file is held in memory, once for each that is on its way.
SMALL_BYTES = MAX_SMALL_BYTES


class _Whole:
    """A small file as it comes."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.pieces: list[bytes] = []
        self.n_bytes = 0
        self.retries = 0
        self.server: str | None = None
        self.promised = sums.best(entry.checksums)

    def begin(self, head: Head) -> None:
        check_answer(head, self.entry, 0)
        self.server = head.headers.get("server")
        if self.promised is None:
            self.promised = sums.best(digests(head.headers))

    def take(self, pieces: list[bytes]) -> None:
        self.n_bytes += sum(map(len, pieces))
        if self.n_bytes > (self.entry.size_bytes or 0):
            raise SizeMismatch(
                "More bytes came than the listing promised",
                where=self.entry.path,
                said=f"{self.entry.size_bytes} bytes promised",
            )
        self.pieces += pieces


def fetch_small(door: Storage, entry: Entry, local: Path, stop: threading.Event) -> Transfer | None:
    """Fetch a small file.

    Parameters
    ----------
    door, entry, local
        Where from, what, and its final name.
    stop : threading.Event
        Ends the transfer soon after it is set.

    Returns
    -------
    Transfer or None
        None where another process is at the same file, or bytes of it lie here: the way for large
        files knows what to do.
    """
    started = time.monotonic()
    if os.path.lexists(part_name(os.fspath(local))):
        return None
    whole = _received(door, entry, stop)
    data = b"".join(whole.pieces)
    found = proof(entry, data, whole.promised)
    if not placed(data, local, entry):
        return None
    return record(entry, local, found, started, whole.server, whole.retries)


def proof(entry: Entry, data: bytes, promised: Checksum | None) -> tuple[Checksum, bool]:
    """Compare a whole file with what was promised, see `copy.proven`."""
    hasher = sums.Hasher(promised.algorithm if promised else "sha256")
    hasher.update(data)
    return proven(entry.path, hasher.checksum(), promised)


def record(
    entry: Entry,
    local: Path,
    found: tuple[Checksum, bool],
    started: float,
    server: str | None,
    retries: int = 0,
) -> Transfer:
    """Make the record of a file that is in place."""
    checksum, verified = found
    return Transfer(
        path=entry.path,
        local=str(local),
        size_bytes=entry.size_bytes,
        moved_bytes=entry.size_bytes or 0,
        checksum=checksum,
        verified=verified,
        seconds=time.monotonic() - started,
        retries=retries,
        mtime=entry.mtime,
        server=server,
        note=None if verified else "the storage holds no checksum of this file",
    )


def placed(data: bytes, local: Path, entry: Entry) -> bool:
    """Write a file and give it its name; False where another process is at it, or was.

    Raises
    ------
    NoSpace, UsageError
        It can't be written here.
    """
    part = part_name(os.fspath(local))
    try:
        return _placed(data, part, local, entry)
    except OSError as why:
        raise local_error(why, local) from why


def _placed(data: bytes, part: str, local: Path, entry: Entry) -> bool:
    descriptor = _opened(part)
    if descriptor is None:
        return False
    try:
        _write(descriptor, data, entry)
        os.replace(part, local)  # noqa: PTH105  a Path costs as much as the system's call
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)  # noqa: PTH108
        raise
    finally:
        os.close(descriptor)
    atomic_files.note_changed(os.path.dirname(part))  # noqa: PTH120
    return True


def _opened(part: str) -> int | None:
    """Make the part file and hold it; None if it is there."""
    try:
        try:
            descriptor = atomic_files.create(part)
        except FileNotFoundError:
            atomic_files.make_folders(os.path.dirname(part))  # noqa: PTH120
            descriptor = atomic_files.create(part)
    except FileExistsError:
        return None
    if atomic_files.lock(descriptor, part) is False:  # somebody found it in the moment before
        os.close(descriptor)
        return None
    if os.fstat(descriptor).st_nlink == 0:  # or tidied it away
        os.close(descriptor)
        return None
    return descriptor


def _received(door: Storage, entry: Entry, stop: threading.Event) -> _Whole:
    """Receive all of it; what breaks off begins anew."""
    retries = 0
    while True:
        whole = _Whole(entry)
        try:
            whole.retries = retries + door.receive(entry.path, whole).retries
            if whole.n_bytes < (entry.size_bytes or 0):
                raise Truncated(
                    "The answer ended too early",
                    where=entry.path,
                    said=f"{whole.n_bytes} of {entry.size_bytes} bytes",
                )
        except BROKEN as why:
            retries += 1
            if is_hopeless(why) or retries >= door.settings.attempts:
                raise
            log.warning("%s; fetching it anew", why)
            stop.wait(pause_s(why, door.settings))
            continue
        progress.current().advance(whole.n_bytes)
        progress.rate_limiter().consume(whole.n_bytes)
        return whole


def _write(descriptor: int, data: bytes, entry: Entry) -> None:
    atomic_files.write_all(descriptor, data)
    if entry.mtime is not None:
        seconds = entry.mtime.timestamp()
        os.utime(descriptor, (seconds, seconds))
    os.fsync(descriptor)
