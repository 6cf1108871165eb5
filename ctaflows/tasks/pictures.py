"""Tasks that write a night's plots and its HTML page."""

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
    """Plot a night's rates, intensity spectrum, pointing, event counts and charges in one file.

    Parameters
    ----------
    night : NightReport or sequence of Inspection
        The result of the flow fetch-dl1 or of `inspect_dl1_files`.
    path : path
        The file to write, ``.png``, ``.pdf`` or ``.svg``; an existing one is replaced atomically.
    title : str, optional
        Title of the plots. By default the date and version of a NightReport, else none.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    UsageError
        The suffix is another one, there is nothing to plot, or the file can't be written.
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
    """Write a night's page: a single HTML file with plots and a table of files, readable offline.

    Parameters
    ----------
    night : NightReport or sequence of Inspection
        The result of the flow fetch-dl1 or of `inspect_dl1_files`.
    path : path
        The file to write; an existing one is replaced atomically.
    title : str, optional
        Heading of the page. By default the date and version of a NightReport, else
        ``DL1 files``.

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
    """Write the night's page into its folder, and return the report with the path of the page.

    Not tracked, since Prefect would look for futures in every record of the report. A page that
    can't be written is logged as a warning, and does not fail the night.
    """
    from ctaflows.dl1.report.html import NAME

    try:
        page = write_page.fn(report, Path(report.dest) / NAME)
    except Exception as why:  # noqa: BLE001  whatever the error, the files are in place
        get_logger("pictures").warning("The night has no page: %s", why)
        return report
    return replace(report, page=str(page))
