"""What is there of a file that comes in several ranges, kept so that a kill loses nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from ctaflows.atomic_files import open_ours, read_ours, replace_ours
from ctaflows.transfer.part_file import local_error

if TYPE_CHECKING:
    from pathlib import Path

#: Below this a file comes in one piece: another request costs more than it brings.
RANGES_FROM_BYTES = 64 << 20
_MIB = 1 << 20
_MIN_RANGE_BYTES = 4 * _MIB
_MAX_RANGE_BYTES = 64 * _MIB
#: So many ranges in a row are of one length: as many as come at once over a network.
_AT_ONCE = 8
_WIDTH = 20  # digits of a byte's number, one a line: a line is overwritten in place


@dataclass(slots=True)
class Range:
    """One range of a file.

    Attributes
    ----------
    index : int
        Its place among the ranges.
    start, end : int
        First byte, and first byte that belongs to it no longer.
    next : int
        First byte that is not here yet.
    """

    index: int
    start: int
    end: int
    next: int

    @property
    def is_complete(self) -> bool:
        """Is all of it here?"""
        return self.next == self.end


def split(size_bytes: int, here_bytes: int = 0) -> list[Range]:
    """Cut a file into ranges, shorter and shorter: so all connections end at nearly the same time.

    What is noted of an unfinished file is read back by the same cut, so it depends on the size
    alone.

    Parameters
    ----------
    size_bytes : int
        Size of the file.
    here_bytes : int
        So many of its first bytes are here already.

    Returns
    -------
    list of Range
        Without gaps, in order, some 4 to 64 MiB each.
    """
    ranges: list[Range] = []
    start = 0
    while start < size_bytes:
        length = _length(size_bytes - start)
        for _ in range(_AT_ONCE):
            end = min(start + length, size_bytes)
            ranges.append(Range(len(ranges), start, end, min(max(here_bytes, start), end)))
            start = end
            if start == size_bytes:
                break
    return ranges


def _length(left_bytes: int) -> int:
    """Say how long the next ranges are: together most of what is left, at the end all of it.

    Each further range costs its connection a round trip.
    """
    one_each = -(-left_bytes // _AT_ONCE)
    length = one_each if one_each <= 2 * _MIN_RANGE_BYTES else one_each * 3 // 4
    whole_mib = -(-length // _MIB) * _MIB
    return min(max(whole_mib, _MIN_RANGE_BYTES), _MAX_RANGE_BYTES)


class RangeJournal:
    """The file that tells what is here of each range: a line a range, the number of its next byte.

    Each line is as long as any other and is overwritten in place, by one write that the system has
    taken before the next byte is asked for: a kill finds it old or new. After a crash of the system
    it may promise more than reached the disk; the whole file's checksum finds that.

    Parameters
    ----------
    file : Path
        Where it lies. Made if it is not there, or is not of a file of this size.
    size_bytes : int
        Size of the file.
    here_bytes : int
        How many first bytes are here, where there is no journal yet.
    """

    def __init__(self, file: Path, size_bytes: int, here_bytes: int) -> None:
        self._file = file
        try:
            there = self._read(size_bytes, here_bytes)
            self.ranges = self._made(size_bytes, here_bytes) if there is None else there
            self._descriptor = open_ours(file, os.O_WRONLY)
        except OSError as why:
            raise local_error(why, file) from why

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._descriptor)

    def note(self, part: Range) -> None:
        """Write down how far a range has come."""
        line = f"{part.next:0{_WIDTH}d}\n".encode()
        try:
            os.pwrite(self._descriptor, line, part.index * len(line))
        except OSError as why:
            raise local_error(why, self._file) from why

    def _read(self, size_bytes: int, here_bytes: int) -> list[Range] | None:
        """Read a journal; None where there is none. One that does not fit promises nothing."""
        try:
            numbers = [int(line) for line in read_ours(self._file).split()]
        except FileNotFoundError:
            return None
        except ValueError:
            numbers = []
        ranges = split(size_bytes)
        fits = len(numbers) == len(ranges)
        if not fits or not all(
            r.start <= n <= max(r.start, min(r.end, here_bytes))
            for r, n in zip(ranges, numbers, strict=True)
        ):
            return self._made(size_bytes, 0)
        for part, number in zip(ranges, numbers, strict=True):
            part.next = number
        return ranges

    def _made(self, size_bytes: int, here_bytes: int) -> list[Range]:
        ranges = split(size_bytes, here_bytes)
        text = "".join(f"{r.next:0{_WIDTH}d}\n" for r in ranges)
        replace_ours(self._file, text.encode("ascii"))
        return ranges
