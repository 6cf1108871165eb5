"""Tasks that look into DL1 files, and at the nights they are of."""

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
from ctaflows.storage.links import Kind, kind_of
from ctaflows.storage.walk import files_below
from ctaflows.tracking.task import get_logger, task

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ctaflows.dl1.content.summary import DL1Summary
    from ctaflows.dl1.quality.checks import Bounds, Inspection
    from ctaflows.model import StrPath
    from ctaflows.storage.webdav import WebDAVStorage


@task(name="inspect-dl1", tags=["ctaflows"])
def inspect_dl1(path: StrPath, *, images: int | None = DEFAULT_IMAGES) -> DL1Summary:
    """Tell what is in a DL1 file: layout, run, tables, events by type, times, rates, quantities.

    It is read in a process apart: a file that makes HDF5 crash, or unpacks to gigabytes, is told as
    damaged.

    Parameters
    ----------
    path : path
        A file here, in lstchain's or ctapipe's layout.
    images : int or None
        Images to read of each of cosmics, pedestals and flat-field events; 0 reads none, None all.

    Raises
    ------
    IntegrityError
        The file is damaged, or no HDF5 at all.
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
    """Tell what is in each of many DL1 files, and check them; damaged ones with their error.

    Data are compared with their datacheck where both are among the files.

    They are read in processes apart, several at once: a file that makes HDF5 crash harms no other.

    Parameters
    ----------
    paths : sequence of path
        Files here.
    bounds : path, optional
        A TOML file with bounds for the checks, see `ctaflows.dl1.quality.checks.load_bounds`.
    images : int or None
        As for `inspect_dl1`.
    workers : int, optional
        Files read at once; by default, and at most, as many as there are processors, and 8.

    Returns
    -------
    list of Inspection
        In the order of ``paths``.

    Raises
    ------
    UsageError
        The bounds can't be read.
    """
    from ctaflows.dl1.reader_process import inspect_files

    limits = read_bounds(bounds)
    return checked(inspect_files(paths, workers=workers, images=images), limits)


def read_bounds(file: StrPath | None) -> Bounds | None:
    """Return the checks' bounds in a TOML file, see `ctaflows.dl1.quality.checks.load_bounds`."""
    from ctaflows.dl1.quality.checks import load_bounds

    return load_bounds(file) if file else None


