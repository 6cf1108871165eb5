"""A file at the door as a file object: seekable, read-only, read by ranges where it is read."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from ctaflows.errors import DoorBusy, Lost, Nearline, UsageError
from ctaflows.storage.block_cache import BLOCK_BYTES, BlockCache, ReadPlanner
from ctaflows.storage.range_reader import RangeReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ctaflows.model import Entry
    from ctaflows.storage.block_cache import Span
    from ctaflows.storage.webdav import WebDAVStorage

#: What is kept of one file: a walk through a DL1 file of any size needs less than 2 MB.
CACHE_BYTES = 32 << 20
#: A piece larger than this is given and not kept: it would push out what is read again and again.
_BULK_BYTES = 1 << 20


class RemoteFile(io.BufferedIOBase):
    """A file at the door, opened for reading; several threads may use it.

    Nothing is read before it is asked for, and nothing twice as long as it fits into the cache.

    Parameters
    ----------
    door : WebDAVStorage
        Where it is.
    entry : Entry
        The file, as `WebDAVStorage.stat` describes it.
    cache_bytes : int
        How much is kept.
    stop : threading.Event, optional
        Ends a read soon after it is set, with `Stopped`.
    heard : Callable, optional
        Called with the number of bytes that came, at each request.

    Attributes
    ----------
    entry : Entry
        The file.
    size : int
        Its size in bytes.

    Raises
    ------
    UsageError
        It is a directory.
    FileOffline, DoorBusy
        It is on tape or lost; it is still being uploaded.
    """

    mode = "rb"

    def __init__(
        self,
        door: WebDAVStorage,
        entry: Entry,
        *,
        cache_bytes: int = CACHE_BYTES,
        stop: threading.Event | None = None,
        heard: Callable[[int], object] | None = None,
    ) -> None:
        super().__init__()
        self._lock = threading.RLock()
        self.size = _readable_bytes(entry)
        self.entry = entry
        self.name = entry.path
        self._position = 0
        self._reader = RangeReader(door, entry, stop)
        self._siblings: list[RangeReader] = []
        self._cache = BlockCache(cache_bytes)
        self._planner = ReadPlanner(self.size, cache_bytes)
        self._heard = heard
        self._n_connections = 1

    # -- what was done -------------------------------------------------------------------------

    @property
    def n_requests(self) -> int:
        """How many ranges were asked for."""
        return sum(reader.n_requests for reader in (self._reader, *self._siblings))

    @property
    def read_bytes(self) -> int:
        """How many bytes came over the network."""
        return sum(reader.read_bytes for reader in (self._reader, *self._siblings))

    @property
    def held_bytes(self) -> int:
        """How many bytes the cache holds."""
        return self._cache.held_bytes

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}, {self.size} bytes>"

    # -- a file object -------------------------------------------------------------------------

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def close(self) -> None:
        """Close the connection and forget what was read."""
        with self._lock:
            if hasattr(self, "_reader"):  # else it was refused when it was to be made
                for reader in (self._reader, *self._siblings):
                    reader.close()
                self._cache = BlockCache(0)
        super().close()

    def tell(self) -> int:
        """Give the position, bytes from the begin."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, which may lie behind the end."""
        with self._lock:
            self._check_open()
            base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}
            if whence not in base:
                raise ValueError(f"whence is {whence}, not 0, 1 or 2")
            position = base[whence] + offset
            if position < 0:
                raise ValueError(f"There is no position {position}")
            self._position = position
            return position

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer, as much as it takes; less at the end of the file alone."""
        with self._lock:
            view = memoryview(buffer).cast("B")
            n_bytes = self._fill(self._position, view)
            self._position += n_bytes
            return n_bytes

    readinto1 = readinto

    def read(self, size: int | None = -1, /) -> bytes:
        """Read so many bytes, or to the end."""
        with self._lock:
            data = self.read_at(self._position, size)
            self._position += len(data)
            return data

    def read1(self, size: int = -1, /) -> bytes:
        """Read at most so many bytes, or a block."""
        return self.read(BLOCK_BYTES if size < 0 else size)

    def peek(self, size: int = 0, /) -> bytes:
        """Give bytes that come next, without moving: what is there of the block, or one."""
        with self._lock:
            rest = BLOCK_BYTES - self._position % BLOCK_BYTES
            return self.read_at(self._position, rest)

    def read_at(self, offset: int, size: int | None = -1) -> bytes:
        """Read from a place without moving there: for several threads that share the file.

        Parameters
        ----------
        offset : int
            The first byte.
        size : int, optional
            How many; negative or None means to the end.
        """
        with self._lock:
            self._check_open()
            left = max(0, self.size - offset)
            data = bytearray(left if size is None or size < 0 else min(size, left))
            self._fill(offset, memoryview(data))
            return bytes(data)

    def expect(self, spans: Iterable[Span], *, connections: int = 1) -> None:
        """Say which ranges will be read soon, so that neighbours come in one request.

        Parameters
        ----------
        spans : iterable of (int, int)
            Begin and end of each, in bytes.
        connections : int
            With more than one, as much of it as half the cache holds is fetched at once when the
            first of it is read; the further connections stay open as this one does.
        """
        with self._lock:
            self._planner.expect(spans)
            self._n_connections = connections

    # -- where the bytes come from -------------------------------------------------------------

    def _fill(self, start: int, view: memoryview) -> int:
        self._check_open()
        end = min(start + len(view), self.size)
        here = start
        while here < end:
            block = self._cache.get(here // BLOCK_BYTES)
            if block is None and self._n_connections > 1:
                self._fetch_expected(here)
                block = self._cache.get(here // BLOCK_BYTES)
            if block is None:
                n_bytes = self._fetch(here, end, view[here - start : end - start])
            else:
                piece = block[here % BLOCK_BYTES :][: end - here]
                n_bytes = len(piece)
                view[here - start : here - start + n_bytes] = piece
            here += n_bytes
        return max(0, end - start)

    def _fetch(self, start: int, end: int, view: memoryview) -> int:
        """Fetch what is missing at ``start`` and some more; say how much of it was wanted."""
        first, last = self._planner.request(start, end, self._cache.__contains__)
        data = self._reader.read(first, last)
        n_bytes = min(end, last) - start
        view[:n_bytes] = memoryview(data)[start - first :][:n_bytes]
        # a bulk is not kept, but for its last block, of which a neighbour may have the rest
        kept = first if n_bytes <= _BULK_BYTES else (start + n_bytes) // BLOCK_BYTES * BLOCK_BYTES
        self._keep(kept, first, data)
        return n_bytes

    def _fetch_expected(self, start: int) -> None:
        """Fetch what is expected over several connections, if what is missing is part of it."""
        requests = self._planner.expected(start, self._cache.__contains__)
        n_connections = min(self._n_connections, len(requests))
        if n_connections < 2:
            return
        while len(self._siblings) < n_connections - 1:
            self._siblings.append(self._reader.sibling())
        idle = [self._reader, *self._siblings]

        def read(request: Span) -> bytes:
            reader = idle.pop()
            try:
                return reader.read(*request)
            finally:
                idle.append(reader)

        with ThreadPoolExecutor(n_connections) as crew:
            coming = [crew.submit(copy_context().run, read, request) for request in requests]
            try:
                for (start, _), data in zip(requests, coming, strict=True):
                    self._keep(start, start, data.result())
            finally:
                for future in coming:
                    future.cancel()

    def _keep(self, kept: int, start: int, data: bytes) -> None:
        """Tell who wants to hear, and keep blocks from ``kept`` on of what begins at ``start``."""
        if self._heard:
            self._heard(len(data))
        for at in range(kept, start + len(data), BLOCK_BYTES):
            self._cache.put(at // BLOCK_BYTES, data[at - start : at - start + BLOCK_BYTES])

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("The file is closed")


def _readable_bytes(entry: Entry) -> int:
    """Give a file's size, if it can be read at all.

    A dCache door tells no size while a file is uploaded (DcacheFileResource.java, dCache 12.1), and
    a GET of one that is on tape alone would start a recall and be held meanwhile (seen with
    11.2.5).
    """
    if entry.is_dir:
        raise UsageError("That is a directory", where=entry.path)
    if entry.size_bytes is None:
        raise DoorBusy(
            "The file is still being uploaded", where=entry.path, hint="Come back later."
        )
    if entry.locality == "NEARLINE":
        raise Nearline("The file is on tape and must be staged first", where=entry.path)
    if entry.locality in ("LOST", "UNAVAILABLE"):
        raise Lost(f"The storage says the file is {entry.locality.lower()}", where=entry.path)
    return entry.size_bytes
