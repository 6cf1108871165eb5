"""What a night's page says in words: the verdict, a row a file, a row a run. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ctaflows.dl1.content.times import span_text
from ctaflows.dl1.names import parse_name
from ctaflows.dl1.night_completeness import missing
from ctaflows.dl1.quality.checks import remarks
from ctaflows.dl1.report.night_report import NightReport
from ctaflows.text import human_bytes, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from ctaflows.dl1.night_completeness import Completeness
    from ctaflows.dl1.quality.checks import Inspection
    from ctaflows.model import Transfer

#: Verdicts of a file from the best to the worst, each with a sign, since colour alone tells nobody.
SIGNS = {"not checked": "–", "ok": "✓", "warn": "!", "bad": "✗", "failed": "✗✗"}
_WORDS = {"ok": "good", "warn": "to look at", "bad": "bad", "failed": "failed"}
_WORDS |= {"not checked": "not checked"}


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
    n_events : int or None
        Events in it.
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
    n_events: int | None
    time_first: datetime | None
    time_last: datetime | None
    duration_s: float | None
    rate_hz: float | None
    verdict: str
    remarks: tuple[str, ...]


@dataclass
class RunRow:
    """The files of one run, added up. Those without a run are together in one.

    Attributes
    ----------
    run : int or None
        Its number.
    n_files, size_bytes : int
        All its files.
    n_events, duration_s : int, float
        Of its subruns, or of the whole where there are none.
    time_first, time_last : datetime or None
        Of its events.
    verdicts : dict of str to int
        Files of each verdict.
    """

    run: int | None
    n_files: int = 0
    size_bytes: int = 0
    n_events: int = 0
    duration_s: float = 0.0
    time_first: datetime | None = None
    time_last: datetime | None = None
    verdicts: dict[str, int] = field(default_factory=dict)

    @property
    def rate_hz(self) -> float | None:
        """Events over `duration_s`, or None."""
        return self.n_events / self.duration_s if self.duration_s else None


def rows_of(night: NightReport | Iterable[Inspection]) -> list[Row]:
    """Give a row a file, in the given order."""
    if isinstance(night, NightReport):
        return [_row(t.path, night.inspections.get(t.local), t) for t in night.transfers]
    return [_row(looked.file, looked, None) for looked in night]


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


def runs_of(rows: Iterable[Row]) -> list[RunRow]:
    """Add up the rows of each run."""
    found: dict[int | None, RunRow] = {}
    rows = list(rows)
    in_parts = {row.run for row in rows if row.is_events and row.subrun is not None}
    for row in rows:
        run = found.setdefault(row.run, RunRow(row.run))
        run.n_files += 1
        run.size_bytes += row.size_bytes or 0
        run.verdicts[row.verdict] = run.verdicts.get(row.verdict, 0) + 1
        if row.is_events and (row.subrun is not None or row.run not in in_parts):
            run.n_events += row.n_events or 0
            run.duration_s += row.duration_s or 0.0
            firsts = [t for t in (run.time_first, row.time_first) if t]
            lasts = [t for t in (run.time_last, row.time_last) if t]
            run.time_first, run.time_last = min(firsts, default=None), max(lasts, default=None)
    return [found[run] for run in sorted(found, key=lambda r: (r is None, r or 0))]


def headline(night: NightReport | Iterable[Inspection], rows: list[Row]) -> tuple[str, str]:
    """Say what to think of the night: the verdict of `SIGNS`, and a sentence."""
    tally = tally_of(rows)
    files = ", ".join(f"{tally[v]:,} {_WORDS[v]}" for v in reversed(SIGNS) if tally.get(v))
    worst = "bad" if tally.get("bad") else "warn" if tally.get("warn") else "ok"
    if not isinstance(night, NightReport):
        return worst, f"{_count(len(rows), 'file')}: {files or 'none'}."
    if night.failed:
        return "bad", f"Not complete: {_count(len(night.failed), 'file')} failed. Files: {files}."
    if night.dry_run:
        return "not checked", "Nothing was fetched: only what would be done."
    gaps, census = night.gaps, night.census
    if gaps.growing or (census and census.verdict == "growing"):
        return max(worst, "warn", key=list(SIGNS).index), f"Still growing. Files: {files}."
    if gaps.is_incomplete or (census and census.verdict == "incomplete"):
        return max(worst, "warn", key=list(SIGNS).index), f"Not complete. Files: {files}."
    return worst, f"Complete. Files: {files}."


def tally_of(rows: Iterable[Row]) -> dict[str, int]:
    """Count the files of each verdict."""
    found: dict[str, int] = {}
    for row in rows:
        found[row.verdict] = found.get(row.verdict, 0) + 1
    return found


def figures_of(night: NightReport | Iterable[Inspection], rows: list[Row]) -> list[tuple[str, str]]:
    """Give the night's figures, each with its name."""
    runs = runs_of(rows)
    n_bytes = sum(row.size_bytes or 0 for row in rows)
    found = [("Files", f"{len(rows):,}, {human_bytes(n_bytes)}")]
    numbers = [f"{run.run}" for run in runs if run.run is not None]
    if numbers:
        found.append(("Runs", f"{len(numbers):,}: {shortened(numbers)}"))
    if n_events := sum(run.n_events for run in runs):
        found.append(("Events", f"{n_events:,}"))
    first = min((r.time_first for r in runs if r.time_first), default=None)
    last = max((r.time_last for r in runs if r.time_last), default=None)
    if first and last:
        found.append(("Time", span_text(first, last)))
    duration_s = sum(run.duration_s for run in runs)
    if duration_s:
        found.append(("Duration", f"{duration_s:,.1f} s in all files"))
    if isinstance(night, NightReport):
        if used := night.versions_text:
            found.append(("Versions", used))
        found += [
            ("Moved this time", human_bytes(night.moved_bytes) if night.moved_bytes else "nothing"),
            ("At the door", night.path),
            ("Here", night.dest),
            ("Proof of each file", night.manifest),
        ]
    return found


