"""Operations on DL1 files and nights: inspect and check files, list a night, assess it."""

from __future__ import annotations

import glob
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ctaflows.dl1 import names, night, night_snapshots
from ctaflows.dl1.content.images import DEFAULT_IMAGES
from ctaflows.dl1.night import Night, newest_of_each_run
from ctaflows.dl1.night_completeness import Completeness, assess
from ctaflows.errors import CtaflowsError, NotFound
from ctaflows.storage.connect import connect
from ctaflows.storage.walk import files_below, unconfirmed
from ctaflows.tracking.task import get_logger, task

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ctaflows.dl1.content.summary import DL1Summary
    from ctaflows.dl1.quality.checks import Bounds, Inspection
    from ctaflows.model import Entry, StrPath
    from ctaflows.storage.protocol import Storage
    from ctaflows.storage.walk import Follow


@task(name="inspect-dl1", tags=["ctaflows"])
def inspect_dl1(path: StrPath, *, images: int | None = DEFAULT_IMAGES) -> DL1Summary:
    """Return a summary of a DL1 file: layout, run, tables, events by type, times, rates, charges.

    HDF5 runs in a separate process: a file on which it crashes, or which decompresses to gigabytes,
    is reported as damaged.

    Parameters
    ----------
    path : path
        A local file in lstchain's or ctapipe's layout.
    images : int or None
        Number of images to read of each of cosmics, pedestals and flat-field events, by default
        1000; 0 reads none, None all.

    Returns
    -------
    DL1Summary
        The unit of a number is in its name.

    Raises
    ------
    IntegrityError
        The file is damaged, or is not an HDF5 file.
    """
    from ctaflows.dl1.reader_process import inspect_apart

    return inspect_apart(path, images)


@task(name="inspect-dl1-files", tags=["ctaflows"])
def inspect_dl1_files(
    paths: Sequence[StrPath],
    *,
    bounds: StrPath | None = None,
    images: int | None = DEFAULT_IMAGES,
    workers: int | None = None,
) -> list[Inspection]:
    """Return a summary of each of many DL1 files, with the results of its quality checks.

    A data file is compared with its datacheck file where both are given. HDF5 runs in separate
    processes, several at a time: a file on which it crashes does not affect the others.

    Parameters
    ----------
    paths : sequence of path
        Local files.
    bounds : path, optional
        A TOML file that changes bounds of checks, see `ctaflows.dl1.quality.checks.load_bounds`.
    images : int or None
        As for `inspect_dl1`.
    workers : int, optional
        Number of files read at a time. The default, and the maximum, is the number of processors,
        but not more than 8.

    Returns
    -------
    list of Inspection
        In the order of ``paths``; a file that can't be read has an ``error``.

    Raises
    ------
    UsageError
        The bounds can't be read.
    """
    from ctaflows.dl1.reader_process import inspect_files

    limits = read_bounds(bounds)
    return checked(inspect_files(paths, workers=workers, images=images), limits)


def read_bounds(file: StrPath | None) -> Bounds | None:
    """Return the bounds in a TOML file, see `ctaflows.dl1.quality.checks.load_bounds`."""
    from ctaflows.dl1.quality.checks import load_bounds

    return load_bounds(file) if file else None


def checked(inspections: Iterable[Inspection], bounds: Bounds | None = None) -> list[Inspection]:
    """Return inspections with the results of their checks.

    A data file is compared with its datacheck file where both are given.

    Parameters
    ----------
    inspections : iterable of Inspection
        Inspections without checks.
    bounds : Bounds, optional
        Bounds from `read_bounds`; by default the built-in ones.
    """
    from ctaflows.dl1.quality.checks import check, check_error, with_datacheck

    return with_datacheck(
        (
            replace(
                one,
                checks=check(one.summary, bounds)
                if one.summary
                else check_error(one.error or "it was not read"),
            )
            for one in inspections
        ),
        bounds,
    )


@task(name="list-night", tags=["ctaflows"])
def list_night(
    date: str, *, version: str = "latest", follow: bool = False, profile: str | None = None
) -> Night:
    """List all files of a night.

    The night's directory, and that of a version, may be symbolic links; of several names of one
    directory a single one is used.

    Parameters
    ----------
    date : str
        Date of the evening, ``20241114`` or ``2024-11-14``, or ``last-night``.
    version : str
        A single version such as ``v0.1``; or ``latest``, for each run's files from the newest
        version that has DL1 files of the run, see `newest_of_each_run`.
    follow : bool
        List what symbolic links to directories within a version lead to as well. Without, what is
        in these is unknown.
    profile : str, optional
        Settings to use; ``night_path`` is the remote path of nights.

    Returns
    -------
    Night
        Its ``entries`` are the files.

    Raises
    ------
    NotFound
        There is no such night or version.
    """
    date = names.night_date(date, datetime.now(UTC))
    door = connect(profile)
    where, rest = night.directories(door.settings.night_path, date, version)

    def of_versions(link: Entry) -> bool:  # such as latest, where no name is that of a version
        return follow or link.parent == door.normalise(where)

    unreleased: list[str] = []
    try:
        if rest is None:
            if "{version}" in door.settings.night_path:
                return _listed(door, date, version, where, follow)
            return _listed(door, date, None, where, of_versions)
        there = list(door.list(where))
        if released := night.released(there):
            versions = _list_versions(door, date, where, released, rest, follow)
            if not versions:
                raise NotFound("None of its versions has files", where=door.normalise(where))
            # an entry without properties may be the newest version, and so may a broken link
            last = versions[-1]
            undescribed = [e for e in there if e.error is not None]
            broken = [e for e in there if e.link == "nothing" and night.is_version(e.name)]
            versions[-1] = replace(
                last, entries=(*last.entries, *undescribed), links=(*last.links, *broken)
            )
            return newest_of_each_run(versions, door.normalise(where))
        directories = [e.name for e in there if e.is_dir or e.link == "directory"]
        unreleased = sorted(filter(night.is_unreleased, directories))
        whole = _listed(door, date, None, where, of_versions, map(glob.escape, unreleased))
    except NotFound as why:
        parent = door.settings.night_path.partition("{")[0].strip("/")
        raise NotFound(
            f"There is no night {date}" + (f" {version}" if rest is None else ""),
            where=why.where,
            hint=f"`ctaflows ls {parent}` lists the nights; `ctaflows ls` of one its versions.",
        ) from why
    if unreleased and not whole.entries:
        raise NotFound(
            f"There is no released version of the night {date}",
            where=door.normalise(where),
            hint=f"There is {', '.join(unreleased)}: to use it, give its name as the version.",
        )
    return whole


