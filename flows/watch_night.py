"""Watch a night on the storage: fetch its files as they become complete, and send events.

``python -m ctaflows.flows.watch_night`` serves the flow on this machine: a poll every 15 minutes.
"""

from __future__ import annotations

import logging
import random
import time
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctaflows import settings as _settings
from ctaflows.cancel import pause
from ctaflows.dl1.names import LAST_NIGHT, parse_numbers
from ctaflows.dl1.night import Wanted, current, gaps, select
from ctaflows.dl1.night_watch import PollSchedule, WaitTimes, WatchStateFile, night_of, poll
from ctaflows.dl1.report.inspection_cache import InspectionCache
from ctaflows.dl1.report.watch_report import WatchReport
from ctaflows.errors import CtaflowsError, PartialFailure, UsageError
from ctaflows.flows.batches import (
    UNTAGGED,
    fetch_name,
    files_a_batch,
    inspect_name,
    report_of,
    result_or_raise,
    run_batches,
)
from ctaflows.reporting.artifacts import progress_shown, publish_night
from ctaflows.reporting.assets import publish_runs
from ctaflows.reporting.events import files_arrived, night_complete
from ctaflows.tasks import fetch_files, inspect_dl1_files
from ctaflows.tasks.dl1 import list_night_if_there
from ctaflows.tasks.pictures import with_page
from ctaflows.tracking import run_context
from ctaflows.tracking.flow import flow
from ctaflows.tracking.opaque import OpaqueSequence
from ctaflows.tracking.task import get_logger
from ctaflows.transfer.decide import batches
from ctaflows.transfer.manifest import NAME, Manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctaflows.dl1.night import Night
    from ctaflows.model import Entry, Report, Transfer
    from ctaflows.settings import Settings

#: A file that fails is tried again at the next poll, not by Prefect.
fetch_batch = fetch_files.with_options(task_run_name=fetch_name, **UNTAGGED)
inspect_batch = inspect_dl1_files.with_options(task_run_name=inspect_name, **UNTAGGED)
list_untagged = list_night_if_there.with_options(**UNTAGGED)


def run_name() -> str:
    """Return the name of a flow run, with the date of its night."""
    date = str(run_context.parameters().get("date", LAST_NIGHT))
    try:
        return f"watch-night-{night_of(date, run_context.moment())}"
    except UsageError:  # the flow itself reports it
        return f"watch-night-{date}"


@flow(name="watch-night", flow_run_name=run_name)
def watch_night(
    date: str | int = LAST_NIGHT,
    run: str | int = "",
    subrun: str | int = "",
    version: str = "latest",
    include: list[str] | None = None,
    exclude: list[str] | None = None,
    dest: str = ".",
    inspect: bool = True,
    interval_minutes: float = 5.0,
    deadline_hours: float = 12.0,
    polls: int = 0,
    settle_minutes: float = 10.0,
    quiet_minutes: float = 60.0,
    page: bool = True,
    follow: bool = False,
    profile: str = "",
) -> WatchReport:
    """Fetch the DL1 files of a night as they become complete, until the night is complete.

    The state of the watch is kept in the night's folder, so that the next run continues it.

    Parameters
    ----------
    date : str or int
        Date of the evening, such as 20241114; last-night is yesterday's by the calendar on La
        Palma, counted from when the run was scheduled; tonight is that of the current or the coming
        night.
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
    interval_minutes : float
        Minutes between two polls of the storage, varied at random by up to a tenth.
    deadline_hours : float
        End the run after so many hours, even if the night is not complete.
    polls : int
        Number of polls in this run, such as 1 for a deployment that is scheduled every few minutes;
        0 means until the night is complete.
    settle_minutes : float
        A file is complete when it has not changed for so long, and two polls found it the same.
    quiet_minutes : float
        A night with no file missing is complete when none was added or changed for so long.
    page : bool
        Write the night's page, with plots, at the end of a run in which files were fetched.
    follow : bool
        List what symbolic links to directories within a version lead to, too.
    profile : str
        Profile with the settings to use; by default that of the environment.

    Returns
    -------
    WatchReport
        The files that arrived in this run, and the state of the night.

    Raises
    ------
    PartialFailure
        Some files could not be fetched or are damaged; the others are in place.
    CtaflowsError
        The night could not be listed: at the last poll, or with an error that is not retryable.
    """
    wanted = Wanted(
        parse_numbers(str(run) or None),
        parse_numbers(str(subrun) or None),
        tuple(include or ()),
        tuple(exclude or ()),
    )
    schedule = PollSchedule(interval_minutes * 60, deadline_hours * 3600, polls or None)
    wait_times = WaitTimes(settle_minutes * 60, quiet_minutes * 60)
    day = night_of(str(date), run_context.moment())
    folder = Path(dest).expanduser().absolute() / day
    state, report = WatchStateFile(folder), WatchReport.begun(day, folder, folder / NAME)
    began = time.monotonic()
    last: Night | None = None
    while True:
        report = report.after_look()
        error: CtaflowsError | None = None
        try:
            night = list_untagged(day, version=version, follow=follow, profile=profile)
        except CtaflowsError as why:
            if not why.retryable:
                raise
            night, error = None, why
        if night is not None:
            last = night
            report = process_poll(
                night, wanted, wait_times, state, report, inspect=inspect, profile=profile
            )
        wait_s = next_pause(schedule, report, time.monotonic() - began, error)
        if wait_s is None:
            break
        pause(wait_s)
    if last is not None:
        report = publish(report, last, state, _settings.load(profile), page=page)
    if error is not None:
        raise error
    if report.failed:
        raise PartialFailure(
            f"Watch of {report.verdict()}, the first: {report.failed[0]}",
            report=report,
            hint="Run it again to retry the files that failed.",
        )
    return report


