"""Summary of a night: a row per file, the totals of each run, the verdict on the night. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ctaflows.dl1.names import parse_name
from ctaflows.dl1.night_snapshots import COMPLETE, GROWING, INCOMPLETE
from ctaflows.dl1.quality.checks import remarks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from ctaflows.dl1.night import Gaps
    from ctaflows.dl1.night_completeness import Completeness
    from ctaflows.dl1.quality.checks import Inspection
    from ctaflows.model import Transfer

FAILED, DRY_RUN, OPEN = "failed", "dry run", "open"


def verdict_of_night(
    *, n_failed: int, dry_run: bool, gaps: Gaps, census: Completeness | None, is_open: bool = False
) -> tuple[str, str]:
    """Return the verdict on a night, and a sentence that states it.

    `NightReport`, and what is made from it, take the verdict from here. That on the night on the
    storage alone, which counts here as `census`, is from `dl1.night_completeness`.

    Parameters
    ----------
    n_failed : int
        Number of files that are not in place, or damaged.
    dry_run : bool
        Whether nothing was to be fetched.
    gaps : Gaps
        Files that are missing or still growing on the storage, among the wanted ones.
    census : Completeness or None
        Completeness of the whole night on the storage, where all of it was wanted.
    is_open : bool, optional
        Whether more files may come, as a watch of the night knows (default: False).

    Returns
    -------
    str
        ``failed``, ``dry run``, ``growing``, ``incomplete``, ``open`` or ``complete``: the first
        one that applies.
    str
        The sentence.
    """
    storage_verdict = census.verdict if census else None
    if n_failed:
        return FAILED, f"Not complete: {n_failed:,} file{'s' * (n_failed != 1)} failed."
    if dry_run:
        return DRY_RUN, "Nothing was fetched: only what would be done."
    if gaps.growing or storage_verdict == GROWING:
        return GROWING, "Not complete: the night is still growing at the door."
    if not gaps.has_dl1:
        return INCOMPLETE, "Not complete: there is no DL1 file at the door."
    if gaps.missing:
        return INCOMPLETE, "Not complete: subruns are missing at the door."
    if gaps.is_incomplete or storage_verdict == INCOMPLETE:
        return INCOMPLETE, "Not complete at the door."
    if is_open:
        return OPEN, "Not complete yet: more files may come."
    return COMPLETE, "Complete."


#: Verdicts on a file from the best to the worst, each with a sign, so that colour is not needed.
SIGNS = {"not checked": "–", "ok": "✓", "warn": "!", "bad": "✗", "failed": "✗✗"}


@dataclass(frozen=True)
class Row:
    """One file of a night, as reports show it.

    Attributes
    ----------
    path : str
        Remote path of a transferred file, local path of one that was only inspected.
    name : str
        The last component of the path.
    run, subrun : int or None
        Numbers of run and subrun.
    is_events : bool
        Whether its events count: those of a datacheck are in the DL1 file as well.
    size_bytes : int or None
        Size of the file.
    proof : str
        Algorithm and beginning of the checksum that it was verified against, or ``not verified``;
        empty where the transfer failed, or the file was only inspected.
    moved_bytes : int
        Bytes of it that were transferred over the network.
    is_verified : bool
        Whether it agrees with the storage's checksum.
    is_failed : bool
        Whether it is not in place, or damaged.
    n_events : int or None
        Number of events.
    n_events_by_type : dict of str to int
        Number of events by type; empty where the file does not state types.
    time_first, time_last : datetime or None
        UTC times of the first and the last event.
    duration_s, rate_hz : float or None
        Time between both in seconds, and rate of events in Hz.
    verdict : str
        Verdict of its checks, a key of `SIGNS`.
    remarks : tuple of str
        A text for the error and each check that is not ok.
    """

    path: str
    name: str
    run: int | None
    subrun: int | None
    is_events: bool
    size_bytes: int | None
    proof: str
    moved_bytes: int
    is_verified: bool
    is_failed: bool
    n_events: int | None
    n_events_by_type: Mapping[str, int]
    time_first: datetime | None
    time_last: datetime | None
    duration_s: float | None
    rate_hz: float | None
    verdict: str
    remarks: tuple[str, ...]


@dataclass
class RunTotals:
    """Totals over the files of one run, or over all files without a run number.

    Attributes
    ----------
    run : int or None
        Number of the run.
    n_files, n_failed, n_verified : int
        Numbers of files: all, those not in place or damaged, those that agree with the storage's
        checksum.
    size_bytes, moved_bytes : int
        Size of all files, and bytes transferred over the network.
    n_inspected : int
        Number of DL1 files whose events are counted: the subruns, or the merged file where there
        are none.
    n_events : int
        Number of events in the inspected files.
    n_events_by_type : dict of str to int
        Number of events by type, where the files state types.
    duration_s : float
        Sum of the inspected files' durations, in seconds.
    time_first, time_last : datetime or None
        UTC times of the first and the last event in the inspected files.
    verdicts : dict of str to int
        Number of files by verdict.
    """

    run: int | None
    n_files: int = 0
    n_failed: int = 0
    n_verified: int = 0
    size_bytes: int = 0
    moved_bytes: int = 0
    n_inspected: int = 0
    n_events: int = 0
    n_events_by_type: dict[str, int] = field(default_factory=dict)
    duration_s: float = 0.0
    time_first: datetime | None = None
    time_last: datetime | None = None
    verdicts: dict[str, int] = field(default_factory=dict)

    @property
    def rate_hz(self) -> float | None:
        """Mean rate of events in Hz; None without a duration."""
        return self.n_events / self.duration_s if self.duration_s else None

    def add(self, row: Row) -> None:
        """Add a file to the totals, without its events."""
        self.n_files += 1
        self.n_failed += row.is_failed
        self.n_verified += row.is_verified
        self.size_bytes += row.size_bytes or 0
        self.moved_bytes += row.moved_bytes
        self.verdicts[row.verdict] = self.verdicts.get(row.verdict, 0) + 1

    def add_events(self, row: Row) -> None:
        """Add the events of a file to the totals."""
        self.n_inspected += 1
        self.n_events += row.n_events or 0
        for kind, n_events in row.n_events_by_type.items():
            self.n_events_by_type[kind] = self.n_events_by_type.get(kind, 0) + n_events
        self.duration_s += row.duration_s or 0.0
        firsts = [t for t in (self.time_first, row.time_first) if t]
        lasts = [t for t in (self.time_last, row.time_last) if t]
        self.time_first, self.time_last = min(firsts, default=None), max(lasts, default=None)


def rows_of_transfers(
    transfers: Iterable[Transfer], inspections: Mapping[str, Inspection]
) -> list[Row]:
    """Return a row for each transferred file, with its contents where it was inspected.

    Parameters
    ----------
    transfers : iterable of Transfer
        The files of the night.
    inspections : mapping of str to Inspection
        Inspections by local path.
    """
    return [_row(t.path, inspections.get(t.local), t) for t in transfers]


def rows_of_inspections(inspections: Iterable[Inspection]) -> list[Row]:
    """Return a row for each inspected file."""
    return [_row(inspection.file, inspection, None) for inspection in inspections]


def _row(path: str, inspection: Inspection | None, transfer: Transfer | None) -> Row:
    name = parse_name(path)
    summary = inspection.summary if inspection else None
    error = (transfer.error if transfer else None) or (inspection.error if inspection else None)
    said = remarks(inspection.checks) if inspection else []
    if error and not any(error in one for one in said):
        said = [error, *said]
    size_bytes = transfer.size_bytes if transfer else summary.size_bytes if summary else None
    is_datacheck = summary.level == "datacheck" if summary else False
    return Row(
        path=path,
        name=path.rstrip("/").rpartition("/")[2],
        run=name.run if name else summary.run if summary else None,
        subrun=name.subrun if name else summary.subrun if summary else None,
        is_events=summary is not None and not is_datacheck and (not name or name.kind == "dl1"),
        size_bytes=size_bytes,
        proof=_proof(transfer) if transfer else "",
        moved_bytes=transfer.moved_bytes if transfer else 0,
        is_verified=transfer.verified if transfer else False,
        is_failed=bool(error),
        n_events_by_type=(summary.n_events_by_type if summary else None) or {},
        n_events=summary.n_events if summary else None,
        time_first=summary.time_first if summary else None,
        time_last=summary.time_last if summary else None,
        duration_s=summary.duration_s if summary else None,
        rate_hz=summary.rate_hz if summary else None,
        verdict=_verdict(inspection, transfer),
        remarks=tuple(said),
    )


def _verdict(inspection: Inspection | None, transfer: Transfer | None) -> str:
    if transfer is not None and transfer.error:
        return "failed"
    if inspection is not None and inspection.error:
        return "bad"
    verdict = inspection.verdict if inspection else None
    return verdict if verdict in SIGNS and verdict else "not checked"


def _proof(transfer: Transfer) -> str:
    if transfer.error:
        return ""
    if transfer.verified and transfer.checksum:
        return f"{transfer.checksum.algorithm} {transfer.checksum.value[:16]}"
    return "not verified"


def totals_by_run(rows: Iterable[Row]) -> list[RunTotals]:
    """Return the totals of each run, by run number; those of files without a run come last.

    Events are counted once: those of a merged file only where the run has no files of subruns.
    """
    found: dict[int | None, RunTotals] = {}
    rows = list(rows)
    runs_in_subruns = {row.run for row in rows if row.is_events and row.subrun is not None}
    for row in rows:
        run = found.setdefault(row.run, RunTotals(row.run))
        run.add(row)
        if row.is_events and (row.subrun is not None or row.run not in runs_in_subruns):
            run.add_events(row)
    return [found[run] for run in sorted(found, key=lambda r: (r is None, r or 0))]
