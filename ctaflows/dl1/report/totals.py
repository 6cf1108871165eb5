"""A night added up: a row a file, the sums of each run, and the one verdict. Pure."""

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
    """Return what a night is and a sentence that says so: the one verdict on it.

    Parameters
    ----------
    n_failed : int
        Files that are not in place, or damaged.
    dry_run : bool
        Was nothing to be fetched?
    gaps : Gaps
        What of the wanted files is missing or growing at the door.
    census : Completeness or None
        All of the night at the door, where all of it was wanted.
    is_open : bool
        May more files come, as a watch of the night knows?

    Returns
    -------
    str
        ``failed``, ``dry run``, ``growing``, ``incomplete``, ``open`` or ``complete``; the first
        that is true.
    str
        A sentence.
    """
    at_door = census.verdict if census else None
    if n_failed:
        return FAILED, f"Not complete: {n_failed:,} file{'s' * (n_failed != 1)} failed."
    if dry_run:
        return DRY_RUN, "Nothing was fetched: only what would be done."
    if gaps.growing or at_door == GROWING:
        return GROWING, "Not complete: the night is still growing at the door."
    if not gaps.has_dl1:
        return INCOMPLETE, "Not complete: there is no DL1 file at the door."
    if gaps.missing:
        return INCOMPLETE, "Not complete: subruns are missing at the door."
    if gaps.is_incomplete or at_door == INCOMPLETE:
        return INCOMPLETE, "Not complete at the door."
    if is_open:
        return OPEN, "Not complete yet: more files may come."
    return COMPLETE, "Complete."


#: Verdicts of a file from the best to the worst, each with a sign, since colour alone tells nobody.
SIGNS = {"not checked": "–", "ok": "✓", "warn": "!", "bad": "✗", "failed": "✗✗"}


@dataclass(frozen=True)
class Row:
    """One file.

    Attributes
    ----------
    path : str
        Where it lies.
    name : str
        The last part of the path.
    run, subrun : int or None
        Their numbers.
    is_events : bool
        Are its events to be counted? Not those that a datacheck tells again.
    size_bytes : int or None
        Its size.
    proof : str
        How it is known to be whole.
    moved_bytes : int
        Bytes of it that went over the network.
    is_verified : bool
        Does it agree with the storage's checksum?
    is_failed : bool
        Is it not in place, or damaged?
    n_events : int or None
        Events in it.
    n_events_by_type : dict of str to int
        Likewise by type, where the file has it.
    time_first, time_last : datetime or None
        Of its events.
    duration_s, rate_hz : float or None
        Of its events.
    verdict : str
        A key of `SIGNS`.
    remarks : tuple of str
        What is not good.
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
    """The files of one run, added up. Those without a run are together in one.

    Attributes
    ----------
    run : int or None
        Its number.
    n_files, n_failed, n_verified : int
        Files in all, those not in place or damaged, those that agree with the storage's checksum.
    size_bytes, moved_bytes : int
        Size of all files; bytes that went over the network.
    n_inspected : int
        DL1 files whose events are counted below: subruns, or the whole where there are none.
    n_events : int
        Events in these.
    n_events_by_type : dict of str to int
        Likewise by type, where the files tell it.
    duration_s : float
        Sum over these, in seconds.
    time_first, time_last : datetime or None
        Of the first and the last event in these.
    verdicts : dict of str to int
        Files of each verdict.
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
        """Events over `duration_s`, or None."""
        return self.n_events / self.duration_s if self.duration_s else None

    def add(self, row: Row) -> None:
        """Count one file."""
        self.n_files += 1
        self.n_failed += row.is_failed
        self.n_verified += row.is_verified
        self.size_bytes += row.size_bytes or 0
        self.moved_bytes += row.moved_bytes
        self.verdicts[row.verdict] = self.verdicts.get(row.verdict, 0) + 1

    def add_events(self, row: Row) -> None:
        """Count the events of one file."""
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
    """Return a row for each file of a night, with what is in it where that was looked at."""
    return [_row(t.path, inspections.get(t.local), t) for t in transfers]


def rows_of_inspections(inspections: Iterable[Inspection]) -> list[Row]:
    """Return a row for each file that was looked into."""
    return [_row(looked.file, looked, None) for looked in inspections]


def _row(path: str, looked: Inspection | None, transfer: Transfer | None) -> Row:
    name = parse_name(path)
    summary = looked.summary if looked else None
    error = (transfer.error if transfer else None) or (looked.error if looked else None)
    said = remarks(looked.checks) if looked else []
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
        verdict=_verdict(looked, transfer),
        remarks=tuple(said),
    )


def _verdict(looked: Inspection | None, transfer: Transfer | None) -> str:
    if transfer is not None and transfer.error:
        return "failed"
    if looked is not None and looked.error:
        return "bad"
    verdict = looked.verdict if looked else None
    return verdict if verdict in SIGNS and verdict else "not checked"


def _proof(transfer: Transfer) -> str:
    if transfer.error:
        return ""
    if transfer.verified and transfer.checksum:
        return f"{transfer.checksum.algorithm} {transfer.checksum.value[:16]}"
    return "not verified"


def totals_by_run(rows: Iterable[Row]) -> list[RunTotals]:
    """Return the sums over the files of each run, in order; files without a run come last."""
    found: dict[int | None, RunTotals] = {}
    rows = list(rows)
    in_parts = {row.run for row in rows if row.is_events and row.subrun is not None}
    for row in rows:
        run = found.setdefault(row.run, RunTotals(row.run))
        run.add(row)
        if row.is_events and (row.subrun is not None or row.run not in in_parts):
            run.add_events(row)
    return [found[run] for run in sorted(found, key=lambda r: (r is None, r or 0))]