def process_poll(
    night: Night,
    wanted: Wanted,
    wait_times: WaitTimes,
    state: WatchStateFile,
    report: WatchReport,
    *,
    inspect: bool,
    profile: str,
) -> WatchReport:
    """Fetch the files that are new and complete at one poll, and return the updated report."""
    now, folder = datetime.now(UTC), Path(report.night.dest)
    chosen = select(night, wanted)
    state.look(chosen, now)
    known = InspectionCache(folder)
    ready = poll(state.memory, chosen, now, wait_times).ready
    fetched_files = fetch(night, ready, state, known, folder, inspect=inspect, profile=profile)
    result = poll(state.memory, chosen, now, wait_times)
    missing = gaps(night, wanted, now)
    return report.having(
        fetched_files,
        known.of(fetched_files) if inspect else (),
        gaps=replace(missing, growing=tuple(entry.name for entry in result.waiting)),
        path=night.path,
        version=night.version,
        versions=night.versions,
        n_done=result.n_done,
        is_complete=result.is_whole(missing.is_incomplete, now, wait_times),
    )


def fetch(
    night: Night,
    ready: Sequence[Entry],
    state: WatchStateFile,
    known: InspectionCache,
    folder: Path,
    *,
    inspect: bool,
    profile: str,
) -> list[Transfer]:
    """Fetch files in batches; for each batch send events and inspect its files."""
    if not ready:
        return []
    settings = _settings.load(profile)

    def begin(batch: list[Entry]) -> Any:
        return fetch_batch.submit(
            OpaqueSequence(batch), folder, base=night.base, manifest=folder / NAME,
            on_error="report", profile=profile,
        )  # fmt: skip

    def begin_inspection(part: Report) -> Any:
        good = [transfer for transfer in part.transfers if transfer.ok]
        for version, files in groupby(good, key=lambda t: night.home(t.path)[0]):
            files_arrived(files, settings=settings, date=night.date, version=version)
        # after the events: a run killed in between sends some twice, but misses none
        state.done(transfer.path for transfer in good)
        paths = known.unknown(good) if inspect else []
        return inspect_batch.submit(OpaqueSequence(paths)) if paths else None

    fetched_files: list[Transfer] = []
    n_bytes = sum(entry.size_bytes or 0 for entry in ready)
    with progress_shown(f"Night {night.date}", len(ready), n_bytes) as progress:
        ended = run_batches(begin, batches(ready, max_files=files_a_batch(len(ready))))
        fetched = (progress.arrived(report_of(result)) for _, result in ended)
        for part, found in run_batches(begin_inspection, fetched):
            known.add(result_or_raise(found) or (), part.transfers)
            fetched_files += part.transfers
    return fetched_files


def next_pause(
    schedule: PollSchedule, report: WatchReport, elapsed_s: float, error: CtaflowsError | None
) -> float | None:
    """Return the seconds until the next poll, or None after the last one; also log them."""
    asked_s = (error.retry_after_s or 0.0) if error is not None else 0.0
    is_over = report.is_complete and error is None
    wait_s = (
        None if is_over else schedule.pause_s(report.n_looks, elapsed_s, random.random(), asked_s)
    )
    then = "this was the last poll" if wait_s is None else f"next poll in {wait_s:.0f} s"
    level = logging.WARNING if error else logging.INFO
    get_logger("watch").log(level, "%s; %s", error or report.verdict(), then)
    return wait_s


def publish(
    report: WatchReport, now: Night, state: WatchStateFile, settings: Settings, *, page: bool
) -> WatchReport:
    """Publish all files fetched so far in Prefect's UI and on the night's page."""
    night = report.night
    proofs = Manifest(Path(night.manifest)).proofs
    fetched = [
        proofs[path] for path in current(now, state.done_below(night.path)) if path in proofs
    ]
    whole = night.having(fetched, InspectionCache(night.dest).of(fetched))
    if night.transfers:
        whole = with_page(whole) if page else whole
        publish_night(whole)
        publish_runs(night, settings)
    if report.is_complete:
        night_complete(whole)
    return replace(report, night=replace(night, page=whole.page))


if __name__ == "__main__":
    from datetime import timedelta

    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy

    watch_night.serve(
        name="here",
        interval=timedelta(minutes=15),
        parameters={"polls": 1},
        # after a pause Prefect starts all missed runs at once: one is enough
        global_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
        ),
        pause_on_shutdown=False,
    )
