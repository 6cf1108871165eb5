"""Reports of a night in Markdown: the verdict, key figures, a row per run, problems. Pure."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from ctaflows.dl1.content.times import span_text
from ctaflows.dl1.night_completeness import missing, versions_text
from ctaflows.dl1.report.tables import counted, lacks, since
from ctaflows.dl1.report.totals import totals_by_run
from ctaflows.text import human_bytes, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctaflows.dl1.night_completeness import Completeness
    from ctaflows.dl1.report.night_report import NightReport
    from ctaflows.dl1.report.totals import RunTotals
    from ctaflows.model import Entry, Transfer

#: Longer lists of problems are cut here; manifest and JSON output have all files.
_MOST = 20


def digest(report: NightReport) -> str:
    """Return a page on a fetched night, in Markdown."""
    runs = [run for run in totals_by_run(report.rows()) if run.run is not None]
    parts = [
        f"# Night {report.name}",
        f"**{report.sentence}** {_sentence(report.counts())}.",
        _figures(report, runs),
        _runs(runs),
        _problems("Failed", report.failed),
        _problems("Missing at the door", missing(report.gaps)),
        _problems("Still growing at the door", report.gaps.growing),
    ]
    if report.census:
        # the first two, missing and growing, are those of the report above
        parts += [_problems(title, lines) for title, lines in lacks(report.census)[2:]]
    return "\n\n".join(part for part in parts if part) + "\n"


def census_digest(census: Completeness) -> str:
    """Return a page on the completeness of a night on the storage, in Markdown."""
    head = ("run", "subruns", "expected", "missing", "growing", "datacheck", "size")
    rows = [
        (
            f"{run.run}",
            f"{run.n_subruns}",
            "" if run.n_expected is None else f"{run.n_expected}",
            f"{len(run.missing) or ''}",
            f"{len(run.growing) or ''}",
            f"{run.n_datacheck}",
            human_bytes(run.size_bytes),
        )
        for run in census.runs
    ]
    changes = since(census)
    used = versions_text((run.version, run.run) for run in census.runs)
    parts = [
        f"# Night {census.name}",
        f"**{_sentence(counted(census))}.**",
        f"Versions: {used}." if used else "",
        f"Last look: {changes}." if changes else "",
        _table(head, rows, is_right=True) if rows else "",
        *(_problems(title, lines) for title, lines in lacks(census)),
    ]
    if census.changes:
        parts += [
            _problems("New since the last look", census.changes.new),
            _problems("Changed since the last look", census.changes.changed),
            _problems("Gone since the last look", census.changes.gone),
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def outlook(report: NightReport, in_place: Sequence[Transfer], rest: Sequence[Entry]) -> str:
    """Return a line about a fetch that begins: the files to fetch, and those the storage lacks.

    Parameters
    ----------
    report : NightReport
        The report so far.
    in_place : sequence of Transfer
        Files that need not be fetched.
    rest : sequence of Entry
        Files to fetch.
    """
    n_bytes = sum(entry.size_bytes or 0 for entry in rest)
    words = f"Night {report.name}"
    words += f": {len(rest):,} files to fetch ({human_bytes(n_bytes)}), {len(in_place):,} in place"
    if lines := missing(report.gaps):
        words += f"; missing at the door: {shortened(lines)}"
    if report.gaps.unknown:
        words += f"; not described by the door: {shortened(report.gaps.unknown, 4)}"
    if report.gaps.growing:
        words += f"; still growing: {shortened(report.gaps.growing)}"
    return words + "."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _figures(report: NightReport, runs: list[RunTotals]) -> str:
    size_bytes = sum(t.size_bytes or 0 for t in report.transfers)
    rows: list[tuple[str, ...]] = [
        ("Files", f"{len(report.transfers):,}, {human_bytes(size_bytes)}"),
        ("Transferred", human_bytes(report.moved_bytes) if report.moved_bytes else "nothing"),
        ("Runs", shortened((f"{r.run}" for r in runs), 20)),
    ]
    first = min((r.time_first for r in runs if r.time_first), default=None)
    last = max((r.time_last for r in runs if r.time_last), default=None)
    if first and last:
        rows.append(("Events from, to", span_text(first, last)))
    if checked := _checked(report):
        rows.append(("Checks", checked))
    if used := report.versions_text:
        rows.append(("Versions", used))
    if report.census:
        rows.append(("The night at the door", counted(report.census)))
    rows += [
        ("Remote path", _code(report.path)),
        ("Local path", _code(report.dest)),
        ("Manifest", _code(report.manifest)),
    ]
    return _table(rows[0], rows[1:])


def _checked(report: NightReport) -> str:
    """Return the numbers of files by verdict of their checks, the worst first."""
    counts = Counter(one.verdict for one in report.inspections.values() if one.verdict)
    return ", ".join(
        f"{counts[word]:,} {word}" for word in ("bad", "warn", "ok", "absent") if counts[word]
    )


def _runs(runs: list[RunTotals]) -> str:
    if not runs:
        return ""
    kinds = list(dict.fromkeys(kind for run in runs for kind in run.n_events_by_type))
    is_inspected = any(run.n_inspected for run in runs)
    is_failed = any(run.n_failed for run in runs)
    is_verified = all(run.n_verified == run.n_files for run in runs)
    head = ["run", "files"]
    head += [] if is_verified else ["verified"]
    head += ["failed"] if is_failed else []
    head += ["size", *kinds, "events", "seconds", "Hz"] if is_inspected else ["size"]
    rows = []
    for run in runs:
        row = [f"{run.run}", f"{run.n_files:,}"]
        row += [] if is_verified else [f"{run.n_verified:,}"]
        row += [f"**{run.n_failed:,}**" if run.n_failed else ""] if is_failed else []
        row.append(human_bytes(run.size_bytes))
        if is_inspected:
            row += [f"{run.n_events_by_type.get(kind, 0):,}" for kind in kinds]
            rate = run.rate_hz
            row += [
                f"{run.n_events:,}" if run.n_inspected else "",
                f"{run.duration_s:,.1f}" if run.n_inspected else "",
                "" if rate is None else f"{rate:,.1f}",
            ]
        rows.append(tuple(row))
    return "## Runs\n\n" + _table(tuple(head), rows, is_right=True)


def _problems(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    shown = [f"- {_escaped(line)}" for line in lines[:_MOST]]
    if len(lines) > _MOST:
        shown.append(f"- and {len(lines) - _MOST:,} more")
    return f"## {title}\n\n" + "\n".join(shown)


def _table(
    head: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, is_right: bool = False
) -> str:
    rule = "---:" if is_right else "---"
    lines = [head, (rule,) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _code(text: str) -> str:
    return "`" + text.replace("`", "'").replace("|", "\\|") + "`"


def _escaped(text: str) -> str:
    """Escape Markdown and HTML in names and messages from the server."""
    text = re.sub(r"([\\`*_\[\]|#])", r"\\\1", text)
    return text.replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")
