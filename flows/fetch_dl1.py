"""Fetch the DL1 files of a night, prove them, look into them, and report."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ctaflows.artifacts import publish_night
from ctaflows.dl1.names import parse_numbers
from ctaflows.dl1.night import Wanted, gaps, runs, select
from ctaflows.dl1.report import NightReport
from ctaflows.errors import NotFound, PartialFailure
from ctaflows.flow import flow
from ctaflows.tasks import fetch_files, inspect_dl1_files, list_night, plan_fetch
from ctaflows.transfer.manifest import NAME
from ctaflows.transfer.plan import batches

if TYPE_CHECKING:
    from ctaflows.model import Report


@flow(name="fetch-dl1", flow_run_name="fetch-dl1-{date}")
def fetch_dl1(
    date: str,
    run: str | None = None,
    subrun: str | None = None,
    version: str = "latest",
    include: list[str] | None = None,
    exclude: list[str] | None = None,
    dest: str = ".",
    inspect: bool = True,
    dry_run: bool = False,
    profile: str | None = None,
) -> NightReport:
    """Fetch the DL1 files of a night, resumed and verified, and tell what is in them.

    Run again it moves nothing that is here and proven.

    Parameters
    ----------
    date : str
        Date of the evening, such as 20241114.
    run : str, optional
        Runs to fetch, such as 11111,11113-11115; all if not given.
    subrun : str, optional
        Subruns to fetch, such as 100-120; all if not given.
    version : str
        Version of the data, such as v0.1; latest takes the highest there is.
    include : list of str, optional
        Shell patterns of files to fetch; without any, DL1 and datacheck files.
    exclude : list of str, optional
        Shell patterns of files or directories to leave out, such as datacheck.
    dest : str
        Folder in which the night's folder is made.
    inspect : bool
        Look into each file, and report its events, times and rates.
    dry_run : bool
        Only say what would be done.
    profile : str, optional
        Settings to use.

    Returns
    -------
    NightReport
        One record a file, and what is missing at the door.

    Raises
    ------
    NotFound
        No such night, or none of its files is wanted.
    PartialFailure
        Some files could not be fetched or are damaged; the others are in place.
    """
    wanted = Wanted(
        parse_numbers(run), parse_numbers(subrun), tuple(include or ()), tuple(exclude or ())
    )
    night = list_night(date, version=version, profile=profile)
    chosen = select(night, wanted)
    if not chosen:
        raise NotFound(
            f"No file of the night {night.date} is wanted",
            where=night.path,
            hint=f"It has {len(night.entries)} files, of runs {runs(night.entries) or 'unknown'}.",
        )
    folder = Path(dest) / night.date
    manifest = folder / NAME
    report = NightReport(
        date=night.date,
        version=night.version,
        path=night.path,
        dest=str(folder),
        manifest=str(manifest),
        gaps=gaps(night, wanted, datetime.now(UTC)),
        dry_run=dry_run,
    )
    if dry_run:
        planned = plan_fetch(chosen, folder, base=night.base, manifest=manifest)
        return report.having(planned)

    fetching = [
        fetch_files.submit(
            batch, folder, base=night.base, manifest=manifest, on_error="report", profile=profile
        )
        for batch in batches(chosen)
    ]
    fetched = [future.result() for future in fetching]
    looking = [inspect_dl1_files.submit(hdf5_files(part)) for part in fetched] if inspect else []
    transfers = [transfer for part in fetched for transfer in part.transfers]
    report = report.having(transfers, [found for part in looking for found in part.result()])
    publish_night(report)
    if report.failed:
        raise PartialFailure(
            f"Night {night.date}: {report.verdict()}",
            report=report,
            hint="The same command again goes on with the files that failed.",
        )
    return report


def hdf5_files(report: Report) -> list[str]:
    """Name the files that are in place and can be looked into."""
    return [t.local for t in report.transfers if t.ok and t.local.endswith((".h5", ".hdf5"))]
