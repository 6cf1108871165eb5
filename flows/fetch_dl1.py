"""Fetch the DL1 files of a night, verify and inspect them, and report."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctaflows import settings as _settings
from ctaflows.dl1.names import LAST_NIGHT, night_date, parse_numbers
from ctaflows.dl1.night import Wanted, gaps, runs, select
from ctaflows.dl1.report.inspection_cache import CachedInspection, InspectionCache
from ctaflows.dl1.report.markdown import outlook
from ctaflows.dl1.report.night_report import NightReport
from ctaflows.errors import ListingUnreadable, NotFound, PartialFailure, UsageError
from ctaflows.flows.batches import (
    UNTAGGED,
    fetch_name,
    files_a_batch,
    inspect_name,
    may_try_again,
    parts_of,
    report_of,
    result_or_raise,
    run_batches,
)
from ctaflows.reporting.artifacts import meanwhile, progress_shown, publish_night, publish_page
from ctaflows.reporting.assets import publish_runs
from ctaflows.reporting.events import files_fetched, night_complete
from ctaflows.tasks import fetch_files, inspect_dl1_files, list_night, plan_fetch
from ctaflows.tasks.dl1 import census_of
from ctaflows.tasks.pictures import with_page
from ctaflows.tracking import run_context as _run
from ctaflows.tracking.flow import flow
from ctaflows.tracking.opaque import OpaqueSequence
from ctaflows.tracking.task import get_logger
from ctaflows.transfer.decide import batches
from ctaflows.transfer.manifest import NAME
from ctaflows.transfer.standing import as_moved, proven

if TYPE_CHECKING:
    from ctaflows.model import Entry, Report, Transfer

#: A retry skips files that are already present and verified, and resumes partial ones.
fetch_batch = fetch_files.with_options(
    task_run_name=fetch_name,
    retries=2,
    retry_delay_seconds=[30, 300],
    retry_jitter_factor=0.5,
    retry_condition_fn=may_try_again,
    **UNTAGGED,
)
inspect_batch = inspect_dl1_files.with_options(task_run_name=inspect_name, **UNTAGGED)
list_untagged = list_night.with_options(**UNTAGGED)


def run_name() -> str:
    """Return the name of a flow run, with the date of its night."""
    date = str(_run.parameters().get("date") or LAST_NIGHT)
    try:
        return f"fetch-dl1-{night_date(date, _run.moment())}"
    except UsageError:  # the flow itself reports it
        return f"fetch-dl1-{date}"


@flow(name="fetch-dl1", flow_run_name=run_name)
def fetch_dl1(
    date: str | int = LAST_NIGHT,
    run: str | int = "",
    subrun: str | int = "",
    version: str = "latest",
    include: list[str] | None = None,
    exclude: list[str] | None = None,
    dest: str = ".",
    inspect: bool = True,
    dry_run: bool = False,
    follow: bool = False,
    profile: str = "",
) -> NightReport:
    """Fetch the DL1 files of a night, resumed and verified, and report what they contain.

    A second run skips the files that are already present and verified.

    Parameters
    ----------
    date : str or int
        Date of the evening, such as 20241114 or 2024-11-14; last-night is yesterday's evening by
        the calendar on La Palma, counted from when the run was scheduled.
    run : str or int
        Runs to fetch, such as 11111,11113-11115; by default all.
    subrun : str or int
        Subruns to fetch, such as 100-120; by default all.
    version : str
        Version of the data, such as v0.1; latest takes each run from the newest version that has
        DL1 files of it.
    include : list of str, optional
        Shell patterns of files to fetch; by default all DL1 and datacheck files.
    exclude : list of str, optional
        Shell patterns of files or directories to leave out, such as datacheck.
    dest : str
        Folder in which the night's folder is created, on the machine where the flow runs.
    inspect : bool
        Inspect each file, and report its events, times and rates.
    dry_run : bool
        Only report what would be done.
    follow : bool
        List what symbolic links to directories within a version lead to, too.
    profile : str
        Profile with the settings to use; by default that of the environment.

    Returns
    -------
    NightReport
        A record for each file, and what is missing on the storage.

    Raises
    ------
    NotFound
        There is no such night, it has no DL1 file (yet), or no file of it is selected.
    ListingUnreadable
        No file is selected, but what is in some directories can't be seen.
    PartialFailure
        Some files could not be fetched or are damaged; the others are in place.
    """
    wanted = Wanted(
        parse_numbers(str(run) or None),
        parse_numbers(str(subrun) or None),
        tuple(include or ()),
        tuple(exclude or ()),
    )
    night = list_untagged(
        night_date(str(date), _run.moment()), version=version, follow=follow, profile=profile
    )
    chosen = select(night, wanted)
    now = datetime.now(UTC)
    missing = gaps(night, wanted, now)
    if not chosen and missing.unknown:
        raise ListingUnreadable(
            f"Not all of the night {night.date} can be seen, and no file that can matches",
            where=night.path,
            said=missing.unknown[0],
        )
    if not chosen:
        raise NotFound(
            f"No file of the night {night.date} matches the selection",
            where=night.path,
            hint=f"It has {len(night.entries)} files, of runs {runs(night.entries) or 'unknown'}.",
        )
    if not (missing.has_dl1 or wanted.include or missing.unknown):
        raise NotFound(
            f"There is no DL1 file of the night {night.date} (yet)",
            where=night.path,
            hint=f"It has {len(night.entries)} other files; to fetch some, say which to include.",
        )
    # absolute, since tasks may run with another working directory
    folder = Path(dest).expanduser().absolute() / night.date
    manifest = folder / NAME
    report = NightReport(
        date=night.date,
        version=night.version,
        path=night.path,
        dest=str(folder),
        manifest=str(manifest),
        gaps=missing,
        census=census_of(night, profile=profile) if wanted == Wanted() else None,
        dry_run=dry_run,
        versions=night.versions,
    )
    if dry_run:
        planned = plan_fetch(chosen, folder, base=night.base, manifest=manifest, profile=profile)
        return report.having(planned)

    in_place, rest = proven(chosen, folder, base=night.base, manifest=manifest)
    known = InspectionCache(folder)
    log = get_logger("fetch-dl1")
    log.info(outlook(report, in_place, rest))

    def fetch(batch: list[Entry]) -> Any:
        return fetch_batch.submit(
            OpaqueSequence(batch), folder, base=night.base, manifest=manifest, profile=profile
        )

    def begin_inspection(part: Report) -> Any:
        paths = known.unknown(part.transfers) if inspect else []
        return inspect_batch.submit(OpaqueSequence(paths)) if paths else None

    transfers: dict[str, Transfer] = {}
    n_bytes = sum(entry.size_bytes or 0 for entry in rest)
    with progress_shown(f"Night {night.date}", len(rest), n_bytes) as progress:
        todo = batches(rest, max_files=files_a_batch(len(rest)))
        ended = (progress.arrived(report_of(done)) for _, done in run_batches(fetch, todo))
        fetched = (as_moved(part, manifest) for part in ended)
        for part, found in run_batches(begin_inspection, chain(parts_of(in_place), fetched)):
            known.add(result_or_raise(found) or (), part.transfers)
            files_fetched(part, date=night.date, version=night.version)
            transfers |= {t.path: t for t in part.transfers}
    in_order = [transfers[entry.path] for entry in chosen]
    inspections = CachedInspection(known.of(in_order) if inspect else ())
    report = replace(report, transfers=OpaqueSequence(in_order), inspections=inspections)
    log.info("Night %s: %s.", night.date, report.verdict())
    without_page, settings, published = report, _settings.load(profile), list[bool]()
    with meanwhile(
        lambda: published.append(publish_night(without_page)),
        lambda: publish_runs(without_page, settings),
    ):
        report = with_page(report)
    if all(published):
        publish_page(report)
    if report.failed:
        raise PartialFailure(
            f"Night {night.date}: {report.verdict()}",
            report=report,
            hint="Run the same command again to retry the files that failed.",
        )
    night_complete(report)
    return report
