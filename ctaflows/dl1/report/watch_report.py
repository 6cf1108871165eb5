"""The report of a watch of a night: the files that arrived, and the state of the night."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from ctaflows.dl1.night_completeness import missing
from ctaflows.dl1.report.inspection_cache import CachedInspection
from ctaflows.dl1.report.night_report import NightReport
from ctaflows.text import shortened
from ctaflows.tracking.opaque import OpaqueSequence

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from rich.console import Console, ConsoleOptions, RenderResult

    from ctaflows.dl1.night import Gaps
    from ctaflows.dl1.quality.checks import Inspection
    from ctaflows.model import Transfer


@dataclass(frozen=True)
class WatchReport:
    """The result of the flow watch-night.

    Attributes
    ----------
    night : NightReport
        The files that arrived in this flow run, and the files that the night lacks on the storage.
        Its path is empty as long as the night is not on the storage.
    n_looks : int
        Number of times the night was listed in this flow run.
    n_done : int
        Number of files of the night that have arrived, in this flow run and earlier ones.
    is_complete : bool
        Whether no more files are expected.
    """

    night: NightReport
    n_looks: int = 0
    n_done: int = 0
    is_complete: bool = False

    @classmethod
    def begun(cls, date: str, folder: Path, manifest: Path) -> Self:
        """Return the report of a watch that has not listed the night yet.

        Parameters
        ----------
        date : str
            Date of the night, ``YYYYMMDD``.
        folder, manifest : Path
            The night's local folder, and the manifest with the checksum of each file.
        """
        return cls(NightReport(date, None, "", str(folder), str(manifest), is_open=True))

    def after_look(self) -> WatchReport:
        """Return the report with one more listing of the night counted."""
        return replace(self, n_looks=self.n_looks + 1)

    def having(
        self,
        transfers: Iterable[Transfer],
        inspections: Iterable[Inspection],
        *,
        gaps: Gaps,
        **about: Any,
    ) -> WatchReport:
        """Return the report with the files of one look added.

        A file's new transfer replaces its earlier one, which may have failed.

        Parameters
        ----------
        transfers, inspections : iterable of Transfer, iterable of Inspection
            Those of the files that were ready.
        gaps : Gaps
            Files that the night lacks, and those that are still growing.
        **about : Any
            ``path`` and ``version`` of the night, which are required, and ``versions``, ``n_done``
            and ``is_complete``.
        """
        by_path = {t.path: t for t in (*self.night.transfers, *transfers)}
        by_file = CachedInspection([*self.night.inspections.values(), *inspections])
        night = replace(
            self.night,
            path=about.pop("path"),
            version=about.pop("version"),
            versions=about.pop("versions", {}),
            transfers=OpaqueSequence(by_path.values()),
            inspections=by_file,
            gaps=gaps,
            is_open=not about.get("is_complete", self.is_complete),
        )
        return replace(self, night=night, **about)

    @property
    def failed(self) -> tuple[str, ...]:
        """A line for each file that failed: its path and the error."""
        return self.night.failed

    @property
    def state(self) -> str:
        """``absent``, ``growing``, ``incomplete``, ``open`` (more may come) or ``complete``."""
        if not self.night.path:
            return "absent"
        if self.is_complete:
            return "complete"
        if self.night.gaps.growing:
            return "growing"
        return "incomplete" if self.night.gaps.is_incomplete or self.failed else "open"

    def records(self) -> list[dict[str, Any]]:
        """Return a JSON-ready record for each file that arrived or failed."""
        return self.night.records()

    # not a Record: the state is a property, and the night's keys are merged into the report's own
    def to_dict(self) -> dict[str, Any]:
        """Return the report ready for JSON."""
        return {
            "state": self.state,
            "n_looks": self.n_looks,
            "n_done": self.n_done,
            **self.night.to_dict(),
            "verdict": self.state,
        }

    def verdict(self) -> str:
        """Return a line with the state and the numbers of files."""
        looks = "1 look" if self.n_looks == 1 else f"{self.n_looks} looks"
        name = f"night {self.night.name}"
        if self.state == "absent":
            return f"{name} is not there yet, after {looks}"
        n_failed = len(self.failed)
        failed = f", {n_failed} failed" if n_failed else ""
        n_new = sum(t.ok for t in self.night.transfers)
        return f"{name} is {self.state}: {n_new} new, {self.n_done} here in all{failed}, {looks}"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        if self.night.transfers:
            yield self.night
        elif self.night.gaps.is_incomplete:
            yield Text(f"missing  {shortened(missing(self.night.gaps))}", style="yellow")
        if not self.night.transfers and self.night.gaps.growing:
            yield Text(f"growing  {shortened(self.night.gaps.growing)}", style="yellow")
        style = "green" if self.is_complete else "yellow"
        yield Text(self.verdict(), style="bold red" if self.failed else f"bold {style}")
