"""Watch a night at the door: fetch its files as they become complete, and tell of each.

``python -m ctaflows.flows.watch_night`` serves it on this machine: a look every quarter of an hour.
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

#: A file that fails is tried again at the next look, not by Prefect.
fetch_batch = fetch_files.with_options(task_run_name=fetch_name, **UNTAGGED)
inspect_batch = inspect_dl1_files.with_options(task_run_name=inspect_name, **UNTAGGED)
list_untagged = list_night_if_there.with_options(**UNTAGGED)


def run_name() -> str:
    """Name a run after its night."""
    date = str(run_context.parameters().get("date", LAST_NIGHT))
    try:
        return f"watch-night-{night_of(date, run_context.moment())}"
    except UsageError:  # the flow itself will say so
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
    profile: str = "",
) -> WatchReport:
    """Fetch the DL1 files of a night as they become complete, until the night is, and tell of each.

    What was seen is remembered in the night's folder: the next run goes on from there.

    Parameters
    ----------
    date : str or int
        Date of the evening, such as 20241114; last-night is yesterday's by the calendar on La
        Palma, counted from when the run was scheduled, tonight that of the night that goes on or
        comes next.
    run : str or int
        Runs to fetch, such as 11111,11113-11115; all if not given.
    subrun : str or int
        Subruns to fetch, such as 100-120; all if not given.
    version : str
        Version of the data, such as v0.1, that one alone; latest takes each run from the newest
        version that has DL1 files of it.
    include : list of str, optional
        Shell patterns of files to fetch; without any, DL1 and datacheck files.
    exclude : list of str, optional
        Shell patterns of files or directories to leave out, such as datacheck.
    dest : str
        Folder in which the night's folder is made, on the machine that runs this.
    inspect : bool
        Look into each file, and report its events, times and rates.
    interval_minutes : float
        Minutes between two looks at the door, give or take a tenth.
    deadline_hours : float
        After so many hours the run ends, whatever the night is like.
    polls : int
        Looks at the door in this run, such as 1 for a deployment that is scheduled every few
        minutes; 0 for as many as it takes.
    settle_minutes : float
        A file is complete when it was not changed for so long, and two looks showed it alike.
    quiet_minutes : float
        A night that lacks nothing is complete when nothing came or changed for so long.
    page : bool
        Write the night's page, with pictures, at the end of a run in which files came.
    profile : str
        Settings to use; those of the environment if not given.

    Returns
    -------
    WatchReport
        What arrived in this run, and how the night stands.

    Raises
    ------
    PartialFailure
        Some files could not be fetched or are damaged; the others are in place.
    CtaflowsError
        The door could not be looked at: at the last try, or for a reason that will not pass.
    """
    wanted = Wanted(
        parse_numbers(str(run) or None),
        parse_numbers(str(subrun) or None),
        tuple(include or ()),
        tuple(exclude or ()),
    )
    rhythm = PollSchedule(interval_minutes * 60, deadline_hours * 3600, polls or None)
    patience = WaitTimes(settle_minutes * 60, quiet_minutes * 60)
    day = night_of(str(date), run_context.moment())
    folder = Path(dest).expanduser().absolute() / day
    book, report = WatchStateFile(folder), WatchReport.begun(day, folder, folder / NAME)
    began = time.monotonic()
    last: Night | None = None
    while True:
        report = report.after_look()
        trouble: CtaflowsError | None = None
        try:
            night = list_untagged(day, version=version, profile=profile)
        except CtaflowsError as why:
            if not why.retryable:
                raise
            night, trouble = None, why
        if night is not None:
            last = night
            report = take(night, wanted, patience, book, report, inspect=inspect, profile=profile)
        wait_s = next_pause(rhythm, report, time.monotonic() - began, trouble)
        if wait_s is None:
            break
        pause(wait_s)
    if last is not None:
        report = publish(report, last, book, _settings.load(profile), page=page)
    if trouble is not None:
        raise trouble
    if report.failed:
        raise PartialFailure(
            f"Watch of {report.verdict()}, the first: {report.failed[0]}",
            report=report,
            hint="The same run again goes on with the files that failed.",
        )
    return report


def take(
    night: Night,
    wanted: Wanted,
    patience: WaitTimes,
    book: WatchStateFile,
    report: WatchReport,
    *,
    inspect: bool,
    profile: str,
) -> WatchReport:
    """Take in one look: fetch what is complete and new, and say how the night stands."""
    now, folder = datetime.now(UTC), Path(report.night.dest)
    chosen = select(night, wanted)
    book.look(chosen, now)
    known = InspectionCache(folder)
    ready = poll(book.memory, chosen, now, patience).ready
    moved = fetch(night, ready, book, known, folder, inspect=inspect, profile=profile)
    stands = poll(book.memory, chosen, now, patience)
    lacking = gaps(night, wanted, now)
    return report.having(
        moved,
        known.of(moved) if inspect else (),
        gaps=replace(lacking, growing=tuple(entry.name for entry in stands.waiting)),
        path=night.path,
        version=night.version,
        versions=night.versions,
        n_done=stands.n_done,
        is_complete=stands.is_whole(lacking.is_incomplete, now, patience),
    )


def fetch(
    night: Night,
    ready: Sequence[Entry],
    book: WatchStateFile,
    known: InspectionCache,
    folder: Path,
    *,
    inspect: bool,
    profile: str,
) -> list[Transfer]:
    """Fetch files in batches; tell of each as its batch has come, and look into it."""
    if not ready:
        return []
    settings = _settings.load(profile)

    def begin(batch: list[Entry]) -> Any:
        return fetch_batch.submit(
            OpaqueSequence(batch), folder, base=night.base, manifest=folder / NAME,
            on_error="report", profile=profile,
        )  # fmt: skip

    def look(part: Report) -> Any:
        good = [transfer for transfer in part.transfers if transfer.ok]
        for version, files in groupby(good, key=lambda t: night.home(t.path)[0]):
            files_arrived(files, settings=settings, date=night.date, version=version)
        # told first: one that is killed in between tells again, and forgets none
        book.done(transfer.path for transfer in good)
        paths = known.unknown(good) if inspect else []
        return inspect_batch.submit(OpaqueSequence(paths)) if paths else None

    moved: list[Transfer] = []
    n_bytes = sum(entry.size_bytes or 0 for entry in ready)
    with progress_shown(f"Night {night.date}", len(ready), n_bytes) as gauge:
        ended = run_batches(begin, batches(ready, max_files=files_a_batch(len(ready))))
        fetched = (gauge.arrived(report_of(result)) for _, result in ended)
        for part, found in run_batches(look, fetched):
            known.add(result_or_raise(found) or (), part.transfers)
            moved += part.transfers
    return moved


def next_pause(
    rhythm: PollSchedule, report: WatchReport, elapsed_s: float, trouble: CtaflowsError | None
) -> float | None:
    """Say how long to wait for the next look, and say so in the run's log; None for no more."""
    asked_s = (trouble.retry_after_s or 0.0) if trouble is not None else 0.0
    is_over = report.is_complete and trouble is None
    wait_s = (
        None if is_over else rhythm.pause_s(report.n_looks, elapsed_s, random.random(), asked_s)
    )
    then = "that was the last look" if wait_s is None else f"the next look in {wait_s:.0f} s"
    level = logging.WARNING if trouble else logging.INFO
    get_logger("watch").log(level, "%s; %s", trouble or report.verdict(), then)
    return wait_s


def publish(
    report: WatchReport, now: Night, book: WatchStateFile, settings: Settings, *, page: bool
) -> WatchReport:
    """Show in Prefect's UI, and on the night's page, all that has arrived so far."""
    night = report.night
    proofs = Manifest(Path(night.manifest)).proofs
    here = [proofs[path] for path in current(now, book.done_below(night.path)) if path in proofs]
    whole = night.having(here, InspectionCache(night.dest).of(here))
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
        # missed runs come all at once after a pause: one is enough
        global_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
        ),
        pause_on_shutdown=False,
    )
