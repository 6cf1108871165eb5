"""A night of DL1 data: its files and versions, the wanted ones, and what is missing. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ctaflows.dl1.names import DL1Name, Numbers, parse_name
from ctaflows.errors import UsageError
from ctaflows.model import Record
from ctaflows.storage import links
from ctaflows.storage.paths import selected

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from ctaflows.dl1.names import DL1Name
    from ctaflows.model import Entry

    _Run = tuple[int, int]  # telescope, run

#: A file changed less than this many seconds ago may still be being written.
GROWING_S = 600.0
#: With more missing numbers than this in a run, subruns are not numbered consecutively, and none is
#: taken as missing.
_MAX_GAPS = 10_000
#: Names of versions: a release such as v0.10.4, or a candidate such as v0.10.4rc1, which precedes
#: it. In 2020 and 2021 lstosa appended the version of the calibration: v0.6.3_v05.
_VERSION = re.compile(
    r"v(?P<release>[0-9]+(?:\.[0-9]+)*)(?:(?P<phase>a|b|rc|_v)(?P<number>[0-9]+))?"
)
_PHASES = {"a": -3, "b": -2, "rc": -1, None: 0, "_v": 1}
_DEFAULT_KINDS = ("dl1", "datacheck")


@dataclass(frozen=True)
class Night:
    """The files of one night: those of one version, or those of each run's newest version.

    Attributes
    ----------
    date : str
        Date of the evening, ``YYYYMMDD``.
    version : str or None
        Such as ``v0.1``; of several versions with files in ``entries``, the newest. None where the
        night's directory is not divided by version.
    path : str
        Directory of that version; where files are of several versions, the directory above these.
    entries : tuple of Entry
        The files.
    versions : mapping of str to str
        Directory of each version with files in ``entries``, oldest first; empty unless there are
        several.
    superseded : tuple of Night
        All versions of the night, each with its files that are not in ``entries``; empty where no
        other version was listed.
    only_older : mapping of (int, int or None) to str
        Run and subrun (None: the merged run) with DL1 data in a version older than the run's only,
        and that version.
    awaited : mapping of int to str
        Runs that are being reprocessed, and the newer version that has files of them, but no DL1
        data yet (lstchain writes interleaved events and muons first).
    empty : tuple of str
        Directories that are listed as empty, but not known to be so, see `walk.unconfirmed`: what
        is in them is unknown.
    links : tuple of Entry
        Symbolic links to directories that were not followed, so that what is in these is unknown,
        links to nothing, and directories that are listed by another path instead.
    """

    date: str
    version: str | None
    path: str
    entries: tuple[Entry, ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    superseded: tuple[Night, ...] = ()
    only_older: Mapping[tuple[int, int | None], str] = field(default_factory=dict)
    awaited: Mapping[int, str] = field(default_factory=dict)
    empty: tuple[str, ...] = ()
    links: tuple[Entry, ...] = ()

    @property
    def base(self) -> str:
        """Remote directory whose local copy is ``DEST/<date>``."""
        return self.path.removesuffix(f"/{self.version}") if self.version else self.path

    def home(self, path: str) -> tuple[str | None, str]:
        """Return the version that a file belongs to, and the directory of that version."""
        return home(path, self.versions) or (self.version, self.path)


@dataclass(frozen=True)
class Wanted:
    """A selection of a night's files.

    Attributes
    ----------
    runs, subruns : Numbers
        Numbers of the wanted runs and subruns (default: all).
    include, exclude : tuple of str
        Shell patterns as in `paths.selected`. Without ``include``, DL1 files and their datacheck
        files are wanted.
    """

    runs: Numbers = field(default_factory=Numbers)
    subruns: Numbers = field(default_factory=Numbers)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gaps(Record):
    """The wanted files of a night that are missing, incomplete or unknown.

    Attributes
    ----------
    missing : tuple of str
        Such as ``Run11111.0003`` or ``Run11115`` (the whole run).
    growing : tuple of str
        Names of files that are being written, or were less than 10 minutes ago.
    only_older : mapping of str to str
        Those in ``missing`` that a version older than the run's has, and that version.
    has_dl1 : bool
        Whether the night has any DL1 file.
    awaited : mapping of str to str
        Runs of which a newer version has files, but no DL1 data yet, and that version.
    unknown : tuple of str
        Entries that the door lists without properties, and directories that it lists as empty, but
        can't read: the path, and the reason.
    """

    missing: tuple[str, ...] = ()
    growing: tuple[str, ...] = ()
    only_older: Mapping[str, str] = field(default_factory=dict)
    has_dl1: bool = True
    awaited: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    @property
    def is_incomplete(self) -> bool:
        """Whether files are missing, awaited or unknown. Growing files do not count."""
        return bool(self.missing or self.awaited or self.unknown) or not self.has_dl1


def directories(pattern: str, date: str, version: str) -> tuple[str, str | None]:
    """Return the remote directory of a night.

    Parameters
    ----------
    pattern : str
        The setting ``night_path``, such as ``cta/DL1/{date}/{version}``.
    date : str
        Date of the evening, ``YYYYMMDD``.
    version : str
        A version, or ``latest``.

    Returns
    -------
    path : str
        Directory of the night; with ``latest``, the directory of the versions.
    rest : str or None
        With ``latest``, the part of the pattern below the version; None otherwise, and where the
        pattern has no version.

    Raises
    ------
    UsageError
        The pattern is not valid.
    """
    try:
        if version != "latest" or "{version}" not in pattern:
            return pattern.format(date=date, version=version), None
        filled = pattern.format(date=date, version="\0")
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
    """Whether a directory's name is that of a version: v0.1 is, v0.11_test is not."""
    return _VERSION.fullmatch(name) is not None


