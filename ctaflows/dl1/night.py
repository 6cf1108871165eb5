"""A night as a unit: which files belong to it, which are wanted, what is missing. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ctaflows.dl1.names import DL1Name, Numbers, parse_name
from ctaflows.errors import UsageError
from ctaflows.model import Record
from ctaflows.storage.links import may_hide_files
from ctaflows.storage.paths import selected

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date, datetime

    from ctaflows.dl1.names import DL1Name
    from ctaflows.model import Entry

    _Run = tuple[int, int]  # telescope, run

#: A file younger than this may still be written to.
GROWING_S = 600.0
#: More gaps than this in one run are not gaps but a sparse numbering.
_MAX_GAPS = 10_000
#: A release such as v0.10.4; before it come its candidates, v0.10.4rc1. lstosa added the version of
#: the calibration in 2020 and 2021: v0.6.3_v05.
_VERSION = re.compile(
    r"v(?P<release>[0-9]+(?:\.[0-9]+)*)(?:(?P<phase>a|b|rc|_v)(?P<number>[0-9]+))?"
)
_PHASES = {"a": -3, "b": -2, "rc": -1, None: 0, "_v": 1}
_DEFAULT_KINDS = ("dl1", "datacheck")


@dataclass(frozen=True)
class Night:
    """The files of one night: those of one version, or each run's of its newest version.

    Attributes
    ----------
    date : str
        ``YYYYMMDD``, the evening's date.
    version : str or None
        Such as ``v0.1``, the newest one of which there are files; None where the night is not
        divided by version.
    path : str
        The directory of that version; where files are of several, the one in which these lie.
    entries : tuple of Entry
        The files.
    versions : mapping of str to str
        Directory of each version of which there are files, oldest first; empty unless there are
        several.
    superseded : tuple of Night
        All versions of the night, each with the files that are not among the entries; empty where
        no other version was looked at.
    only_older : mapping of (int, int or None) to str
        Run and subrun (None: the run in one file) of which only a version older than the run's has
        DL1 data, and that version.
    awaited : mapping of int to str
        Runs that are being processed anew: a newer version than theirs, which is told, has files
        of them (lstchain writes interleaved events and muons first), but no DL1 data yet.
    """

    date: str
    version: str | None
    path: str
    entries: tuple[Entry, ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    superseded: tuple[Night, ...] = ()
    only_older: Mapping[tuple[int, int | None], str] = field(default_factory=dict)
    awaited: Mapping[int, str] = field(default_factory=dict)

    @property
    def base(self) -> str:
        """Directory that ``DEST/<date>`` stands for."""
        return self.path.removesuffix(f"/{self.version}") if self.version else self.path

    def home(self, path: str) -> tuple[str | None, str]:
        """Give the version that a file is of, and the directory of that version."""
        return home(path, self.versions) or (self.version, self.path)


@dataclass(frozen=True)
class Wanted:
    """Which files of a night are wanted.

    Attributes
    ----------
    runs, subruns : Numbers
        Sets of numbers.
    include, exclude : tuple of str
        Shell patterns as in `paths.selected`. Without include: DL1 files and their datacheck.
    """

    runs: Numbers = field(default_factory=Numbers)
    subruns: Numbers = field(default_factory=Numbers)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gaps(Record):
    """What is not (yet) there.

    Attributes
    ----------
    missing : tuple of str
        Such as ``Run11111.0003`` or ``Run11115`` (the whole run).
    growing : tuple of str
        Names of files that are still being written, or were a moment ago.
    only_older : mapping of str to str
        Those missing that a version older than the run's has, and that version.
    has_dl1 : bool
        Has the night any DL1 file?
    awaited : mapping of str to str
        Runs of which a newer version has files, but no DL1 data yet, and that version.
    unknown : tuple of str
        What the door names without describing it: path and what it said.
    """

    missing: tuple[str, ...] = ()
    growing: tuple[str, ...] = ()
    only_older: Mapping[str, str] = field(default_factory=dict)
    has_dl1: bool = True
    awaited: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    @property
    def is_incomplete(self) -> bool:
        """Is something not there, or not known to be? What is growing is."""
        return bool(self.missing or self.awaited or self.unknown) or not self.has_dl1


def directories(pattern: str, day: date, version: str) -> tuple[str, str | None]:
    """Fill in where a night lies.

    Parameters
    ----------
    pattern : str
        ``Settings.night_path``.
    day : date
        The evening's date.
    version : str
        A version, or ``latest``.

    Returns
    -------
    path : str
        Directory of the night; with ``latest``, the directory in which versions are to be looked
        for.
    rest : str or None
        With ``latest``, what of the pattern comes below the version; else None.
    """
    try:
        if version != "latest" or "{version}" not in pattern:
            return pattern.format(date=f"{day:%Y%m%d}", version=version), None
        filled = pattern.format(date=f"{day:%Y%m%d}", version="\0")
        if pattern.split("/").count("{version}") != 1 or filled.count("\0") != 1:
            raise ValueError("the version must be one directory's whole name")
        above, _, rest = filled.partition("\0")
        return above, rest.strip("/")
    except (KeyError, IndexError, ValueError, AttributeError, TypeError):
        raise UsageError(
            f"The setting night_path can't be “{pattern}”",
            hint="It may hold {date} and {version}, as in cta/DL1/{date}/{version}.",
        ) from None


def is_version(name: str) -> bool:
    """Is a directory's name that of a version? v0.1 is one; v0.11_test is no release."""
    return _VERSION.fullmatch(name) is not None