def checked(inspections: Iterable[Inspection], bounds: Bounds | None = None) -> list[Inspection]:
    """Return inspections with their checks, data compared with their datacheck if that is there.

    Parameters
    ----------
    inspections : iterable of Inspection
        Without checks.
    bounds : Bounds, optional
        From `read_bounds`; the usual ones if not given.
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
def list_night(date: str, *, version: str = "latest", profile: str | None = None) -> Night:
    """List all files of a night.

    Parameters
    ----------
    date : str
        The evening's date, ``20241114`` or ``2024-11-14``, or ``last-night``.
    version : str
        Such as ``v0.1``, that one alone; ``latest`` takes each run from the newest version that has
        DL1 files of it, see `newest_of_each_run`.
    profile : str, optional
        Settings to use; ``night_path`` tells where nights lie.

    Raises
    ------
    NotFound
        There is no such night or version.
    """
    date = names.night_date(date, datetime.now(UTC))
    door = connect(profile)
    where, rest = night.directories(door.settings.night_path, date, version)
    unreleased: list[str] = []
    try:
        if rest is None:
            found = version if "{version}" in door.settings.night_path else None
            return _listed(door, date, found, where)
        there = list(door.list(where))
        names_there = [e.name for e in there if e.is_dir]
        if released := list(filter(night.is_version, names_there)):
            versions = _list_versions(door, date, where, released, rest)
            if not versions:
                raise NotFound("None of its versions is there", where=door.normalise(where))
            # of one that can't be described nobody knows whether it is the newest
            unknown = [
                e
                for e in there
                if kind_of(e) is Kind.UNKNOWN and (e.error or night.is_version(e.name))
            ]
            if unknown:
                last = versions[-1]
                versions[-1] = replace(last, entries=(*last.entries, *unknown))
            return newest_of_each_run(versions, door.normalise(where))
        unreleased = sorted(filter(night.is_unreleased, names_there))
        whole = _listed(door, date, None, where, map(glob.escape, unreleased))
    except NotFound as why:
        parent = door.settings.night_path.partition("{")[0].strip("/")
        raise NotFound(
            f"There is no night {date}" + (f" {version}" if rest is None else ""),
            where=why.where,
            hint=f"`ctaflows ls {parent}` shows the nights there are, one of them its versions.",
        ) from why
    if unreleased and not whole.entries:
        raise NotFound(
            f"There is no released version of the night {date}",
            where=door.normalise(where),
            hint=f"There is {', '.join(unreleased)}; to take such a one, give its name as version.",
        )
    return whole


def _listed(
    door: WebDAVStorage, date: str, version: str | None, where: str, exclude: Iterable[str] = ()
) -> Night:
    """Return the files of a night, or of one of its versions, as the door lists them."""
    empty: list[str] = []
    files = tuple(files_below(door, where, exclude=list(exclude), on_empty=empty.append))
    return Night(date, version, door.normalise(where), files, empty=tuple(empty))


@task(name="look-at-night", tags=["ctaflows"])
def look_at_night(
    date: str,
    *,
    version: str = "latest",
    run_summary: StrPath | None = None,
    state: StrPath | None = None,
    remember: bool = True,
    profile: str | None = None,
) -> Completeness:
    """Tell whether a night is whole: runs, subruns, what is missing, growing, double, out of line.

    Parameters
    ----------
    date : str
        The evening's date, ``20241114`` or ``2024-11-14``, or ``last-night``.
    version : str
        As for `list_night`. Other versions are listed too, to find what is there twice.
    run_summary : path, optional
        The night's run summary, a file here: tells which runs were taken, and how long they are.
    state : path, optional
        Where the last look is kept; by default in the folder of settings.
    remember : bool
        Compare with the last look, and keep this one for the next.
    profile : str, optional
        Settings to use; ``night_path`` tells where nights lie.

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
    this = list_night.fn(date, version=version, profile=profile)
    door = connect(profile)
    others = _other_versions(door, this)
    file = (
        Path(state)
        if state
        else night_snapshots.state_file(door.settings.config_dir, door.settings.door_url, this)
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
    """Tell whether a night that was listed is whole; untracked, and nothing is remembered.

    Parameters
    ----------
    night : Night
        What `list_night` gave.
    profile : str, optional
        Settings to use.
    """
    try:
        others = _other_versions(connect(profile), night)
    except CtaflowsError as why:
        get_logger("night").warning("Other versions of the night can't be listed: %s", why)
        others = []
    return assess(night, datetime.now(UTC), others=others)


def _other_versions(door: WebDAVStorage, this: Night) -> list[Night]:
    """Give a night's other versions, listed if they were not yet."""
    if this.version is None or this.superseded:
        return list(this.superseded)
    above, rest = night.directories(door.settings.night_path, this.date, "latest")
    released = [e.name for e in door.list(above) if e.is_dir and night.is_version(e.name)]
    others = [name for name in released if name != this.version]
    return _list_versions(door, this.date, above, others, rest or "")


def _list_versions(
    door: WebDAVStorage, date: str, above: str, versions: Sequence[str], rest: str
) -> list[Night]:
    """List the files of a night's versions; those that are not there are left out."""
    found = []
    for version in versions:
        where = door.normalise(f"{above}/{version}/{rest}")
        try:
            found.append(_listed(door, date, version, where))
        except NotFound:
            continue
    return found


@task(name="list-night-if-there", tags=["ctaflows"])
def list_night_if_there(
    date: str, *, version: str = "latest", profile: str | None = None
) -> Night | None:
    """List all files of a night, as `list_night`; None where there is no such night (yet).

    Parameters
    ----------
    date, version, profile
        As for `list_night`.
    """
    try:
        night: Night = list_night.fn(date, version=version, profile=profile)
    except NotFound:
        return None
    return night