def is_unreleased(name: str) -> bool:
    """Whether a directory's name looks like a version, but is not one, such as v0.11_test."""
    return re.match("v[0-9]", name) is not None and not is_version(name)


def released(entries: Iterable[Entry], first: str | None = None) -> list[str]:
    """Return the names of the versions in a night's directory, each directory once.

    A symbolic link to a directory is a version, too, if its name is that of one. It is left out if
    it leads to another version.

    Parameters
    ----------
    entries : iterable of Entry
        The night's directory as it is listed.
    first : str, optional
        Of several names of one directory, the one to return.
    """
    named = [e for e in entries if (e.is_dir or e.link == "directory") and is_version(e.name)]
    named.sort(key=lambda e: (e.name != first, e.link is not None))
    by_id = {links.pnfsid(e) or e.path: e.name for e in reversed(named)}
    return list(reversed(by_id.values()))


def version_order(name: str) -> tuple[list[int], int, int, str]:
    """Return a sort key for versions: v0.10 is above v0.9, v0.1 above v0.1rc1."""
    match = _VERSION.fullmatch(name)
    if match is None:
        return ([], 0, 0, name)
    release = [int(n) for n in match["release"].split(".")]
    return (release, _PHASES[match["phase"]], int(match["number"] or 0), name)


def latest(names: Iterable[str]) -> str | None:
    """Return the highest version among names of directories; None where there is no version."""
    return max(filter(is_version, names), key=version_order, default=None)


