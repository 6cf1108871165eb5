"""What is odd in a night: files that are there twice, and sizes out of line. Pure."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctaflows.dl1.names import parse_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ctaflows.dl1.names import DL1Name
    from ctaflows.dl1.night import Night
    from ctaflows.model import Entry

    _File = tuple[int, int, Entry]  # run, subrun

#: A size is out of line when it is so many deviations, 1.4826 times the median of the absolute
#: deviations, and so large a part of the median, away from the median.
_DEVIATIONS, _LEAST_PART = 5.0, 0.1
_MAD_TO_SIGMA = 1.4826
#: Runs with fewer subruns are compared with those of the whole night, these if there are as many.
_FEW = 8


@dataclass(frozen=True)
class Double:
    """Files of one run that are there more than once.

    Attributes
    ----------
    kind : str
        ``dl1``, ``datacheck`` …
    run : int
        The run.
    n_files : int
        How many of its files are in more than one place.
    places : tuple of str
        Such as ``v0.1/tailcut84`` and ``v0.2/tailcut84``.
    """

    kind: str
    run: int
    n_files: int
    places: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON-ready values."""
        return {
            "kind": self.kind,
            "run": self.run,
            "n_files": self.n_files,
            "places": list(self.places),
        }


@dataclass(frozen=True)
class OddSize:
    """A file whose size is out of line with those of its kind.

    Attributes
    ----------
    path : str
        The file.
    size_bytes, median_bytes : int
        Its size, and the median of those like it.
    """

    path: str
    size_bytes: int
    median_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON-ready values."""
        return {
            "path": self.path,
            "size_bytes": self.size_bytes,
            "median_bytes": self.median_bytes,
        }


def _place(night: Night, entry: Entry) -> str:
    """Say in which version, and with which cleaning, a file is."""
    version, directory = night.home(entry.path)
    below = entry.parent.removeprefix(directory.rstrip("/")).strip("/")
    parts = [version or "", *below.split("/")]
    return "/".join(p for p in parts if p and p != "datacheck")


def doubles_in(nights: Sequence[Night]) -> tuple[Double, ...]:
    """Find runs with files of the same name in several places of a night's versions."""
    places: dict[tuple[str, int, str], set[str]] = defaultdict(set)
    for night in nights:
        for entry in night.entries:
            name = parse_name(entry.name)
            if name is not None:
                places[name.kind, name.run, entry.name].add(_place(night, entry))
    doubles: dict[tuple[str, int], list[set[str]]] = defaultdict(list)
    for (kind, run, _), where in places.items():
        if len(where) > 1:
            doubles[kind, run].append(where)
    return tuple(
        Double(kind, run, len(found), tuple(sorted(set().union(*found))))
        for (kind, run), found in sorted(doubles.items())
    )


def odd_sizes(named: Sequence[tuple[Entry, DL1Name]], growing: set[str]) -> tuple[OddSize, ...]:
    """Find files that are much smaller or larger than those like them.

    Parameters
    ----------
    named : sequence of (Entry, DL1Name)
        The files.
    growing : set of str
        Paths of those that are still written, which do not count.
    """
    alike: dict[tuple[str, str, str], list[_File]] = defaultdict(list)
    for entry, name in named:
        if name.subrun is not None and entry.size_bytes and entry.path not in growing:
            key = name.kind, name.extension, entry.parent
            alike[key].append((name.run, name.subrun, entry))
    odd: list[OddSize] = []
    for group in alike.values():
        last = {run: subrun for run, subrun, _ in sorted(group, key=lambda f: f[:2])}
        by_run: dict[int, list[_File]] = defaultdict(list)
        for file in group:
            by_run[file[0]].append(file)
        for run, files in by_run.items():
            others = files if len(files) >= _FEW else group
            if len(others) < _FEW:
                continue
            sizes = [e.size_bytes or 0 for _, _, e in others]
            odd.extend(_out_of_line(files, sizes, last[run]))
    return tuple(sorted(odd, key=lambda o: o.path))


def _out_of_line(files: Iterable[_File], sizes: Sequence[int], last: int) -> Iterator[OddSize]:
    median = statistics.median(sizes)
    deviation = _MAD_TO_SIGMA * statistics.median(abs(s - median) for s in sizes)
    most = max(_DEVIATIONS * deviation, _LEAST_PART * median)
    for _, subrun, entry in files:
        away = (entry.size_bytes or 0) - median
        # the run ended in its last subrun, whenever that was
        if abs(away) > most and not (away < 0 and subrun == last):
            yield OddSize(entry.path, entry.size_bytes or 0, round(median))
