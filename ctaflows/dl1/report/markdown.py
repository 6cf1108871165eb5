"""A night on one page of Markdown: the verdict, the figures, a line a run, what is amiss. Pure."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ctaflows.dl1.content.times import span_text
from ctaflows.dl1.names import parse_name
from ctaflows.dl1.night_completeness import missing, versions_text
from ctaflows.dl1.report.tables import counted, lacks, since
from ctaflows.text import human_bytes, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ctaflows.dl1.content.summary import DL1Summary
    from ctaflows.dl1.night_completeness import Completeness
    from ctaflows.dl1.report.night_report import NightReport
    from ctaflows.model import Entry, Transfer

#: More lines than this of what is amiss help nobody; the table and the manifest have them all.
_MOST = 20


@dataclass
class RunTally:
    """The files of one run, added up.

    Attributes
    ----------
    run : int
        Its number.
    n_files, n_failed, n_verified : int
        Files in all, those not in place or damaged, those that agree with the storage's checksum.
    size_bytes, moved_bytes : int
        Size of all files; bytes that went over the network.
    n_inspected : int
        DL1 files whose events are counted below.
    n_events : int
        Events in these.
    n_events_by_type : dict of str to int
        Likewise by type, where the files tell it.
    duration_s : float
        Sum over the subruns, in seconds.
    time_first, time_last : datetime or None
        Of the first and the last event.
    """

    run: int
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

    @property
    def rate_hz(self) -> float | None:
        """Events over `duration_s`, or None."""
        return self.n_events / self.duration_s if self.duration_s else None

    def add(self, transfer: Transfer, error: str | None) -> None:
        """Count one file."""
        self.n_files += 1
        self.n_failed += error is not None
        self.n_verified += transfer.verified
        self.size_bytes += transfer.size_bytes or 0
        self.moved_bytes += transfer.moved_bytes

    def look(self, summary: DL1Summary) -> None:
        """Count the events of one DL1 file."""
        self.n_inspected += 1
        self.n_events += summary.n_events or 0
        for kind, n_events in (summary.n_events_by_type or {}).items():
            self.n_events_by_type[kind] = self.n_events_by_type.get(kind, 0) + n_events
        self.duration_s += summary.duration_s or 0.0
        times = [t for t in (self.time_first, summary.time_first) if t]
        self.time_first = min(times, default=None)
        times = [t for t in (self.time_last, summary.time_last) if t]
        self.time_last = max(times, default=None)


def tally(report: NightReport) -> list[RunTally]:
    """Add up the files of each run; events are those of DL1 files, not of their datacheck again."""
    found: dict[int, RunTally] = {}
    for transfer in report.transfers:
        name = parse_name(transfer.path)
        if name is None:
            continue
        looked = report.inspections.get(transfer.local)
        run = found.setdefault(name.run, RunTally(name.run))
        run.add(transfer, transfer.error or (looked.error if looked else None))
        if looked is not None and looked.summary is not None and name.kind == "dl1":
            run.look(looked.summary)
    return [found[run] for run in sorted(found)]


def digest(report: NightReport) -> str:
    """Write the page."""
    runs = tally(report)
    parts = [
        f"# Night {report.name}",
        f"**{_verdict(report)}** {_sentence(report.verdict())}.",
        _figures(report, runs),
        _runs(runs),
        _amiss("Failed", report.failed),
        _amiss("Missing at the door", missing(report.gaps)),
        _amiss("Still growing at the door", report.gaps.growing),
    ]
    if report.census:
        # the first two are those of what was wanted
        parts += [_amiss(title, lines) for title, lines in lacks(report.census)[2:]]
    return "\n\n".join(part for part in parts if part) + "\n"


def census_digest(census: Completeness) -> str:
    """Write a page on a night that was looked at, and not fetched."""
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
        *(_amiss(title, lines) for title, lines in lacks(census)),
    ]
    if census.changes:
        parts += [
            _amiss("New since the last look", census.changes.new),
            _amiss("Changed since the last look", census.changes.changed),
            _amiss("Gone since the last look", census.changes.gone),
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def outlook(report: NightReport, in_place: Sequence[Transfer], rest: Sequence[Entry]) -> str:
    """Say in a line what is to be done, and what the door lacks."""
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


def _verdict(report: NightReport) -> str:
    if report.failed:
        return "Not complete: files failed."
    if report.gaps.growing:
        return "In place, but the night is still growing."
    if not report.gaps.has_dl1:
        return "In place, but there is no DL1 file at the door."
    if report.gaps.missing:
        return "In place, but subruns are missing at the door."
    if report.gaps.is_incomplete:
        return "In place, but the night is not complete at the door."
    return "Complete."


def _figures(report: NightReport, runs: list[RunTally]) -> str:
    size_bytes = sum(t.size_bytes or 0 for t in report.transfers)
    rows: list[tuple[str, ...]] = [
        ("Files", f"{len(report.transfers):,}, {human_bytes(size_bytes)}"),
        ("Moved this time", human_bytes(report.moved_bytes) if report.moved_bytes else "nothing"),
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
        ("At the door", _code(report.path)),
        ("Here", _code(report.dest)),
        ("Proof of each file", _code(report.manifest)),
    ]
    return _table(rows[0], rows[1:])


def _checked(report: NightReport) -> str:
    """Count the files by what the checks say of them, the worst first."""
    counts = Counter(looked.verdict for looked in report.inspections.values() if looked.verdict)
    return ", ".join(
        f"{counts[word]:,} {word}" for word in ("bad", "warn", "ok", "absent") if counts[word]
    )


def _runs(runs: list[RunTally]) -> str:
    if not runs:
        return ""
    kinds = list(dict.fromkeys(kind for run in runs for kind in run.n_events_by_type))
    is_inspected = any(run.n_inspected for run in runs)
    is_failed = any(run.n_failed for run in runs)
    is_proven = all(run.n_verified == run.n_files for run in runs)
    head = ["run", "files"]
    head += [] if is_proven else ["verified"]
    head += ["failed"] if is_failed else []
    head += ["size", *kinds, "events", "seconds", "Hz"] if is_inspected else ["size"]
    rows = []
    for run in runs:
        row = [f"{run.run}", f"{run.n_files:,}"]
        row += [] if is_proven else [f"{run.n_verified:,}"]
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


def _amiss(title: str, lines: Sequence[str]) -> str:
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
    """Let no name or message of a server be taken for Markdown or HTML."""
    text = re.sub(r"([\\`*_\[\]|#])", r"\\\1", text)
    return text.replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")
