"""The ranges of a download, and a journal on disk of how much of each has been written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from ctaflows.atomic_files import local_errors, open_ours, read_ours, replace_ours

if TYPE_CHECKING:
    from pathlib import Path

#: Smaller files are fetched by one request: further ones cost more than they gain.
RANGES_FROM_BYTES = 64 << 20
_MIB = 1 << 20
_MIN_RANGE_BYTES = 4 * _MIB
_MAX_RANGE_BYTES = 64 * _MIB
#: This many ranges in a row have the same length: as many as are fetched concurrently.
_N_CONCURRENT = 8
_N_DIGITS = 20  # of each line's number; of one length, since lines are overwritten in place


@dataclass(slots=True)
class Range:
    """One range of a file.

    Attributes
    ----------
    index : int
        Its index among the file's ranges.
    start, end : int
        Offset of the first byte, and of the first byte after the range.
    next : int
        Offset of the first byte that has not been written yet.
    """

    index: int
    start: int
    end: int
    next: int

    @property
    def is_complete(self) -> bool:
        """Whether all bytes of the range have been written."""
        return self.next == self.end


def split(size_bytes: int, here_bytes: int = 0) -> list[Range]:
    """Split a file into ranges that become shorter, so that all connections end at about one time.

    The ranges depend on the size alone, since a journal has no offsets of their ends.

    Parameters
    ----------
    size_bytes : int
        Size of the file.
    here_bytes : int
        Number of bytes from the start that have been written already.

    Returns
    -------
    list of Range
        In order and without gaps, of 4 to 64 MiB; the last may be shorter.
    """
    ranges: list[Range] = []
    start = 0
    while start < size_bytes:
        length = _length(size_bytes - start)
        for _ in range(_N_CONCURRENT):
            end = min(start + length, size_bytes)
            ranges.append(Range(len(ranges), start, end, min(max(here_bytes, start), end)))
            start = end
            if start == size_bytes:
                break
    return ranges


def _length(left_bytes: int) -> int:
    """Return the length of the next 8 ranges: together 3/4 of what is left, at the end all of it.

    Shorter ones would cost more round trips.
    """
    one_each = -(-left_bytes // _N_CONCURRENT)
    length = one_each if one_each <= 2 * _MIN_RANGE_BYTES else one_each * 3 // 4
    whole_mib = -(-length // _MIB) * _MIB
    return min(max(whole_mib, _MIN_RANGE_BYTES), _MAX_RANGE_BYTES)


class RangeJournal:
    """The journal of a download in ranges: a line for each range with its `Range.next`.

    All lines have the same length and are overwritten in place by one system call, so that a kill
    leaves the old line or the new one. After a crash of the operating system the journal may be
    ahead of the bytes on the disk; the checksum of the complete file finds that.

    Parameters
    ----------
    file : Path
        Path of the journal. It is created where there is none, or none for a file of this size.
    size_bytes : int
        Size of the downloaded file.
    here_bytes : int
        Number of bytes from the start that have been written, where there is no journal yet; the
        size of the part file, beyond which a journal is not believed.

    Attributes
    ----------
    ranges : list of Range
        The ranges, as far as the journal says they are written.
    """

    def __init__(self, file: Path, size_bytes: int, here_bytes: int) -> None:
        self._file = file
        with local_errors(file):
            found = self._read(size_bytes, here_bytes)
            self.ranges = self._create(size_bytes, here_bytes) if found is None else found
            self._descriptor = open_ours(file, os.O_WRONLY)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._descriptor)

    def note(self, part: Range) -> None:
        """Write how much of a range has been written to its line."""
        line = f"{part.next:0{_N_DIGITS}d}\n".encode()
        with local_errors(self._file):
            os.pwrite(self._descriptor, line, part.index * len(line))

    def _read(self, size_bytes: int, here_bytes: int) -> list[Range] | None:
        """Return the journal's ranges, None where there is no journal.

        A journal that does not fit is replaced by one without any bytes.
        """
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
            return self._create(size_bytes, 0)
        for part, number in zip(ranges, numbers, strict=True):
            part.next = number
        return ranges

    def _create(self, size_bytes: int, here_bytes: int) -> list[Range]:
        ranges = split(size_bytes, here_bytes)
        text = "".join(f"{r.next:0{_N_DIGITS}d}\n" for r in ranges)
        replace_ours(self._file, text.encode("ascii"))
        return ranges