def _listed(
    door: Storage,
    date: str,
    version: str | None,
    where: str,
    follow: Follow,
    exclude: Iterable[str] = (),
) -> Night:
    """Return the files of a night, or of one of its versions, as the door lists them."""
    empty: list[str] = []
    links: list[Entry] = []
    files = tuple(
        files_below(
            door, where, exclude=list(exclude), follow=follow, on_empty=empty.append,
            on_link=links.append,
        )
    )  # fmt: skip
    unread = tuple(unconfirmed(door, empty))
    return Night(date, version, door.normalise(where), files, empty=unread, links=tuple(links))


@task(name="look-at-night", tags=["ctaflows"])
def look_at_night(
    date: str,
    *,
    version: str = "latest",
    run_summary: StrPath | None = None,
    state: StrPath | None = None,
    remember: bool = True,
    follow: bool = False,
    profile: str | None = None,
) -> Completeness:
    """Return whether a night is complete: runs, subruns, missing and growing files, duplicates.

    Only listings are read, no files.

    Parameters
    ----------
    date : str
        Date of the evening, ``20241114`` or ``2024-11-14``, or ``last-night``.
    version : str
        As for `list_night`. Other versions are listed too, to find duplicates.
    run_summary : path, optional
        lstchain's run summary of the night, a local file: the runs that were taken, and their
        numbers of subruns.
    state : path, optional
        Local file with the result of the last look; by default in the folder of settings.
    remember : bool
        Compare with the last look, and store this one for the next.
    follow : bool
        As for `list_night`.
    profile : str, optional
        Settings to use; ``night_path`` is the remote path of nights.

    Returns
    -------
    Completeness
        ``verdict`` is ``complete``, ``incomplete`` or ``growing``.

    Raises
    ------
    NotFound
        There is no such night or version.
    UsageError
        The run summary can't be read.
    """
    from ctaflows.dl1.run_summary import read_run_summary

    expected = read_run_summary(run_summary) if run_summary else None
    now = datetime.now(UTC)
    this = list_night.fn(date, version=version, follow=follow, profile=profile)
    door = connect(profile)
    others = _other_versions(door, this, follow)
    file = (
        Path(state)
        if state
        else night_snapshots.state_file(door.settings.config_dir, door.url, this)
    )
    before = night_snapshots.read_snapshot(file) if remember else None
    census = assess(this, now, others=others, expected=expected, before=before)
    if remember:
        try:
            night_snapshots.write_snapshot(
                file, night_snapshots.NightSnapshot.of(this, census.looked_at, census.verdict)
            )
        except CtaflowsError as why:
            get_logger("night").warning("%s", why)
    return census


def census_of(night: Night, *, profile: str | None = None) -> Completeness:
    """Return whether a listed night is complete; never tracked by Prefect, and nothing is stored.

    Parameters
    ----------
    night : Night
        The night, from `list_night`.
    profile : str, optional
        Settings to use.
    """
    try:
        others = _other_versions(connect(profile), night)
    except CtaflowsError as why:
        get_logger("night").warning("Other versions of the night can't be listed: %s", why)
        others = []
    return assess(night, datetime.now(UTC), others=others)


def _other_versions(door: Storage, this: Night, follow: bool = False) -> list[Night]:
    """Return the other versions of a night; they are listed unless the night has them."""
    if this.version is None or this.superseded:
        return list(this.superseded)
    above, rest = night.directories(door.settings.night_path, this.date, "latest")
    released = night.released(door.list(above), first=this.version)
    others = [name for name in released if name != this.version]
    return _list_versions(door, this.date, above, others, rest or "", follow)


def _list_versions(
    door: Storage, date: str, above: str, versions: Sequence[str], rest: str, follow: bool
) -> list[Night]:
    """Return versions of a night with their files; those without a directory are left out."""
    found = []
    for version in versions:
        where = door.normalise(f"{above}/{version}/{rest}")
        try:
            found.append(_listed(door, date, version, where, follow))
        except NotFound:
            continue
    return found


@task(name="list-night-if-there", tags=["ctaflows"])
def list_night_if_there(
    date: str, *, version: str = "latest", follow: bool = False, profile: str | None = None
) -> Night | None:
    """List all files of a night, as `list_night`; return None if there is no such night yet.

    Parameters
    ----------
    date, version, follow, profile
        As for `list_night`.
    """
    try:
        night: Night = list_night.fn(date, version=version, follow=follow, profile=profile)
    except NotFound:
        return None
    return night
