"""The report of a fetched night: one row per file, and a verdict."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ctaflows.dl1.names import parse_name
from ctaflows.dl1.night import Gaps, home, night_name, versions_used
from ctaflows.dl1.night_completeness import missing, versions_text
from ctaflows.dl1.night_snapshots import COMPLETE, GROWING, INCOMPLETE
from ctaflows.dl1.report.totals import DRY_RUN, FAILED, OPEN, rows_of_transfers, verdict_of_night
from ctaflows.errors import printable
from ctaflows.text import human_bytes, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

    from ctaflows.dl1.night_completeness import Completeness
    from ctaflows.dl1.quality.checks import Inspection
    from ctaflows.dl1.report.totals import Row
    from ctaflows.model import Transfer


#: A terminal with fewer columns gets a table with fewer.
_WIDE = 112
_STATES = {
    FAILED: "not complete",
    GROWING: "still growing at the door",
    INCOMPLETE: "not complete at the door",
    OPEN: "not complete yet",
    COMPLETE: "complete",
}
_COLOURS = {FAILED: "red", COMPLETE: "green", DRY_RUN: "green"}
#: Of files with checks that are not ok this many are listed, the rest is counted.
_MOST_DOUBTFUL = 10


@dataclass(frozen=True)
class NightReport:
    """The result of the flow fetch-dl1.

    Attributes
    ----------
    date : str
        Date of the evening, ``YYYYMMDD``.
    version : str or None
        Version of the data; of several, the newest with files.
    path : str
        Remote path of the night.
    dest : str
        Local folder of the night.
    manifest : str
        Path of the manifest with the checksum of each file.
    transfers : sequence of Transfer
        One for each file, in the order of run and subrun.
    inspections : mapping of str to Inspection
        Inspections by local path; empty where no file was inspected.
    gaps : Gaps
        Files that are missing or still growing on the storage.
    dry_run : bool
        Whether nothing was fetched; the transfers' notes then state what would be done.
    census : Completeness or None
        Completeness of the whole night on the storage, where it was assessed.
    page : str or None
        Path of the HTML page with plots, where one was written.
    versions : mapping of str to str
        As in `Night`: empty unless there are files of several versions.
    is_open : bool
        Whether more files may come, as a watch of the night knows.
    """

    date: str
    version: str | None
    path: str
    dest: str
    manifest: str
    transfers: Sequence[Transfer] = ()
    inspections: Mapping[str, Inspection] = field(default_factory=dict)
    gaps: Gaps = field(default_factory=Gaps)
    dry_run: bool = False
    census: Completeness | None = None
    page: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    is_open: bool = False

    @property
    def name(self) -> str:
        """The date, and the versions of which there are files."""
        return night_name(self.date, self.versions_used)

    @property
    def versions_used(self) -> tuple[str, ...]:
        """The versions of which there are files, oldest first."""
        return versions_used(self.version, self.versions)

    @property
    def versions_text(self) -> str:
        """The runs of each version, as text; empty unless there are several versions."""
        locations = ((home(t.path, self.versions), parse_name(t.path)) for t in self.transfers)
        return versions_text(
            (location[0], name.run) for location, name in locations if location and name
        )

    def having(
        self, transfers: Iterable[Transfer], inspections: Iterable[Inspection] = ()
    ) -> NightReport:
        """Return the report with these transfers and inspections."""
        by_file = {inspection.file: inspection for inspection in inspections}
        return replace(self, transfers=tuple(transfers), inspections=by_file)

    @property
    def failed(self) -> tuple[str, ...]:
        """A line for each file that failed or could not be read: its path and the error."""
        lines = []
        for transfer in self.transfers:
            inspection = self.inspections.get(transfer.local)
            error = transfer.error or (inspection.error if inspection else None)
            if error:
                lines.append(f"{transfer.path}: {error}")
        return tuple(lines)

    @property
    def doubtful(self) -> list[tuple[str, str]]:
        """Readable files whose checks are ``bad`` or ``warn``: the verdict, and name and reasons.

        The worst come first.
        """
        from ctaflows.dl1.quality.checks import remarks

        found = []
        for transfer in self.transfers:
            inspection = self.inspections.get(transfer.local)
            if inspection and inspection.error is None and inspection.verdict in ("bad", "warn"):
                why = "; ".join(r.partition(": ")[2] for r in remarks(inspection.checks))
                found.append((inspection.verdict, f"{transfer.path.rpartition('/')[2]}: {why}"))
        return sorted(found, key=lambda f: f[0])

    @property
    def moved_bytes(self) -> int:
        """Bytes transferred over the network."""
        return sum(t.moved_bytes for t in self.transfers)

    def records(self) -> list[dict[str, Any]]:
        """Return a JSON-ready record for each file: its transfer, and its contents."""
        return [_record(t, self.inspections.get(t.local)) for t in self.transfers]

    # not a Record: files combine transfer and inspection, and the keys of the gaps are merged in
    def to_dict(self) -> dict[str, Any]:
        """Return the report ready for JSON."""
        return {
            "date": self.date,
            "version": self.version,
            "versions_used": list(self.versions_used),
            "path": self.path,
            "dest": self.dest,
            "manifest": self.manifest,
            "dry_run": self.dry_run,
            "verdict": self.state,
            **self.gaps.to_dict(),
            "census": self.census.to_dict() if self.census else None,
            "files": self.records(),
        }

    @property
    def state(self) -> str:
        """``failed``, ``dry run``, ``growing``, ``incomplete``, ``open`` or ``complete``."""
        return self._judged()[0]

    @property
    def sentence(self) -> str:
        """A sentence that states the verdict."""
        return self._judged()[1]

    def _judged(self) -> tuple[str, str]:
        return verdict_of_night(
            n_failed=len(self.failed), dry_run=self.dry_run, gaps=self.gaps, census=self.census,
            is_open=self.is_open,
        )  # fmt: skip

    def rows(self) -> list[Row]:
        """Return a row for each file."""
        return rows_of_transfers(self.transfers, self.inspections)

    def verdict(self) -> str:
        """Return a line with the state and the numbers of files."""
        return self.counts() if self.dry_run else f"{_STATES[self.state]}: {self.counts()}"

    def counts(self) -> str:
        """Return a line with the numbers of files in place, verified and failed, or to fetch."""
        n_files = len(self.transfers)
        if self.dry_run:
            n_skip = sum(t.skipped for t in self.transfers)
            size = sum(t.size_bytes or 0 for t in self.transfers if not t.skipped)
            n_fetch = n_files - n_skip
            return f"dry run: {n_fetch} files to fetch ({human_bytes(size)}), {n_skip} in place"
        n_failed = len(self.failed)
        n_verified = sum(t.verified for t in self.transfers)
        moved = human_bytes(self.moved_bytes) if self.moved_bytes else "nothing"
        failed = f", {n_failed} failed" if n_failed else ""
        in_place = f"{n_files - n_failed} of {n_files} files in place"
        return f"{in_place}, {n_verified} verified, {moved} moved{failed}"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        yield self._table(is_narrow=options.max_width < _WIDE)
        yield Text(self.verdict(), style=f"bold {_COLOURS.get(self.state, 'yellow')}")
        for line in self.failed:
            yield Text(f"failed   {line}", style="red")
        doubtful = self.doubtful
        for verdict, line in doubtful[:_MOST_DOUBTFUL]:
            yield Text(f"{verdict:<8} {line}", style="red" if verdict == "bad" else "yellow")
        if len(doubtful) > _MOST_DOUBTFUL:
            yield Text(f"         and {len(doubtful) - _MOST_DOUBTFUL} more", style="yellow")
        if said := self.versions_text:
            yield Text(f"versions {said}")
        gaps = self.gaps
        for word, lines in (
            ("missing", missing(gaps)), ("unknown", gaps.unknown), ("growing", gaps.growing),
        ):  # fmt: skip
            if lines:
                yield Text(f"{word:<8} {shortened(lines)}", style="yellow")
        if self.census is not None:
            yield Text(f"at door  {self.census.verdict}: {self.census.n_subruns} subruns")
        if not self.dry_run:
            yield Text(f"manifest {self.manifest}")
        if self.page:
            yield Text(f"page     {self.page}")

    def _table(self, *, is_narrow: bool) -> Table:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        kinds = [] if is_narrow else self._event_types()
        title = f"DL1 night {self.name}"
        table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
        table.add_column("file", overflow="fold")
        for heading in ("run", "subrun"):
            table.add_column(heading, justify="right", min_width=6)
        table.add_column("size" if is_narrow else "bytes", justify="right", no_wrap=is_narrow)
        proof = "verified" if is_narrow else "verified by"
        table.add_column("plan" if self.dry_run else proof, overflow="fold")
        if self.inspections:
            for heading in kinds or ["events"]:
                table.add_column(heading, justify="right", overflow="fold")
            for heading in ("t / s", "Hz") if is_narrow else ("duration / s", "rate / Hz"):
                table.add_column(heading, justify="right", overflow="fold")
        for transfer in self.transfers:
            # as Text, since a name may contain rich markup
            table.add_row(*map(Text, self._cells(transfer, kinds, is_narrow=is_narrow)))
        return table

    def _cells(self, transfer: Transfer, kinds: list[str], *, is_narrow: bool) -> list[str]:
        name = parse_name(transfer.path)
        size = transfer.size_bytes
        shown = f"{size:,}" if size is not None and not is_narrow else human_bytes(size or 0)
        cells = [
            name.kind if name else printable(transfer.path.rpartition("/")[2]),
            f"{name.run}" if name else "",
            f"{name.subrun:04d}" if name and name.subrun is not None else "",
            "" if size is None else shown,
            transfer.note or "" if self.dry_run else _proof(transfer, is_narrow=is_narrow),
        ]
        if not self.inspections:
            return cells
        inspection = self.inspections.get(transfer.local)
        summary = inspection.summary if inspection else None
        counts = (summary.n_events_by_type if summary else None) or {}
        n_events = summary.n_events if summary else None
        total = "" if n_events is None else f"{n_events:,}"
        cells += [f"{counts[k]:,}" if k in counts else "" for k in kinds] or [total]
        duration = summary.duration_s if summary else None
        rate = summary.rate_hz if summary else None
        return [
            *cells,
            "" if duration is None else f"{duration:.3f}",
            "" if rate is None else f"{rate:.1f}",
        ]

    def _event_types(self) -> list[str]:
        found: dict[str, None] = {}
        for inspection in self.inspections.values():
            for kind in (inspection.summary.n_events_by_type if inspection.summary else None) or {}:
                found[kind] = None
        return list(found)


def _proof(transfer: Transfer, *, is_narrow: bool) -> str:
    if transfer.error:
        return "failed"
    if transfer.verified and transfer.checksum:
        if is_narrow:
            return transfer.checksum.algorithm
        return f"{transfer.checksum.algorithm} {transfer.checksum.value[:16]}"
    return "unverified"


def _record(transfer: Transfer, inspection: Inspection | None) -> dict[str, Any]:
    from ctaflows.dl1.quality.checks import remarks

    name = parse_name(transfer.path)
    record = transfer.to_dict()
    record["run"] = name.run if name else None
    record["subrun"] = name.subrun if name else None
    if inspection is not None:
        summary = inspection.summary.to_dict() if inspection.summary else {}
        for key in (
            "layout",
            "level",
            "n_events",
            "n_events_by_type",
            "time_first",
            "time_last",
            "duration_s",
            "rate_hz",
        ):
            record[key] = summary.get(key)
        record["verdict"] = inspection.verdict
        record["remarks"] = remarks(inspection.checks)
        record["error"] = record["error"] or inspection.error
    return record
