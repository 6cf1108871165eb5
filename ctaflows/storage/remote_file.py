"""A remote file as a file object: seekable, read-only, fetched by range requests as it is read."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from ctaflows.errors import DoorBusy, Lost, Nearline
from ctaflows.storage.block_cache import BLOCK_BYTES, BlockCache, ReadPlanner
from ctaflows.storage.links import refuse_as_file
from ctaflows.storage.protocol import unsupported
from ctaflows.storage.range_reader import RangeReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ctaflows.model import Entry
    from ctaflows.storage.block_cache import Span
    from ctaflows.storage.protocol import Storage

#: Default size of the cache of one file: visiting all groups of a DL1 file needs less than 2 MB.
CACHE_BYTES = 32 << 20
#: Larger reads are not cached: they would evict blocks that are read again and again.
_BULK_BYTES = 1 << 20


class RemoteFile(io.BufferedIOBase):
    """A remote file, opened for reading; may be used by several threads.

    Nothing is requested before the first read. Blocks of 64 KiB are cached, but for those of large
    reads.

    Parameters
    ----------
    door : Storage
        Where the file is.
    entry : Entry
        The file, as `Storage.stat` describes it.
    cache_bytes : int
        Size of the cache; 32 MiB by default.
    stop : threading.Event, optional
        Ends a read soon after it is set, with `Stopped`; by default the event of this context.
    heard : Callable, optional
        Called after each request, with the number of bytes received.

    Attributes
    ----------
    entry : Entry
        The file.
    size : int
        Its size in bytes.

    Raises
    ------
    UsageError
        It is a directory, or the storage can't read parts of a file.
    FileOffline
        It is on tape only (`Nearline`), or lost or unavailable (`Lost`).
    DoorBusy
        It is still being uploaded.
    """

    mode = "rb"

    def __init__(
        self,
        door: Storage,
        entry: Entry,
        *,
        cache_bytes: int = CACHE_BYTES,
        stop: threading.Event | None = None,
        heard: Callable[[int], object] | None = None,
    ) -> None:
        super().__init__()
        self._lock = threading.RLock()
        if not door.has_ranges:
            raise unsupported(door, "read parts of a file", entry.path)
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

    # -- counters ------------------------------------------------------------------------------

    @property
    def n_requests(self) -> int:
        """Number of range requests."""
        return sum(reader.n_requests for reader in (self._reader, *self._siblings))

    @property
    def read_bytes(self) -> int:
        """Number of bytes received."""
        return sum(reader.read_bytes for reader in (self._reader, *self._siblings))

    @property
    def held_bytes(self) -> int:
        """Size of the cached blocks, in bytes."""
        return self._cache.held_bytes

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}, {self.size} bytes>"

    # -- a file object -------------------------------------------------------------------------

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Close the connections and drop the cache."""
        with self._lock:
            if hasattr(self, "_reader"):  # not so where `__init__` raised an error
                for reader in (self._reader, *self._siblings):
                    reader.close()
                self._cache = BlockCache(0)
        super().close()

    def tell(self) -> int:
        """Return the position, in bytes from the start."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position, which may be after the end, and return it."""
        with self._lock:
            self._check_open()
            base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}
            if whence not in base:
                raise ValueError(f"whence is {whence}, not 0, 1 or 2")
            position = base[whence] + offset
            if position < 0:
                raise ValueError(f"The position is negative: {position}")
            self._position = position
            return position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, and return the number of bytes; less than its size only at the end."""
        with self._lock:
            view = memoryview(buffer).cast("B")
            n_bytes = self._fill(self._position, view)
            self._position += n_bytes
            return n_bytes

    readinto1 = readinto

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next `size` bytes; all to the end if it is negative or None."""
        with self._lock:
            data = self.read_at(self._position, size)
            self._position += len(data)
            return data

    def read1(self, size: int = -1, /) -> bytes:
        """Return the next `size` bytes; 64 KiB if it is negative."""
        return self.read(BLOCK_BYTES if size < 0 else size)

    def peek(self, size: int = 0, /) -> bytes:
        """Return the next bytes, up to the end of the block, and leave the position as it is."""
        with self._lock:
            rest = BLOCK_BYTES - self._position % BLOCK_BYTES
            return self.read_at(self._position, rest)

    def read_at(self, offset: int, size: int | None = -1) -> bytes:
        """Return bytes from an offset, whatever the position: for threads that share the file.

        Parameters
        ----------
        offset : int
            Offset of the first byte.
        size : int, optional
            Number of bytes; negative or None means to the end. Fewer are returned at the end.
        """
        with self._lock:
            self._check_open()
            left = max(0, self.size - offset)
            data = bytearray(left if size is None or size < 0 else min(size, left))
            self._fill(offset, memoryview(data))
            return bytes(data)

    def expect(self, spans: Iterable[Span], *, connections: int = 1) -> None:
        """Announce ranges that will be read soon, so that neighbours are fetched in one request.

        They replace those announced before; nothing is requested before one of them is read.

        Parameters
        ----------
        spans : iterable of (int, int)
            Offsets of the first byte of each, and after its last.
        connections : int
            With more than one, the read of a missing byte of these ranges fetches what follows
            in them, up to half the size of the cache, over so many connections at once. They stay
            open until the file is closed.
        """
        with self._lock:
            self._planner.expect(spans)
            self._n_connections = connections

    # -- fetching ------------------------------------------------------------------------------

    def _fill(self, start: int, view: memoryview) -> int:
        self._check_open()
        end = min(start + len(view), self.size)
        offset = start
        while offset < end:
            block = self._cache.get(offset // BLOCK_BYTES)
            if block is None and self._n_connections > 1:
                self._fetch_expected(offset)
                block = self._cache.get(offset // BLOCK_BYTES)
            if block is None:
                n_bytes = self._fetch(offset, end, view[offset - start : end - start])
            else:
                piece = block[offset % BLOCK_BYTES :][: end - offset]
                n_bytes = len(piece)
                view[offset - start : offset - start + n_bytes] = piece
            offset += n_bytes
        return max(0, end - start)

    def _fetch(self, start: int, end: int, view: memoryview) -> int:
        """Fetch a range from `start` on into a view; return how many of its bytes were filled."""
        first, last = self._planner.request(start, end, self._cache.__contains__)
        data = self._reader.read(first, last)
        n_bytes = min(end, last) - start
        view[:n_bytes] = memoryview(data)[start - first :][:n_bytes]
        # of a large read only the last block is cached: the next read may need the rest of it
        kept = first if n_bytes <= _BULK_BYTES else (start + n_bytes) // BLOCK_BYTES * BLOCK_BYTES
        self._keep(kept, first, data)
        return n_bytes

    def _fetch_expected(self, start: int) -> None:
        """Fetch announced ranges over several connections, if they include the byte at `start`."""
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

        with ThreadPoolExecutor(n_connections) as pool:
            futures = [pool.submit(copy_context().run, read, request) for request in requests]
            try:
                for (start, _), future in zip(requests, futures, strict=True):
                    self._keep(start, start, future.result())
            finally:
                for future in futures:
                    future.cancel()

    def _keep(self, kept: int, start: int, data: bytes) -> None:
        """Report bytes received from `start` on, and cache their blocks from offset `kept` on."""
        if self._heard:
            self._heard(len(data))
        for at in range(kept, start + len(data), BLOCK_BYTES):
            self._cache.put(at // BLOCK_BYTES, data[at - start : at - start + BLOCK_BYTES])

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("The file is closed")


def _readable_bytes(entry: Entry) -> int:
    """Return a file's size in bytes; raise where the file can't be read.

    A dCache door gives no size while a file is uploaded (DcacheFileResource.java, dCache 12.1). GET
    of a file that is on tape only would start a recall, and be answered after it (seen with
    11.2.5).
    """
    refuse_as_file(entry)
    if entry.size_bytes is None:
        raise DoorBusy(
            "The file is still being uploaded", where=entry.path, hint="Come back later."
        )
    if entry.locality == "NEARLINE":
        raise Nearline("The file is on tape and must be staged first", where=entry.path)
    if entry.locality in ("LOST", "UNAVAILABLE"):
        raise Lost(f"The storage says the file is {entry.locality.lower()}", where=entry.path)
    return entry.size_bytes
