"""Which files make up a night of which there are several versions: of each run the newest. Pure.

Reprocessing touches single runs, and takes its time: a new version may hold one run of a night, or
the files that are made before DL1 data are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ctaflows.dl1.names import parse_name
from ctaflows.dl1.night import Night, version_order
from ctaflows.storage.links import may_hide_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ctaflows.dl1.names import DL1Name
    from ctaflows.model import Entry

    _Run = tuple[int, int]  # telescope, run


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