def lists_of(night: NightReport | Iterable[Inspection]) -> list[tuple[str, list[str]]]:
    """Give what is amiss with the night as a whole: headings, each with its lines."""
    if not isinstance(night, NightReport):
        return []
    found = {
        "Failed": list(night.failed),
        "Missing at the door": missing(night.gaps),
        "Still growing": list(night.gaps.growing),
    }
    for title, lines in lacks(night.census) if night.census else ():
        found[title] = _united(found.get(title, ()), lines)
    return [(title, lines) for title, lines in found.items() if lines]


def _united(some: Iterable[str], more: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*some, *more]))


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def lacks(census: Completeness) -> list[tuple[str, list[str]]]:
    """Give headings, each with its lines, which may be none."""
    return [
        ("Missing at the door", missing(census)),
        ("Still growing", list(census.growing)),
        ("Empty files", list(census.empty)),
        ("Data without a datacheck", list(census.data_without_datacheck)),
        ("Datacheck without data", list(census.datacheck_without_data)),
        ("Sizes out of line", [
            f"{o.path}: {human_bytes(o.size_bytes)}, usual are {human_bytes(o.median_bytes)}"
            for o in census.odd_sizes
        ]),
        ("More than once", [
            f"{d.kind} of run {d.run}: {d.n_files} file{'s' * (d.n_files != 1)} "
            f"in {', '.join(d.places)}"
            for d in census.doubles
        ]),
        ("Not described by the door", list(census.unknown)),
    ]  # fmt: skip


def counted(census: Completeness) -> str:
    """Say in a line how the night stands."""
    return (
        f"{census.verdict}: {len(census.runs)} runs, {census.n_subruns} subruns, "
        f"{census.n_files} files, {human_bytes(census.size_bytes)}"
    )


def since(census: Completeness) -> str:
    """Say what has changed since the last look; empty at the first one."""
    changes = census.changes
    if changes is None:
        return ""
    when = f"{changes.since:%Y-%m-%d %H:%M} UTC, {changes.verdict}"
    counts = [
        f"{len(paths)} {word}"
        for word, paths in (
            ("new", changes.new),
            ("changed", changes.changed),
            ("gone", changes.gone),
        )
        if paths
    ]
    return f"{when}; " + (
        f"since then {', '.join(counts)}" if counts else "nothing has changed since"
    )
