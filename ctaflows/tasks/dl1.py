"""Tasks that look into DL1 files, and at the nights they are of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ctaflows.dl1 import names, night
from ctaflows.dl1.night import Night
from ctaflows.dl1.report import Inspection
from ctaflows.errors import CtaflowsError, NotFound, error_text
from ctaflows.storage.connect import connect
from ctaflows.storage.walk import files_below
from ctaflows.task import task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctaflows.dl1.summary import DL1Summary
    from ctaflows.model import StrPath


@task(name="inspect-dl1", tags=["ctaflows"])
def inspect_dl1(path: StrPath) -> DL1Summary:
    """Tell what is in a DL1 file: layout, run, tables, events by type, times, rates.

    Parameters
    ----------
    path : path
        A file here, in lstchain's or ctapipe's layout.

    Raises
    ------
    IntegrityError
        The file is damaged, or no HDF5 at all.
    """
    from ctaflows.dl1.inspect import inspect_file

    return inspect_file(Path(path))


@task(name="inspect-dl1-files", tags=["ctaflows"])
def inspect_dl1_files(paths: Sequence[StrPath]) -> list[Inspection]:
    """Tell what is in each of many DL1 files, damaged ones with their error.

    Parameters
    ----------
    paths : sequence of path
        Files here.

    Returns
    -------
    list of Inspection
        In the order of ``paths``.
    """
    found = []
    for path in paths:
        try:
            found.append(Inspection(str(path), inspect_dl1.fn(path)))
        except CtaflowsError as why:
            found.append(Inspection(str(path), error=error_text(why)))
    return found


@task(name="list-night", tags=["ctaflows"])
def list_night(date: str, *, version: str = "latest", profile: str | None = None) -> Night:
    """List all files of a night.

    Parameters
    ----------
    date : str
        The evening's date, ``20241114`` or ``2024-11-14``.
    version : str
        Such as ``v0.1``; ``latest`` takes the highest there is.
    profile : str, optional
        Settings to use; ``night_path`` tells where nights lie.

    Raises
    ------
    NotFound
        There is no such night or version.
    """
    day = names.parse_date(date)
    door = connect(profile)
    where, rest = night.directories(door.settings.night_path, day, version)
    found: str | None = version if "{version}" in door.settings.night_path else None
    try:
        if rest is not None:
            found = night.latest(e.name for e in door.list(where) if e.is_dir)
            where = f"{where}/{found}/{rest}" if found else where
        entries = tuple(files_below(door, where))
    except NotFound as why:
        parent = door.settings.night_path.partition("{")[0].strip("/")
        raise NotFound(
            f"There is no night {day:%Y%m%d}" + (f" {version}" if rest is None else ""),
            where=why.where,
            hint=f"`ctaflows ls {parent}` shows the nights there are, one of them its versions.",
        ) from why
    return Night(f"{day:%Y%m%d}", found, door.normalise(where), entries)
