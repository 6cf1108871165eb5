"""Runs of a night as Prefect's assets: what was fetched, and from where it comes.

An asset a run, not a file: the copy here, ``file:///data/20241114/Run11111``, with the run at the
door that it was made of, ``dcache://door/cta/DL1/20241114/v0.1/Run11111``, as its origin, and with
the figures of what was found in it. A flow that works on the copy names it in ``asset_deps``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from ctaflows.dl1.names import parse_name
from ctaflows.dl1.night import home
from ctaflows.dl1.report.totals import totals_by_run
from ctaflows.model import utc_text
from ctaflows.tracking.task import get_logger
from ctaflows.tracking.tracked import in_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctaflows.dl1.report.night_report import NightReport
    from ctaflows.dl1.report.totals import RunTotals
    from ctaflows.settings import Settings

#: A task run for each; the runs of a longer night share them.
_MOST_TASK_RUNS = 4


@dataclass(frozen=True)
class FetchedRun:
    """One run as an asset.

    Attributes
    ----------
    key : str
        The copy here, a URI.
    origin : str
        The run at the door, a URI.
    name, description : str
        For people.
    metadata : dict
        Figures, ready for JSON.
    """

    key: str
    origin: str
    name: str
    description: str
    metadata: dict[str, Any] = field(default_factory=dict)


def fetched_runs(report: NightReport, door_url: str) -> list[FetchedRun]:
    """Say which runs came: those without a failed file of which something was moved. Pure."""
    door = urlsplit(door_url).hostname or "door"
    here = Path(report.dest).absolute()
    homes = {
        name.run: at
        for transfer in report.transfers
        if (at := home(transfer.path, report.versions)) and (name := parse_name(transfer.path))
    }
    found = []
    for run in totals_by_run(report.rows()):
        if run.run is None or not run.moved_bytes or run.n_failed:
            continue
        version, directory = homes.get(run.run, (report.version, report.path))
        found.append(
            FetchedRun(
                key=f"file://{quote(str(here))}/Run{run.run:05d}",
                origin=f"dcache://{door}{quote(directory)}/Run{run.run:05d}",
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
    """Record the runs that came as assets in Prefect; outside a run nothing is done.

    Parameters
    ----------
    report : NightReport
        The night.
    settings : Settings
        Whose door it came from.

    Returns
    -------
    int
        How many runs were recorded.
    """
    if not in_run():
        return 0
    runs = fetched_runs(report, settings.door_url)
    a_task = -(-len(runs) // _MOST_TASK_RUNS) or 1
    for start in range(0, len(runs), a_task):
        try:
            _record(runs[start : start + a_task])
        except Exception as why:  # noqa: BLE001  whatever it is, the files matter more
            get_logger("assets").warning("Prefect did not take an asset: %s", why)
    return len(runs)


def _record(runs: Sequence[FetchedRun]) -> None:
    """Make one task run that materializes these runs."""
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
