"""Tasks that draw a night: pictures of it in one file, and the page that opens offline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ctaflows.dl1.report.night_report import NightReport
from ctaflows.tracking.task import get_logger, task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctaflows.dl1.quality.checks import Inspection
    from ctaflows.model import StrPath


@task(name="plot-night", tags=["ctaflows"])
def plot_night(
    night: NightReport | Sequence[Inspection], path: StrPath, *, title: str | None = None
) -> Path:
    """Draw a night's rates, spectrum, pointing, counts and charges on one sheet.

    Parameters
    ----------
    night : NightReport or sequence of Inspection
        What came of fetch-dl1, or what `inspect_dl1_files` found.
    path : path
        The file, ``.png``, ``.pdf`` or ``.svg``; replaced in one step.
    title : str, optional
        A line above; by default the night's date and version.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    UsageError
        Another suffix, nothing to draw, or the file can't be written.
    """
    from ctaflows.dl1.report.plots import pictures_of, save

    if isinstance(night, NightReport):
        inspections: Sequence[Inspection] = tuple(night.inspections.values())
        title = title or f"DL1 night {night.name}"
    else:
        inspections = night
    save(pictures_of(inspections), path, title=title or "")
    return Path(path)


@task(name="write-page", tags=["ctaflows"])
def write_page(
    night: NightReport | Sequence[Inspection], path: StrPath, *, title: str | None = None
) -> Path:
    """Write a night's page: one HTML file, with pictures and a table of files, that opens offline.

    Parameters
    ----------
    night : NightReport or sequence of Inspection
        What came of fetch-dl1, or what `inspect_dl1_files` found.
    path : path
        The file; replaced in one step.
    title : str, optional
        Its heading; by default the night's date and version.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    UsageError
        The file can't be written.
    """
    from ctaflows.atomic_files import replaced
    from ctaflows.dl1.report.html import page

    text = page(night, title=title)
    with replaced(path) as stream:
        stream.write(text.encode())
    return Path(path)


def with_page(report: NightReport) -> NightReport:
    """Write the night's page into its folder, and say in the report where it is.

    Untracked: Prefect would look for futures in every file of the night. Where the page can't be
    written a warning tells it; the files matter more.
    """
    from ctaflows.dl1.report.html import NAME

    try:
        page = write_page.fn(report, Path(report.dest) / NAME)
    except Exception as why:  # noqa: BLE001  whatever it is, the night is in place
        get_logger("pictures").warning("The night has no page: %s", why)
        return report
    return replace(report, page=str(page))
