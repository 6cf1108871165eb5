"""Texts and figures of a night's reports: headline, key figures, lists of problems. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctaflows.dl1.content.times import span_text
from ctaflows.dl1.night_completeness import missing
from ctaflows.dl1.night_snapshots import COMPLETE
from ctaflows.dl1.report.night_report import NightReport
from ctaflows.dl1.report.totals import DRY_RUN, FAILED, SIGNS, totals_by_run
from ctaflows.text import human_bytes, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ctaflows.dl1.night_completeness import Completeness
    from ctaflows.dl1.quality.checks import Inspection
    from ctaflows.dl1.report.totals import Row

_WORDS = {"ok": "good", "warn": "with warnings", "bad": "bad", "failed": "failed"}
_WORDS |= {"not checked": "not checked"}


def headline(night: NightReport | Iterable[Inspection], rows: list[Row]) -> tuple[str, str]:
    """Return the headline of a report: a verdict, which is a key of `SIGNS`, and a sentence.

    Parameters
    ----------
    night : NightReport or iterable of Inspection
        A report of fetch-dl1, or inspections of some files.
    rows : list of Row
        A row for each file.
    """
    counts = tally_of(rows)
    files = ", ".join(f"{counts[v]:,} {_WORDS[v]}" for v in reversed(SIGNS) if counts.get(v))
    worst = "bad" if counts.get("bad") else "warn" if counts.get("warn") else "ok"
    if not isinstance(night, NightReport):
        return worst, f"{_count(len(rows), 'file')}: {files or 'none'}."
    if night.state == DRY_RUN:
        return "not checked", night.sentence
    least = {FAILED: "bad", COMPLETE: "ok"}.get(night.state, "warn")
    return max(worst, least, key=list(SIGNS).index), f"{night.sentence} Files: {files}."


def tally_of(rows: Iterable[Row]) -> dict[str, int]:
    """Return the number of files by verdict."""
    found: dict[str, int] = {}
    for row in rows:
        found[row.verdict] = found.get(row.verdict, 0) + 1
    return found


def figures_of(night: NightReport | Iterable[Inspection], rows: list[Row]) -> list[tuple[str, str]]:
    """Return the key figures of a report, each with its label, see `headline`."""
    runs = totals_by_run(rows)
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
            ("Transferred", human_bytes(night.moved_bytes) if night.moved_bytes else "nothing"),
            ("Remote path", night.path),
            ("Local path", night.dest),
            ("Manifest", night.manifest),
        ]
    return found


def lists_of(night: NightReport | Iterable[Inspection]) -> list[tuple[str, list[str]]]:
    """Return the problems of a night as headings, each with its lines; none for single files."""
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
    """Return headings of problems, each with its lines, which may be none."""
    return [
        ("Missing at the door", missing(census)),
        ("Still growing", list(census.growing)),
        ("Empty files", list(census.empty)),
        ("Data without a datacheck", list(census.data_without_datacheck)),
        ("Datacheck without data", list(census.datacheck_without_data)),
        ("Unusual sizes", [
            f"{o.path}: {human_bytes(o.size_bytes)}, the median is {human_bytes(o.median_bytes)}"
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
    """Return a line with the night's verdict and numbers of runs, subruns and files."""
    return (
        f"{census.verdict}: {len(census.runs)} runs, {census.n_subruns} subruns, "
        f"{census.n_files} files, {human_bytes(census.size_bytes)}"
    )


def since(census: Completeness) -> str:
    """Return a line about the changes since the last look; empty at the first one."""
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
