"""What people see of a run in Prefect's UI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctaflows.dual import in_run

if TYPE_CHECKING:
    from ctaflows.dl1.report import NightReport

#: More rows than this make a page nobody reads; the manifest has them all.
MAX_ROWS = 1000
_COLUMNS = (
    "path", "run", "subrun", "size_bytes", "checksum", "verified", "n_events", "duration_s",
    "rate_hz", "error",
)  # fmt: skip


def publish_night(report: NightReport) -> None:
    """Make a table of the night in Prefect's UI; outside a run nothing is done.

    Parameters
    ----------
    report : NightReport
        The night. Failed files come first.
    """
    if not in_run():
        return
    from prefect.artifacts import create_table_artifact

    records = sorted(report.records(), key=lambda r: r["error"] is None)
    rows = [{key: record.get(key) for key in _COLUMNS} for record in records[:MAX_ROWS]]
    more = len(records) - len(rows)
    description = f"Night {report.date} {report.version or ''}: {report.verdict()}."
    create_table_artifact(
        key=f"night-{report.date}",
        table=rows,
        description=description + (f" {more} more rows: {report.manifest}." if more else ""),
    )