def home(path: str, versions: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the version that a file belongs to, and its directory; None where it is in none.

    Parameters
    ----------
    path : str
        Remote path of the file.
    versions : mapping of str to str
        Directories by version.
    """
    return next(((v, d) for v, d in versions.items() if path.startswith(f"{d}/")), None)


def versions_used(version: str | None, versions: Iterable[str]) -> tuple[str, ...]:
    """Return the versions with files: several, or the single one, or none."""
    return tuple(versions) or ((version,) if version else ())


def night_name(date: str, versions: Iterable[str]) -> str:
    """Return the name of a night for titles: its date, and the versions with files."""
    return f"{date} {', '.join(versions)}".rstrip()


def current(night: Night, paths: Iterable[str]) -> list[str]:
    """Return the paths without files of runs that the night takes from another version.

    Parameters
    ----------
    night : Night
        The night as it is now.
    paths : iterable of str
        Remote paths of files of the night, which may be from an earlier listing.
    """
    locations = {
        (name.telescope, name.run): night.home(entry.path)
        for entry in night.entries
        if (name := parse_name(entry.name))
    }

    def is_current(path: str) -> bool:
        name = parse_name(path)
        location = locations.get((name.telescope, name.run)) if name else None
        return location is None or path.startswith(f"{location[1]}/")

    return list(filter(is_current, paths))


def select(night: Night, wanted: Wanted) -> list[Entry]:
    """Return the wanted files: DL1 files first, each kind in the order of run and subrun."""
    chosen = []
    for entry in night.entries:
        name = parse_name(entry.name)
        relative = _relative(entry.path, night)
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
    """Return the wanted subruns that are missing, and the DL1 files that are still growing.

    Missing are runs and subruns that were asked for by number; if no subruns were, all that are
    below the run's highest subrun, or in an older version only.

    Parameters
    ----------
    night : Night
        All files of the night.
    wanted : Wanted
        Runs and subruns asked for. Of its patterns only ``exclude`` is used, for entries that the
        door lists without properties.
    now : datetime
        The present time, aware.
    """
    present: dict[int, set[int]] = {}
    merged_runs: set[int] = set()
    growing = []
    has_dl1 = False
    for entry in night.entries:
        name = parse_name(entry.name)
        if name is None or name.kind != "dl1":
            continue
        has_dl1 = True
        if name.run not in wanted.runs:
            continue
        if name.subrun is None:
            merged_runs.add(name.run)
        else:
            present.setdefault(name.run, set()).add(name.subrun)
        if name.subrun in wanted.subruns and is_growing(entry, now):
            growing.append(entry.name)
    missing = [f"Run{r:05d}" for r in _explicit(wanted.runs) if r not in {*present, *merged_runs}]
    for run, subruns in sorted(present.items()):
        expected = _explicit(wanted.subruns)
        if not expected and max(subruns) < len(subruns) + _MAX_GAPS:
            expected = list(range(max(subruns) + 1))
        older = {s for r, s in night.only_older if r == run and s in wanted.subruns}
        if None in older:
            missing.append(subrun_name(run, None))
        all_expected = {*expected, *(s for s in older if s is not None)}
        missing += [subrun_name(run, subrun) for subrun in sorted(all_expected - subruns)]
    only_older = {subrun_name(*numbers): v for numbers, v in night.only_older.items()}
    return Gaps(
        tuple(missing),
        tuple(growing),
        {name: only_older[name] for name in missing if name in only_older},
        has_dl1,
        {f"Run{run:05d}": v for run, v in night.awaited.items() if run in wanted.runs},
        tuple(_unknown(night, wanted)),
    )


def _unknown(night: Night, wanted: Wanted) -> Iterator[str]:
    """Yield what may be or hide wanted files, each with the reason why that is unknown."""
    for entry in (*night.entries, *night.links):
        if said := _unknown_reason(entry, night, wanted):
            yield f"{entry.path}: {said}"
    for directory in night.empty:
        if _may_hide_dl1(directory, night, wanted):
            yield f"{directory}: shown as empty, but not known to be so"


def _unknown_reason(entry: Entry, night: Night, wanted: Wanted) -> str | None:
    """Return why an entry that may be or hide wanted files is unknown; None where it is known."""
    name = parse_name(entry.name)
    if entry.kind not in ("unknown", "link") or (name and name.run not in wanted.runs):
        return None
    if not selected(_relative(entry.path, night), (), wanted.exclude):
        return None
    return entry.error or links.words(entry)


#: Directories with DL1 and datacheck files below a version: VERSION/tailcut84/datacheck.
_DL1_DIRECTORIES = ("tailcut*", "datacheck*")


def _may_hide_dl1(directory: str, night: Night, wanted: Wanted) -> bool:
    """Return whether wanted files may be in a directory of `Night.empty`.

    No DL1 files are expected in others, such as ``log``.
    """
    name = directory.rpartition("/")[2]
    if not selected(_relative(directory, night), (), wanted.exclude):
        return False
    if wanted.include or directory == night.path or is_version(name):
        return True
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _DL1_DIRECTORIES)


def _relative(path: str, night: Night) -> str:
    return path.removeprefix(night.home(path)[1].rstrip("/") + "/")


def subrun_name(run: int, subrun: int | None) -> str:
    """Return the name of a subrun, ``Run11111.0003``, or of a whole run, ``Run11111``."""
    return f"Run{run:05d}" + ("" if subrun is None else f".{subrun:04d}")


def runs(entries: Sequence[Entry]) -> list[int]:
    """Return the numbers of the runs that the files belong to, in order."""
    return sorted({name.run for e in entries if (name := parse_name(e.name))})


def is_growing(entry: Entry, now: datetime) -> bool:
    """Whether a file is being written, or was less than 10 minutes ago.

    A file without a size is still being uploaded.
    """
    if entry.error is not None:
        return False  # the door lists it without properties
    if entry.size_bytes is None:
        return True
    return entry.mtime is not None and (now - entry.mtime).total_seconds() < GROWING_S


def _explicit(numbers: Numbers) -> list[int]:
    """Return the numbers asked for singly or in ranges of up to 10,000: all of these are expected.

    A longer range, such as 11000-99999, is a filter.
    """
    found: list[int] = []
    for first, last in numbers.ranges or ():
        if last - first < _MAX_GAPS:
            found += range(first, last + 1)
    return found


# -- the newest version of each run ----------------------------------------------------------------
#
# Runs are reprocessed one by one, which takes time: a new version may hold one run of a night only,
# or only the files that are made before DL1 data.


def newest_of_each_run(versions: Sequence[Night], above: str) -> Night:
    """Return a night with each run's files from the newest version that has DL1 files of the run.

    All files of a run are of that one version. A run without DL1 files is taken from the newest
    version with files of it. A file without a run number is taken from the newest version that has
    it, among those from which runs are taken. Entries that the door lists without properties are
    always part of the night, since they may be the newest data.

    Parameters
    ----------
    versions : sequence of Night
        The versions in any order, at least one, each with all its files.
    above : str
        Directory above the versions, the path of a night with files of several versions.

    Returns
    -------
    Night
        Where no version has files, the newest version.
    """
    newest_first = sorted(versions, key=lambda n: version_order(n.version or ""), reverse=True)
    named = [[(e, parse_name(e.name)) for e in night.entries] for night in newest_first]
    data = [_subruns(files) for files in named]
    rank_of = _ranks(named, data)
    others: dict[str, int] = {}
    for rank in sorted(set(rank_of.values())) or range(len(newest_first)):
        for entry, name in named[rank]:
            if name is None:
                others.setdefault(_below(newest_first[rank], entry), rank)

    taken, superseded = [], []
    for rank, night in enumerate(newest_first):
        kept: list[Entry] = []
        left_out: list[Entry] = []
        for entry, name in named[rank]:
            chosen = rank_of[name.telescope, name.run] if name else others.get(_below(night, entry))
            is_kept = chosen == rank or (name is None and entry.error is not None)
            (kept if is_kept else left_out).append(entry)
        taken.append(replace(night, entries=tuple(kept)))
        superseded.append(replace(night, entries=tuple(left_out)))
    used = [night for night in taken if night.entries] or taken[:1]
    oldest = taken.index(used[-1])  # an older version that was emptied does not count
    return Night(
        used[0].date,
        used[0].version,
        used[0].path if len(used) == 1 else above,
        tuple(e for night in reversed(used) for e in night.entries),
        versions={n.version or "": n.path for n in reversed(used)} if len(used) > 1 else {},
        superseded=tuple(superseded),
        only_older=_only_older(newest_first, data, rank_of),
        awaited=_awaited(newest_first, named, rank_of),
        empty=tuple(path for night in taken[: oldest + 1] for path in night.empty),
        links=tuple(link for night in taken[: oldest + 1] for link in night.links),
    )


def _ranks(
    named: Sequence[Iterable[tuple[Entry, DL1Name | None]]], data: Sequence[Iterable[_Run]]
) -> dict[_Run, int]:
    """Return the rank of each run's version among the versions; 0 is the newest."""
    rank_of: dict[_Run, int] = {}
    for rank, runs in enumerate(data):
        for run in runs:
            rank_of.setdefault(run, rank)
    for rank, files in enumerate(named):
        for _, name in files:
            if name is not None:
                rank_of.setdefault((name.telescope, name.run), rank)
    return rank_of


def _awaited(
    newest_first: Sequence[Night],
    named: Sequence[Iterable[tuple[Entry, DL1Name | None]]],
    rank_of: Mapping[_Run, int],
) -> dict[int, str]:
    """Return the runs of which a newer version than theirs has files, and that version."""
    found: dict[int, str] = {}
    for rank, files in enumerate(named):
        for _, name in files:
            if name is not None and rank < rank_of[name.telescope, name.run]:
                found.setdefault(name.run, newest_first[rank].version or "")
    return dict(sorted(found.items()))


def _only_older(
    newest_first: Sequence[Night],
    data: Sequence[Mapping[_Run, set[int | None]]],
    rank_of: Mapping[_Run, int],
) -> dict[tuple[int, int | None], str]:
    """Return the subruns that a run's version lacks, and the newest older version with each."""
    found: dict[tuple[int, int | None], str] = {}
    for run, rank in rank_of.items():
        subruns = data[rank].get(run, set())
        if subruns <= {None}:
            continue  # a merged run lacks no subrun
        for older in range(rank + 1, len(newest_first)):
            in_older = data[older].get(run, set())
            # where the older version has only a merged file, its subruns are unknown
            for subrun in in_older - subruns - (set() if in_older == {None} else {None}):
                found.setdefault((run[1], subrun), newest_first[older].version or "")
    return dict(sorted(found.items(), key=str))


def _subruns(files: Iterable[tuple[Entry, DL1Name | None]]) -> dict[_Run, set[int | None]]:
    """Return the runs with DL1 files, and the subruns of these; None for a merged file."""
    found: dict[_Run, set[int | None]] = {}
    for _, name in files:
        if name is not None and name.kind == "dl1":
            found.setdefault((name.telescope, name.run), set()).add(name.subrun)
    return found


def _below(night: Night, entry: Entry) -> str:
    return entry.path.removeprefix(night.path.rstrip("/") + "/")