def is_unreleased(name: str) -> bool:
    """Is a directory's name like that of a version, such as v0.11_test, without being one?"""
    return re.match("v[0-9]", name) is not None and not is_version(name)


def version_order(name: str) -> tuple[list[int], int, int, str]:
    """Give the key by which versions are sorted: v0.10 is above v0.9, v0.1 above v0.1rc1."""
    match = _VERSION.fullmatch(name)
    if match is None:
        return ([], 0, 0, name)
    release = [int(n) for n in match["release"].split(".")]
    return (release, _PHASES[match["phase"]], int(match["number"] or 0), name)


def latest(names: Iterable[str]) -> str | None:
    """Choose the highest version among names of directories, or None."""
    return max(filter(is_version, names), key=version_order, default=None)


def home(path: str, versions: Mapping[str, str]) -> tuple[str, str] | None:
    """Give the version that a file is of, and its directory; None if it is of none of these."""
    return next(((v, d) for v, d in versions.items() if path.startswith(f"{d}/")), None)


def versions_used(version: str | None, versions: Iterable[str]) -> tuple[str, ...]:
    """Give the versions of which there are files: several, or the one there is, or none."""
    return tuple(versions) or ((version,) if version else ())


def night_name(date: str, versions: Iterable[str]) -> str:
    """Name a night and the versions of which there are files, as in titles."""
    return f"{date} {', '.join(versions)}".rstrip()


def current(night: Night, paths: Iterable[str]) -> list[str]:
    """Leave out the files of runs that the night takes from another version.

    Parameters
    ----------
    night : Night
        As it is now.
    paths : iterable of str
        Files below it, that may have been shown at an earlier look only.
    """
    homes = {
        (name.telescope, name.run): night.home(entry.path)
        for entry in night.entries
        if (name := parse_name(entry.name))
    }

    def is_current(path: str) -> bool:
        name = parse_name(path)
        there = homes.get((name.telescope, name.run)) if name else None
        return there is None or path.startswith(f"{there[1]}/")

    return list(filter(is_current, paths))


def select(night: Night, wanted: Wanted) -> list[Entry]:
    """Choose the files that are wanted: data first, each kind in the order of run and subrun."""
    chosen = []
    for entry in night.entries:
        name = parse_name(entry.name)
        base = night.home(entry.path)[1].rstrip("/") + "/"
        relative = entry.path.removeprefix(base)
        if entry.error is not None and name is None:  # perhaps a directory of wanted files
            is_wanted = selected(relative, (), wanted.exclude)
        else:
            is_wanted = _is_wanted(relative, name, wanted)
        if is_wanted:
            chosen.append((_order(name), entry.path, entry))
    return [entry for _, _, entry in sorted(chosen, key=lambda c: c[:2])]


def _order(name: DL1Name | None) -> tuple[str, int, int]:
    if name is None:
        return ("~", 0, 0)
    kind = "" if name.kind == "dl1" else name.kind
    return (kind, name.run, -1 if name.subrun is None else name.subrun)


