"""Which bytes of a remote file to ask for, and which to keep. Pure: no network in here.

HDF5 reads small pieces of metadata that lie close together, and chunks of data all over the file.
So a read asks for whole blocks; a reader that goes on where it stopped gets more at a time; and who
knows what comes next says so, and what lies close together comes in one request.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: The walk through all groups of a DL1 file of 736 MB touches four of them.
BLOCK_BYTES = 1 << 16
#: A request is not larger, so that one that breaks costs little.
MAX_REQUEST_BYTES = 8 << 20
#: So much is read ahead at most of one who reads on and on.
_MAX_AHEAD_BYTES = 4 << 20
#: Rather than ask twice, so much between two pieces is read in vain: at 50 MB/s it costs less than
#: a round trip of 5 ms.
_MAX_GAP_BYTES = 1 << 18

#: Where several connections share the work, a request is not larger.
_SHARE_BYTES = 1 << 20

Span = tuple[int, int]


class BlockCache:
    """Blocks by their number; those not used for longest go first.

    Parameters
    ----------
    cap_bytes : int
        Never more than these, but one block at least.

    Attributes
    ----------
    held_bytes : int
        How many there are.
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
        """Give a block, which so becomes the last to go."""
        block = self._blocks.get(number)
        if block is not None:
            self._blocks.move_to_end(number)
        return block

    def put(self, number: int, block: bytes) -> None:
        """Keep a block."""
        self.drop(number)
        self._blocks[number] = block
        self.held_bytes += len(block)
        while self.held_bytes > self._cap_bytes and len(self._blocks) > 1:
            self.held_bytes -= len(self._blocks.popitem(last=False)[1])

    def drop(self, number: int) -> None:
        """Forget a block, if it is there."""
        self.held_bytes -= len(self._blocks.pop(number, b""))


class ReadPlanner:
    """Decides on requests.

    Parameters
    ----------
    size_bytes : int
        Of the file.
    cap_bytes : int
        Of the cache: what is read before it is asked for fits into half of it.
    block_bytes : int
        A request begins and ends between blocks, or at the end of the file.
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
        """Say what will be read soon; an earlier word is forgotten."""
        joined = joined_spans(spans)
        self._starts = [start for start, _ in joined]
        self._ends = [end for _, end in joined]

    def expected(self, start: int, holds: Callable[[int], bool]) -> list[Span]:
        """Say what to ask for over several connections, when what is missing was expected.

        Parameters
        ----------
        start : int
            The byte that is missing.
        holds : Callable
            As for `request`.

        Returns
        -------
        list of (int, int)
            As much as there is room for of what is expected from there on; none if this was not.
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
        """Say what to ask for, when bytes are wanted of which the first is not there.

        Parameters
        ----------
        start, end : int
            The first byte that is missing, and the end of what is wanted.
        holds : Callable
            Is the block of a number there?

        Returns
        -------
        (int, int)
            Begin and end, around ``start``. More may be missing behind it.
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
        """Give the last block to ask for: few that are there are asked for again, many are not."""
        last = first
        for number in range(first + 1, stop):
            if not holds(number):
                if (number - last - 1) * self.block_bytes > _MAX_GAP_BYTES:
                    break
                last = number
        return last

    def _read_ahead(self, first: int) -> int:
        """Give twice as much to one who goes on, as long as he does."""
        if first * self.block_bytes != self._next:
            self._ahead_bytes = 0
        else:
            most = min(_MAX_AHEAD_BYTES, self._room_bytes)
            self._ahead_bytes = min(max(2 * self._ahead_bytes, self.block_bytes), most)
        return self._ahead_bytes

    def _expected(self, first: int, stop: int, start: int) -> int | None:
        """Give the block behind all that is expected and lies close; None where nothing is."""
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
    """Sort spans, and make one of those that overlap or have no more than a gap between them.

    Empty spans are left out.
    """
    joined: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if joined and start - joined[-1][1] <= gap_bytes:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined
