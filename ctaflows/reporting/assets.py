"""The fetched runs of a night as Prefect assets, with their origin and key figures.

There is one asset per run, not per file: the local copy, ``file:///data/20241114/Run11111``, which
depends on the run on the storage, ``dcache://door/cta/DL1/20241114/v0.1/Run11111``, and has the
figures of its files as metadata. A flow that works on the copy names it in ``asset_deps``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from ctaflows.dl1.names import parse_name
from ctaflows.dl1.night import home
from ctaflows.dl1.report.totals import totals_by_run
from ctaflows.errors import error_text
from ctaflows.model import utc_text
from ctaflows.tracking.task import get_logger
from ctaflows.tracking.tracked import in_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctaflows.dl1.report.night_report import NightReport
    from ctaflows.dl1.report.totals import RunTotals
    from ctaflows.settings import Settings

#: As names need not be UTF-8.
_quoted = functools.partial(quote, errors="surrogateescape")
#: Largest number of task runs that record assets; the runs of a night are shared among them.
_MOST_TASK_RUNS = 4


@dataclass(frozen=True)
class FetchedRun:
    """A fetched run, as an asset.

    Attributes
    ----------
    key : str
        URI of the local copy, the asset's key.
    origin : str
        URI of the run on the storage, the key of the asset it depends on.
    name, description : str
        Name and description for people.
    metadata : dict of str to Any
        Key figures of the run, JSON-ready.
    """

    key: str
    origin: str
    name: str
    description: str
    metadata: dict[str, Any] = field(default_factory=dict)


def fetched_runs(report: NightReport, door_url: str) -> list[FetchedRun]:
    """Return the fetched runs: those with transferred bytes and without a failed file. Pure.

    Parameters
    ----------
    report : NightReport
        The report of the night.
    door_url : str
        URL of the door, of which host name and path become part of the origins.
    """
    parts = urlsplit(door_url)
    door = (parts.hostname or "door") + parts.path.rstrip("/")
    dest = Path(report.dest).absolute()
    locations = {
        name.run: location
        for transfer in report.transfers
        if (location := home(transfer.path, report.versions))
        and (name := parse_name(transfer.path))
    }
    found = []
    for run in totals_by_run(report.rows()):
        if run.run is None or not run.moved_bytes or run.n_failed:
            continue
        version, directory = locations.get(run.run, (report.version, report.path))
        found.append(
            FetchedRun(
                key=f"file://{_quoted(str(dest))}/Run{run.run:05d}",
                origin=f"dcache://{door}{_quoted(directory)}/Run{run.run:05d}",
                name=f"Run{run.run:05d} of {report.date}",
                description=f"DL1 files of run {run.run}, night {report.date} {version or ''}",
                metadata=_figures(report, run, version),
            )
        )
    return found


def _figures(report: NightReport, run: RunTotals, version: str | None) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "date": report.date,
        "version": version,
        "run": run.run,
        "files": run.n_files,
        "verified": run.n_verified,
        "size_bytes": run.size_bytes,
        "moved_bytes": run.moved_bytes,
        "manifest": report.manifest,
    }
    if run.n_inspected:
        figures |= {
            "inspected": run.n_inspected,
            "n_events": run.n_events,
            "n_events_by_type": run.n_events_by_type,
            "duration_s": round(run.duration_s, 3),
            "rate_hz": None if run.rate_hz is None else round(run.rate_hz, 3),
            "time_first": utc_text(run.time_first),
            "time_last": utc_text(run.time_last),
        }
    return figures


def publish_runs(report: NightReport, settings: Settings) -> int:
    """Record the fetched runs of a night as Prefect assets.

    Outside a flow or task run it does nothing. An error of Prefect is logged as a warning.

    Parameters
    ----------
    report : NightReport
        The report of the night.
    settings : Settings
        Settings with the URL of the door.

    Returns
    -------
    int
        Number of fetched runs; 0 outside a run.
    """
    if not in_run():
        return 0
    runs = fetched_runs(report, settings.door_url)
    per_task = -(-len(runs) // _MOST_TASK_RUNS) or 1
    for start in range(0, len(runs), per_task):
        try:
            _record(runs[start : start + per_task])
        except Exception as why:  # noqa: BLE001  an error of Prefect does not fail the transfer
            get_logger("assets").warning("Prefect did not accept an asset: %s", error_text(why))
    return len(runs)


def _record(runs: Sequence[FetchedRun]) -> None:
    """Materialize these runs as assets, in one task run."""
    from prefect.assets import Asset, AssetProperties, add_asset_metadata, materialize

    assets = [
        Asset(key=r.key, properties=AssetProperties(name=r.name, description=r.description))
        for r in runs
    ]
    label = runs[0].name.partition(" ")[0] + (f" and {len(runs) - 1} more" if runs[1:] else "")

    @materialize(
        *assets,
        by="ctaflows",
        asset_deps=[Asset(key=r.origin) for r in runs],
        name="record-run",
        task_run_name=f"record {label}",
        persist_result=False,
    )
    def record() -> None:
        for run in runs:
            add_asset_metadata(run.key, run.metadata)

    record()