def _is_wanted(relative: str, name: DL1Name | None, wanted: Wanted) -> bool:
    if not selected(relative, wanted.include, wanted.exclude):
        return False
    if name is None:
        return bool(wanted.include) and wanted.runs.is_all and wanted.subruns.is_all
    kind_fits = bool(wanted.include) or name.kind in _DEFAULT_KINDS
    return kind_fits and name.run in wanted.runs and name.subrun in wanted.subruns


def gaps(night: Night, wanted: Wanted, now: datetime) -> Gaps:
    """Say which of the wanted subruns are missing, and which files are still growing.

    Parameters
    ----------
    night : Night
        All files of the night.
    wanted : Wanted
        Runs and subruns asked for; its patterns do not count here.
    now : datetime
        The present, aware.
    """
    present: dict[int, set[int]] = {}
    whole_runs: set[int] = set()
    growing = []
    unknown = []
    has_dl1 = False
    for entry in night.entries:
        name = parse_name(entry.name)
        if said := _unseen(entry, name, night, wanted):
            unknown.append(f"{entry.path}: {said}")
        if name is None or name.kind != "dl1":
            continue
        has_dl1 = True
        if name.run not in wanted.runs:
            continue
        if name.subrun is None:
            whole_runs.add(name.run)
        else:
            present.setdefault(name.run, set()).add(name.subrun)
        if name.subrun in wanted.subruns and is_growing(entry, now):
            growing.append(entry.name)
    missing = [f"Run{r:05d}" for r in _explicit(wanted.runs) if r not in {*present, *whole_runs}]
    for run, subruns in sorted(present.items()):
        expected = _explicit(wanted.subruns)
        if not expected and max(subruns) < len(subruns) + _MAX_GAPS:
            expected = list(range(max(subruns) + 1))
        older = {s for r, s in night.only_older if r == run and s in wanted.subruns}
        if None in older:
            missing.append(subrun_name(run, None))
        there_should_be = {*expected, *(s for s in older if s is not None)}
        missing += [subrun_name(run, subrun) for subrun in sorted(there_should_be - subruns)]
    only_older = {subrun_name(*numbers): v for numbers, v in night.only_older.items()}
    return Gaps(
        tuple(missing),
        tuple(growing),
        {name: only_older[name] for name in missing if name in only_older},
        has_dl1,
        {f"Run{run:05d}": v for run, v in night.awaited.items() if run in wanted.runs},
        tuple(unknown),
    )


def _unseen(entry: Entry, name: DL1Name | None, night: Night, wanted: Wanted) -> str | None:
    """Say why nobody knows what is there, of what may be wanted; None where that is known."""
    if not may_hide_files(entry) or (name and name.run not in wanted.runs):
        return None
    relative = entry.path.removeprefix(night.home(entry.path)[1].rstrip("/") + "/")
    if not selected(relative, (), wanted.exclude):
        return None
    return entry.error or "unavailable, perhaps a link"


def subrun_name(run: int, subrun: int | None) -> str:
    """Name a subrun, or a run in one file, as in what is missing."""
    return f"Run{run:05d}" + ("" if subrun is None else f".{subrun:04d}")


def runs(entries: Sequence[Entry]) -> list[int]:
    """Give the numbers of the runs there are."""
    return sorted({name.run for e in entries if (name := parse_name(e.name))})


def is_growing(entry: Entry, now: datetime) -> bool:
    """Is a file still written to, or was it a moment ago?"""
    if entry.error is not None:
        return False  # nothing is known of it
    if entry.size_bytes is None:
        return True
    return entry.mtime is not None and (now - entry.mtime).total_seconds() < GROWING_S


def _explicit(numbers: Numbers) -> list[int]:
    """Give the numbers that were named one by one or in ranges short enough to be meant so."""
    found: list[int] = []
    for first, last in numbers.ranges or ():
        if last - first < _MAX_GAPS:
            found += range(first, last + 1)
    return found


# -- of each run the newest version ----------------------------------------------------------------
#
# Which files make up a night of which there are several versions: of each run the newest. Pure.
#
# Reprocessing touches single runs, and takes its time: a new version may hold one run of a night,
# or the files that are made before DL1 data are.


def newest_of_each_run(versions: Sequence[Night], above: str) -> Night:
    """Put a night together, each run from the newest version that has DL1 files of it.

    All files of a run are of that one version, so that no run is mixed. A run without DL1 files is
    taken from the newest version that has files of it. A file of no run is taken from the newest
    version that has it, of those from which runs are taken. What a version holds that can't be
    described is part of the night: it may be the newest data.

    Parameters
    ----------
    versions : sequence of Night
        Each version with all its files, one at least, in any order.
    above : str
        Directory that stands for the night where files are of several versions.

    Returns
    -------
    Night
        Without files if no version has any: the newest one.
    """
    newest_first = sorted(versions, key=lambda n: version_order(n.version or ""), reverse=True)
    named = [[(e, parse_name(e.name)) for e in night.entries] for night in newest_first]
    data = [_subruns(files) for files in named]
    homes = _homes(named, data)
    others: dict[str, int] = {}
    for place in sorted(set(homes.values())) or range(len(newest_first)):
        for entry, name in named[place]:
            if name is None:
                others.setdefault(_below(newest_first[place], entry), place)

    taken, left = [], []
    for place, night in enumerate(newest_first):
        mine: list[Entry] = []
        rest: list[Entry] = []
        for entry, name in named[place]:
            home = homes[name.telescope, name.run] if name else others.get(_below(night, entry))
            is_mine = home == place or (name is None and may_hide_files(entry))
            (mine if is_mine else rest).append(entry)
        taken.append(replace(night, entries=tuple(mine)))
        left.append(replace(night, entries=tuple(rest)))
    used = [night for night in taken if night.entries] or taken[:1]
    return Night(
        used[0].date,
        used[0].version,
        used[0].path if len(used) == 1 else above,
        tuple(e for night in reversed(used) for e in night.entries),
        versions={n.version or "": n.path for n in reversed(used)} if len(used) > 1 else {},
        superseded=tuple(left),
        only_older=_only_older(newest_first, data, homes),
        awaited=_awaited(newest_first, named, homes),
    )


def _homes(
    named: Sequence[Iterable[tuple[Entry, DL1Name | None]]], data: Sequence[Iterable[_Run]]
) -> dict[_Run, int]:
    """Give the place of each run's version among the versions, of which the newest is the first."""
    homes: dict[_Run, int] = {}
    for place, runs in enumerate(data):
        for run in runs:
            homes.setdefault(run, place)
    for place, files in enumerate(named):
        for _, name in files:
            if name is not None:
                homes.setdefault((name.telescope, name.run), place)
    return homes


def _awaited(
    newest_first: Sequence[Night],
    named: Sequence[Iterable[tuple[Entry, DL1Name | None]]],
    homes: Mapping[_Run, int],
) -> dict[int, str]:
    """Find runs of which a newer version than theirs has files, and that version."""
    found: dict[int, str] = {}
    for place, files in enumerate(named):
        for _, name in files:
            if name is not None and place < homes[name.telescope, name.run]:
                found.setdefault(name.run, newest_first[place].version or "")
    return dict(sorted(found.items()))


def _only_older(
    newest_first: Sequence[Night],
    data: Sequence[Mapping[_Run, set[int | None]]],
    homes: Mapping[_Run, int],
) -> dict[tuple[int, int | None], str]:
    """Find subruns that a run's version lacks, and the newest of the older ones that have them."""
    found: dict[tuple[int, int | None], str] = {}
    for run, place in homes.items():
        here = data[place].get(run, set())
        if here <= {None}:
            continue  # a file of the whole run lacks no subrun
        for older in range(place + 1, len(newest_first)):
            there = data[older].get(run, set())
            # where only the file of the whole run is there nobody knows of which subruns it is
            for subrun in there - here - (set() if there == {None} else {None}):
                found.setdefault((run[1], subrun), newest_first[older].version or "")
    return dict(sorted(found.items(), key=str))


def _subruns(files: Iterable[tuple[Entry, DL1Name | None]]) -> dict[_Run, set[int | None]]:
    """Give the runs of which there are DL1 files, and their subruns; None for the whole run."""
    found: dict[_Run, set[int | None]] = {}
    for _, name in files:
        if name is not None and name.kind == "dl1":
            found.setdefault((name.telescope, name.run), set()).add(name.subrun)
    return found


def _below(night: Night, entry: Entry) -> str:
    return entry.path.removeprefix(night.path.rstrip("/") + "/")
