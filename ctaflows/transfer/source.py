"""A file here that is to be uploaded; its checksum is taken while it is read."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Self

from ctaflows.errors import NotFound, Stopped, UsageError
from ctaflows.model import Transfer
from ctaflows.storage import checksum as sums
from ctaflows.transfer import progress, throttle

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from pathlib import Path

    from ctaflows.model import Checksum

_BLOCK_BYTES = 1 << 20
_FLAGS = os.O_RDONLY | os.O_CLOEXEC
#: Up to this size a file is read at once.
SMALL_BYTES = 1 << 18


class LocalSource:
    """A regular file here.

    Parameters
    ----------
    local : Path
        The file.
    stop : threading.Event
        Ends the reading soon after it is set.

    Attributes
    ----------
    size_bytes : int
        Its size when it was looked at.
    sent_bytes : int
        So much was read of it for the upload.

    Raises
    ------
    NotFound, UsageError
        No such file; one that can't be read, or no regular one.
    """

    def __init__(self, local: Path, stop: threading.Event) -> None:
        self.local = local
        self.stop = stop
        self.sent_bytes = 0
        self._sums: dict[str, Checksum] = {}
        self._hasher = sums.Hasher("adler32")
        self._descriptor: int | None = None
        try:
            about = os.stat(local)  # noqa: PTH116  the cheapest
            if not stat.S_ISREG(about.st_mode):
                raise IsADirectoryError(0, "it is no regular file")
            self.size_bytes = about.st_size
            self._descriptor = os.open(local, _FLAGS)  # a file object costs as much again
        except FileNotFoundError:
            raise NotFound("There is no such file here", where=str(local)) from None
        except OSError as why:
            raise UsageError(
                "The file can't be read",
                where=str(local),
                said=why.strerror,
                hint="Only regular files are uploaded; for a directory use -r.",
            ) from why

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def body(self) -> bytes | LocalSource:
        """Give what a PUT is to send: the bytes of a small file, else this."""
        if self.size_bytes > SMALL_BYTES:
            return self
        self.rewind()
        blocks = [self.read(SMALL_BYTES)]
        while blocks[-1] and self.sent_bytes < self.size_bytes:
            blocks.append(self.read(SMALL_BYTES))
        return b"".join(blocks)

    def __iter__(self) -> Iterator[bytes]:
        """Give all bytes, block by block, from the first one on."""
        self.rewind()
        while block := self.read(_BLOCK_BYTES):
            yield block

    def rewind(self) -> None:
        """Begin anew."""
        assert self._descriptor is not None  # noqa: S101
        if not self.sent_bytes:
            return
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        progress.current().advance(-self.sent_bytes)
        self.sent_bytes = 0
        self._hasher = sums.Hasher("adler32")  # what dCache stores

    def read(self, n_bytes: int) -> bytes:
        """Give the next bytes, never more in all than the file had when it was looked at."""
        assert self._descriptor is not None  # noqa: S101
        if self.stop.is_set():
            raise Stopped("Stopped; nothing is left behind", where=str(self.local))
        block = os.read(self._descriptor, min(n_bytes, self.size_bytes - self.sent_bytes))
        self._hasher.update(block)
        self.sent_bytes += len(block)
        progress.current().advance(len(block))
        throttle.current().pay(len(block))
        if self.sent_bytes == self.size_bytes:
            self._sums["adler32"] = self._hasher.checksum()
        return block

    def checksum(self, algorithm: str) -> Checksum:
        """Give the file's checksum, computed once."""
        if algorithm not in self._sums:
            self._sums[algorithm] = sums.of_file(self.local, algorithm)
        return self._sums[algorithm]

    def proof(
        self,
        path: str,
        checksum: Checksum | None,
        started: float,
        *,
        verified: bool = True,
        skipped: bool = False,
        moved_bytes: int = 0,
        retries: int = 0,
        server: str | None = None,
        note: str | None = None,
    ) -> Transfer:
        """Make the record of this upload."""
        return Transfer(
            path=path,
            local=str(self.local),
            size_bytes=self.size_bytes,
            moved_bytes=moved_bytes,
            seconds=time.monotonic() - started,
            checksum=checksum,
            verified=verified,
            skipped=skipped,
            retries=retries,
            server=server,
            note=note,
        )
