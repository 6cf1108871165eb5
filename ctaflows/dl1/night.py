"""A night as a unit: which files belong to it, which are wanted, what is missing. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ctaflows.dl1.names import DL1Name, Numbers, parse_name
from ctaflows.errors import UsageError
from ctaflows.storage.paths import selected

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date, datetime

    from ctaflows.model import Entry

#: A file younger than this may still be written to.
GROWING_S = 600.0
#: More gaps than this in one run are not gaps but a sparse numbering.
_MAX_GAPS = 10_000
_VERSION = re.compile(r"v\d+(?:\.\d+)*\w*")
_DEFAULT_KINDS = ("dl1", "datacheck")


@dataclass(frozen=True)
class Night:
    """The files of one night and version.

    Attributes
    ----------
    date : str
        ``YYYYMMDD``, the evening's date.
    version : str or None
        Such as ``v0.1``; None where the night is not divided by version.
    path : str
        The directory that was walked.
    entries : tuple of Entry
        All files below it.
    """

    date: str
    version: str | None
    path: str
    entries: tuple[Entry, ...]

    @property
    def base(self) -> str:
        """Directory that ``DEST/<date>`` stands for."""
        return self.path.removesuffix(f"/{self.version}") if self.version else self.path


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
class Gaps:
    """What is not (yet) there.

    Attributes
    ----------
    missing : tuple of str
        Such as ``Run11111.0003`` or ``Run11115`` (the whole run).
    growing : tuple of str
        Names of files that are still being written, or were a moment ago.
    """

    missing: tuple[str, ...] = ()
    growing: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Give the gaps as JSON-ready values."""
        return {"missing": list(self.missing), "growing": list(self.growing)}


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
    """Is a directory's name that of a version, such as v0.1?"""
    return _VERSION.fullmatch(name) is not None


def latest(names: Iterable[str]) -> str | None:
    """Choose the highest version among names of directories, or None: v0.10 is above v0.9."""
    versions = [n for n in names if is_version(n)]
    return max(versions, key=lambda v: [int(n) for n in re.findall(r"\d+", v)], default=None)


def select(night: Night, wanted: Wanted) -> list[Entry]:
    """Choose the files that are wanted: data first, each kind in the order of run and subrun."""
    base = night.path.rstrip("/") + "/"
    chosen = []
    for entry in night.entries:
        name = parse_name(entry.name)
        if _is_wanted(entry.path.removeprefix(base), name, wanted):
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
    for entry in night.entries:
        name = parse_name(entry.name)
        if name is None or name.kind != "dl1" or name.run not in wanted.runs:
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
        lacking = sorted(set(expected) - subruns)
        missing += [f"Run{run:05d}.{subrun:04d}" for subrun in lacking]
    return Gaps(tuple(missing), tuple(growing))


def runs(entries: Sequence[Entry]) -> list[int]:
    """Give the numbers of the runs there are."""
    return sorted({name.run for e in entries if (name := parse_name(e.name))})


def is_growing(entry: Entry, now: datetime) -> bool:
    """Is a file still written to, or was it a moment ago?"""
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
