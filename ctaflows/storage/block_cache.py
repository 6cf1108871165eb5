"""The block cache of a remote file, and the choice of the ranges to request. Pure: no I/O.

HDF5 reads small pieces of metadata that are close together, and chunks of data all over the file.
So requests are for whole blocks, sequential reads get read-ahead, and ranges that the reader
announces are requested together where they are close to each other.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Size of a block: visiting all groups of a DL1 file of 736 MB reads four of them.
BLOCK_BYTES = 1 << 16
#: Greatest size of a request without read-ahead, so that little is lost when one breaks off.
MAX_REQUEST_BYTES = 8 << 20
#: Greatest read-ahead of sequential reads.
_MAX_AHEAD_BYTES = 4 << 20
#: Greatest gap between two ranges that is read too, to save a request: at 50 MB/s it takes about as
#: long as a round trip of 5 ms.
_MAX_GAP_BYTES = 1 << 18

#: Greatest size of a request where several connections are used.
_SHARE_BYTES = 1 << 20

#: A range of bytes: the offset of the first, and that after the last.
Span = tuple[int, int]


class BlockCache:
    """A least-recently-used cache of blocks by their number; for one thread at a time.

    Parameters
    ----------
    cap_bytes : int
        Greatest size, in bytes; the last block is kept whatever its size.

    Attributes
    ----------
    held_bytes : int
        Present size, in bytes.
    """

    def __init__(self, cap_bytes: int) -> None:
        self._cap_bytes = cap_bytes
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self.held_bytes = 0

    def __contains__(self, number: int) -> bool:
        return number in self._blocks

    def __len__(self) -> int:
        return len(self._blocks)

    def get(self, number: int) -> bytes | None:
        """Return a block, now the most recently used one; None where it is not cached."""
        block = self._blocks.get(number)
        if block is not None:
            self._blocks.move_to_end(number)
        return block

    def put(self, number: int, block: bytes) -> None:
        """Add or replace a block, and drop the least recently used ones above the limit."""
        self.drop(number)
        self._blocks[number] = block
        self.held_bytes += len(block)
        while self.held_bytes > self._cap_bytes and len(self._blocks) > 1:
            self.held_bytes -= len(self._blocks.popitem(last=False)[1])

    def drop(self, number: int) -> None:
        """Remove a block, if it is cached."""
        self.held_bytes -= len(self._blocks.pop(number, b""))


class ReadPlanner:
    """Chooses the ranges to request from a file, given the reads and the cached blocks.

    Parameters
    ----------
    size_bytes : int
        Size of the file.
    cap_bytes : int
        Size of the cache, in bytes; at most half of it is used for bytes not yet asked for.
    block_bytes : int
        Size of a block. A request starts and ends at a multiple of it, or at the end of the file.
    """

    def __init__(self, size_bytes: int, cap_bytes: int, block_bytes: int = BLOCK_BYTES) -> None:
        self.size_bytes = size_bytes
        self.block_bytes = block_bytes
        self._room_bytes = cap_bytes // 2
        self._ahead_bytes = 0
        self._next = -1
        self._starts: list[int] = []
        self._ends: list[int] = []

    def expect(self, spans: Iterable[Span]) -> None:
        """Announce the ranges that will be read soon, in place of those announced before."""
        joined = joined_spans(spans)
        self._starts = [start for start, _ in joined]
        self._ends = [end for _, end in joined]

    def expected(self, start: int, holds: Callable[[int], bool]) -> list[Span]:
        """Return the ranges to request over several connections, if a missing byte was announced.

        Parameters
        ----------
        start : int
            Offset of the missing byte.
        holds : Callable
            As for `request`.

        Returns
        -------
        list of (int, int)
            The missing blocks of the announced ranges from `start` on, up to half the size of the
            cache, in pieces of at most 1 MiB; empty if the byte was not announced.
        """
        size, left = self.block_bytes, self._room_bytes
        blocks: dict[int, None] = {}
        first = bisect_right(self._starts, start) - 1
        if first < 0 or self._ends[first] <= start:
            return []
        for begin, end in zip(self._starts[first:], self._ends[first:], strict=True):
            for number in range(max(begin, start) // size, -(-end // size)):
                if number not in blocks and not holds(number) and left > 0:
                    left -= size
                    blocks[number] = None
            if left <= 0:
                break
        near = joined_spans(((n * size, (n + 1) * size) for n in blocks), _MAX_GAP_BYTES)
        return [
            (at, min(at + _SHARE_BYTES, end, self.size_bytes))
            for start, end in near
            for at in range(start, end, _SHARE_BYTES)
        ]

    def request(self, start: int, end: int, holds: Callable[[int], bool]) -> Span:
        """Return the range to request for a read whose first byte is not cached.

        Parameters
        ----------
        start, end : int
            Offsets of the first byte of the read, and after its last.
        holds : Callable
            Takes the number of a block, and returns whether it is cached.

        Returns
        -------
        (int, int)
            A range that includes `start`; the read may need further ones after it.
        """
        size = self.block_bytes
        first = start // size
        wanted = min(end, first * size + MAX_REQUEST_BYTES)
        stop = self._last_missing(first, -(-wanted // size), holds) + 1
        ahead = self._expected(first, stop, start)
        if ahead is None:
            ahead = stop + self._read_ahead(first) // size
        while stop < ahead and not (stop * size >= self.size_bytes or holds(stop)):
            stop += 1
        self._next = stop * size
        return first * size, min(stop * size, self.size_bytes)

    def _last_missing(self, first: int, stop: int, holds: Callable[[int], bool]) -> int:
        """Return the last missing block before a run of cached ones that is longer than a gap."""
        last = first
        for number in range(first + 1, stop):
            if not holds(number):
                if (number - last - 1) * self.block_bytes > _MAX_GAP_BYTES:
                    break
                last = number
        return last

    def _read_ahead(self, first: int) -> int:
        """Return the read-ahead in bytes: doubled at each sequential read, else 0."""
        if first * self.block_bytes != self._next:
            self._ahead_bytes = 0
        else:
            most = min(_MAX_AHEAD_BYTES, self._room_bytes)
            self._ahead_bytes = min(max(2 * self._ahead_bytes, self.block_bytes), most)
        return self._ahead_bytes

    def _expected(self, first: int, stop: int, start: int) -> int | None:
        """Return the block after announced ranges close to `start`; None where it is in none."""
        size = self.block_bytes
        i = bisect_right(self._starts, start) - 1
        if i < 0 or self._ends[i] <= start:
            return None
        most = first * size + max((stop - first) * size, min(MAX_REQUEST_BYTES, self._room_bytes))
        end = max(stop * size, min(self._ends[i], most))
        for a, b in zip(self._starts[i + 1 :], self._ends[i + 1 :], strict=True):
            if a - end > _MAX_GAP_BYTES or b > most:
                break
            end = max(end, b)
        return -(-end // size)


def joined_spans(spans: Iterable[Span], gap_bytes: int = 0) -> list[Span]:
    """Return sorted ranges, with those merged that overlap or are at most a gap apart.

    Empty ranges are left out.
    """
    joined: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if joined and start - joined[-1][1] <= gap_bytes:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined
