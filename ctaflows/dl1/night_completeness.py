"""Completeness of a night on the storage: runs, missing subruns, duplicates, outliers. Pure.

The verdict here is on the storage alone; that on a night that was fetched, for which its files
count too, is from `dl1.report.totals.verdict_of_night`.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ctaflows.dl1.names import parse_name
from ctaflows.dl1.night import (
    Wanted,
    gaps,
    is_growing,
    night_name,
    subrun_name,
    version_order,
    versions_used,
)
from ctaflows.dl1.night_snapshots import COMPLETE, GROWING, INCOMPLETE, Changes
from ctaflows.model import Record
from ctaflows.text import shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ctaflows.dl1.names import DL1Name
    from ctaflows.dl1.night import Night
    from ctaflows.dl1.night_snapshots import NightSnapshot
    from ctaflows.model import Entry

    _File = tuple[int, int, Entry]  # run, subrun

    from ctaflows.dl1.night import Gaps

#: With more missing numbers than this in a run, subruns are not numbered consecutively.
_MOST_SUBRUNS = 10_000


@dataclass(frozen=True)
class RunCompleteness(Record):
    """Completeness of one run of a night.

    Attributes
    ----------
    run : int
        Number of the run.
    version : str or None
        Version that the run is taken from; None where the night is not divided by version, or has
        no files of the run.
    n_subruns : int
        Number of subruns with a DL1 file.
    n_expected : int or None
        Number of subruns in the run summary; None without one.
    missing : tuple of int
        Subruns without a DL1 file that are below the highest one with a file, below
        ``n_expected``, or in an older version only.
    growing : tuple of int
        Subruns whose DL1 file is being written, or was less than 10 minutes ago.
    is_merged : bool
        Whether there is a DL1 file of the whole run.
    n_datacheck : int
        Number of subruns with a datacheck, of their own or of the whole run.
    size_bytes : int
        Total size of the DL1 files.
    last_change : datetime or None
        Time of the last modification of a DL1 file.
    """

    run: int
    n_subruns: int = 0
    n_expected: int | None = None
    missing: tuple[int, ...] = ()
    growing: tuple[int, ...] = ()
    is_merged: bool = False
    n_datacheck: int = 0
    size_bytes: int = 0
    last_change: datetime | None = None
    version: str | None = None


@dataclass(frozen=True)
class Completeness(Record):
    """Completeness of a night on the storage.

    Attributes
    ----------
    date : str
        Date of the evening, ``YYYYMMDD``.
    version : str or None
        Version of the night; of several, the newest with files.
    path : str
        Remote path of the night.
    looked_at : datetime
        Time at which it was assessed.
    verdict : str
        ``growing`` while files are being written; otherwise ``incomplete`` where there is no DL1
        file, or a file is missing, unknown, empty or without its datacheck or data; otherwise
        ``complete``.
    versions : tuple of str
        All versions of the night on the storage, oldest first.
    versions_used : tuple of str
        Versions that the night's files are taken from, oldest first.
    versions_without_dl1 : tuple of str
        Versions without a DL1 file (yet).
    n_files, size_bytes : int
        Number and total size of the night's files.
    runs : tuple of RunCompleteness
        The runs, by number.
    missing, growing, only_older, has_dl1, awaited, unknown
        As in `Gaps`; ``growing`` includes datacheck files.
    empty : tuple of str
        Paths of files of 0 bytes.
    data_without_datacheck, datacheck_without_data : tuple of str
        Such as ``Run11111.0003``. The first leaves out versions without any datacheck.
    has_datacheck : bool
        Whether the night has any datacheck.
    doubles : tuple of Duplicate
        Runs with files in several versions, or with several cleanings.
    odd_sizes : tuple of SizeOutlier
        Files of unusual size. The last subrun of a run may be small.
    changes : Changes or None
        Changes since the last look; None at the first one.
    """

    date: str
    version: str | None
    path: str
    looked_at: datetime
    verdict: str = INCOMPLETE
    versions: tuple[str, ...] = ()
    n_files: int = 0
    size_bytes: int = 0
    runs: tuple[RunCompleteness, ...] = ()
    missing: tuple[str, ...] = ()
    growing: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    data_without_datacheck: tuple[str, ...] = ()
    datacheck_without_data: tuple[str, ...] = ()
    has_datacheck: bool = False
    doubles: tuple[Duplicate, ...] = ()
    odd_sizes: tuple[SizeOutlier, ...] = ()
    changes: Changes | None = None
    versions_used: tuple[str, ...] = ()
    versions_without_dl1: tuple[str, ...] = ()
    only_older: Mapping[str, str] = field(default_factory=dict)
    has_dl1: bool = True
    awaited: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The date, and the versions with files."""
        return night_name(self.date, self.versions_used)

    @property
    def n_subruns(self) -> int:
        """Number of subruns with a DL1 file."""
        return sum(run.n_subruns for run in self.runs)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values, with ``n_subruns``, which is computed."""
        return {**super().to_dict(), "n_subruns": self.n_subruns}


@dataclass
class _Run:
    """The files of one run, while they are collected."""

    subruns: dict[int, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    merged: list[Entry] = field(default_factory=list)
    checked: set[int | None] = field(default_factory=set)
    version: str | None = None

    @property
    def entries(self) -> list[Entry]:
        return [e for entries in self.subruns.values() for e in entries] + self.merged


def assess(
    night: Night,
    now: datetime,
    *,
    others: Sequence[Night] = (),
    expected: Mapping[int, int] | None = None,
    before: NightSnapshot | None = None,
) -> Completeness:
    """Return the completeness of a night.

    Parameters
    ----------
    night : Night
        The night with all its files.
    now : datetime
        The present time, aware.
    others : sequence of Night, optional
        Other versions of the night; of versions that files are taken from, the other files.
    expected : mapping of int to int, optional
        Number of subruns by run, from the night's run summary.
    before : NightSnapshot, optional
        Snapshot of the last look, to compare with. A file without a modification time that has
        changed since counts as growing.
    """
    named = [(e, name) for e in night.entries if (name := parse_name(e.name))]
    found = _runs(night, named)
    changes = before.compare(night) if before else None
    changed_paths = set(changes.changed) if changes else set()
    base = night.path.rstrip("/") + "/"
    growing = [
        e
        for e, name in named
        if name.kind in ("dl1", "datacheck")
        and (is_growing(e, now) or (e.mtime is None and e.path.removeprefix(base) in changed_paths))
    ]
    numbers = sorted({*found, *(expected or {})})
    runs = tuple(
        _run(n, found.get(n, _Run()), expected, {e.path for e in growing}, night.only_older)
        for n in numbers
    )
    found_gaps = gaps(night, Wanted(), now)
    missing = _missing(found_gaps.missing, runs, expected)
    empty = tuple(e.path for e, _ in named if e.size_bytes == 0)
    checked = {run.version for run in found.values() if run.checked}
    unchecked, orphans = _unpaired(found, checked)
    versions = _with_dl1([night, *others])
    is_incomplete = bool(missing or empty or unchecked or orphans) or found_gaps.is_incomplete
    return Completeness(
        date=night.date,
        version=night.version,
        path=night.path,
        looked_at=now,
        verdict=GROWING if growing else INCOMPLETE if is_incomplete else COMPLETE,
        versions=tuple(versions),
        versions_used=versions_used(night.version, night.versions),
        versions_without_dl1=tuple(version for version, has_dl1 in versions.items() if not has_dl1),
        n_files=len(night.entries),
        size_bytes=sum(e.size_bytes or 0 for e in night.entries),
        runs=runs,
        missing=missing,
        growing=tuple(e.name for e in growing),
        empty=empty,
        data_without_datacheck=unchecked,
        datacheck_without_data=orphans,
        has_datacheck=bool(checked),
        only_older=found_gaps.only_older,
        has_dl1=found_gaps.has_dl1,
        awaited=found_gaps.awaited,
        unknown=found_gaps.unknown,
        doubles=duplicates_in([night, *others]),
        odd_sizes=size_outliers(named, {e.path for e in growing}),
        changes=changes,
    )


def _with_dl1(nights: Iterable[Night]) -> dict[str, bool]:
    """Return the versions, oldest first, each with whether it has DL1 files."""
    found: dict[str, bool] = {}
    for night in nights:
        if night.version:
            found.setdefault(night.version, False)
        for entry in night.entries:
            version, _ = night.home(entry.path)
            if version and not found.get(version) and (name := parse_name(entry.name)):
                found[version] = name.kind == "dl1"
    return {version: found[version] for version in sorted(found, key=version_order)}


def _runs(night: Night, named: Iterable[tuple[Entry, DL1Name]]) -> dict[int, _Run]:
    runs: dict[int, _Run] = defaultdict(_Run)
    for entry, name in named:
        if name.kind in ("dl1", "datacheck"):
            runs[name.run].version = night.home(entry.path)[0]
        if name.kind == "dl1":
            run = runs[name.run]
            (run.merged if name.subrun is None else run.subruns[name.subrun]).append(entry)
        elif name.kind == "datacheck" and name.extension == "h5":
            runs[name.run].checked.add(name.subrun)
    return runs


def _run(
    number: int,
    run: _Run,
    expected: Mapping[int, int] | None,
    growing: set[str],
    only_older: Iterable[tuple[int, int | None]],
) -> RunCompleteness:
    n_expected = (expected or {}).get(number)
    older = {s for r, s in only_older if r == number and s is not None}
    all_expected = older.union(range(_n_subruns(run, n_expected)))
    changes = [e.mtime for e in run.entries if e.mtime]
    return RunCompleteness(
        run=number,
        n_subruns=len(run.subruns),
        n_expected=n_expected,
        missing=tuple(sorted(all_expected - run.subruns.keys())),
        growing=tuple(
            sorted(
                s for s, entries in run.subruns.items() if any(e.path in growing for e in entries)
            )
        ),
        is_merged=bool(run.merged),
        n_datacheck=len(run.subruns) if None in run.checked else len(run.checked & {*run.subruns}),
        size_bytes=sum(e.size_bytes or 0 for e in run.entries),
        last_change=max(changes, default=None),
        version=run.version,
    )


def _n_subruns(run: _Run, n_expected: int | None) -> int:
    """Return the number of subruns that a run should have; 0 where it has only a merged file."""
    if not run.subruns:
        return 0 if run.merged else min(n_expected or 0, _MOST_SUBRUNS)
    n_numbered = max(run.subruns) + 1
    if n_numbered > len(run.subruns) + _MOST_SUBRUNS:
        return 0  # not numbered consecutively
    return max(n_numbered, min(n_expected or 0, _MOST_SUBRUNS))


def _missing(
    missing_in_gaps: Iterable[str],
    runs: Iterable[RunCompleteness],
    expected: Mapping[int, int] | None,
) -> tuple[str, ...]:
    """Return the names of what is missing according to `gaps`, and to the run summary."""
    missing = list(missing_in_gaps)
    if expected is None:
        return tuple(missing)
    known = set(missing)
    for run in runs:
        if run.missing and not run.n_subruns:
            missing.append(f"Run{run.run:05d}")
            continue
        names = (subrun_name(run.run, subrun) for subrun in run.missing)
        missing += [name for name in names if name not in known]
    return tuple(sorted(missing))


def _unpaired(
    runs: Mapping[int, _Run], checked: set[str | None]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of data without datacheck, in versions with any, and of the converse."""
    unchecked, orphans = [], []
    for number, run in sorted(runs.items()):
        if run.version in checked and None not in run.checked:
            unchecked += _names(number, run.subruns.keys() - run.checked)
            if run.merged and not run.subruns and not run.checked:
                unchecked.append(f"Run{number:05d}")
        if not run.merged:
            orphans += _names(number, run.checked - run.subruns.keys() - {None})
        if None in run.checked and not run.subruns and not run.merged:
            orphans.append(f"Run{number:05d}")
    return tuple(unchecked), tuple(orphans)


def _names(run: int, subruns: Iterable[int | None]) -> list[str]:
    return sorted(subrun_name(run, subrun) for subrun in subruns if subrun is not None)


# -- duplicates and outliers -----------------------------------------------------------------------

#: A size is an outlier where its distance from the median is more than 5 standard deviations, and
#: more than a tenth of the median.
_DEVIATIONS, _LEAST_PART = 5.0, 0.1
#: Standard deviation of a normal distribution in units of the median absolute deviation.
_MAD_TO_SIGMA = 1.4826
#: Runs with fewer subruns are compared with all subruns of the night; with fewer than this in all,
#: sizes are not compared.
_FEW = 8


@dataclass(frozen=True)
class Duplicate(Record):
    """Files of one run that are in several directories of a night.

    Attributes
    ----------
    kind : str
        Kind of the files, as in `DL1Name`: ``dl1``, ``datacheck`` …
    run : int
        Number of the run.
    n_files : int
        Number of its files that are in several directories.
    places : tuple of str
        Version and directory of each, such as ``v0.1/tailcut84`` and ``v0.2/tailcut84``.
    """

    kind: str
    run: int
    n_files: int
    places: tuple[str, ...]


@dataclass(frozen=True)
class SizeOutlier(Record):
    """A file whose size differs much from that of similar files.

    Attributes
    ----------
    path : str
        Remote path of the file.
    size_bytes, median_bytes : int
        Size of the file, and median size of similar files.
    """

    path: str
    size_bytes: int
    median_bytes: int


def _place(night: Night, entry: Entry) -> str:
    """Return version and directory of a file, such as ``v0.1/tailcut84``."""
    version, directory = night.home(entry.path)
    below = entry.parent.removeprefix(directory.rstrip("/")).strip("/")
    parts = [version or "", *below.split("/")]
    return "/".join(p for p in parts if p and p != "datacheck")


def duplicates_in(nights: Sequence[Night]) -> tuple[Duplicate, ...]:
    """Return the runs with files of the same name in several directories of a night's versions."""
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
        Duplicate(kind, run, len(found), tuple(sorted(set().union(*found))))
        for (kind, run), found in sorted(doubles.items())
    )


def size_outliers(
    named: Sequence[tuple[Entry, DL1Name]], growing: set[str]
) -> tuple[SizeOutlier, ...]:
    """Return the files that are much smaller or larger than similar ones.

    Similar are files of subruns with the same kind, extension and directory.

    Parameters
    ----------
    named : sequence of (Entry, DL1Name)
        The files, with the parts of their names.
    growing : set of str
        Paths of files that are being written; these are left out.
    """
    groups: dict[tuple[str, str, str], list[_File]] = defaultdict(list)
    for entry, name in named:
        if name.subrun is not None and entry.size_bytes and entry.path not in growing:
            key = name.kind, name.extension, entry.parent
            groups[key].append((name.run, name.subrun, entry))
    outliers: list[SizeOutlier] = []
    for group in groups.values():
        last = {run: subrun for run, subrun, _ in sorted(group, key=lambda f: f[:2])}
        by_run: dict[int, list[_File]] = defaultdict(list)
        for file in group:
            by_run[file[0]].append(file)
        for run, files in by_run.items():
            others = files if len(files) >= _FEW else group
            if len(others) < _FEW:
                continue
            sizes = [e.size_bytes or 0 for _, _, e in others]
            outliers.extend(_outliers(files, sizes, last[run]))
    return tuple(sorted(outliers, key=lambda o: o.path))


def _outliers(files: Iterable[_File], sizes: Sequence[int], last: int) -> Iterator[SizeOutlier]:
    median = statistics.median(sizes)
    deviation = _MAD_TO_SIGMA * statistics.median(abs(s - median) for s in sizes)
    most = max(_DEVIATIONS * deviation, _LEAST_PART * median)
    for _, subrun, entry in files:
        difference = (entry.size_bytes or 0) - median
        # the last subrun of a run may be short
        if abs(difference) > most and not (difference < 0 and subrun == last):
            yield SizeOutlier(entry.path, entry.size_bytes or 0, round(median))


#: Listed as missing where a night has no DL1 file.
NO_DL1 = "any DL1 file"


def missing(what: Completeness | Gaps) -> list[str]:
    """Return what is missing of a night as text, with the version that has it, or will have it."""
    older = what.only_older
    named = [f"{name} (in {older[name]})" if name in older else name for name in what.missing]
    named += [f"{run} (not yet in {version})" for run, version in what.awaited.items()]
    return named if what.has_dl1 else [NO_DL1, *named]


def versions_text(runs: Iterable[tuple[str | None, int]]) -> str:
    """Return the runs of each version as text; empty unless there are several versions.

    Parameters
    ----------
    runs : iterable of (str or None, int)
        Version and run number.

    Returns
    -------
    str
        Such as ``v0.9 of runs 11111, 11112; v0.10 of run 11113``.
    """
    found: dict[str, set[int]] = {}
    for version, run in runs:
        if version is not None:
            found.setdefault(version, set()).add(run)
    if len(found) < 2:
        return ""
    return "; ".join(
        f"{version} of run{'s' * (len(some) != 1)} {shortened(map(str, sorted(some)))}"
        for version, some in sorted(found.items(), key=lambda f: version_order(f[0]))
    )
