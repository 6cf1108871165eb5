"""What a watch of a night came to: what arrived meanwhile, and how the night stands."""

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
        What arrived in this run, and what the night lacks at the door; its path is empty as long
        as there is no such night.
    n_looks : int
        How often the door was looked at in this run.
    n_done : int
        Files of the night that have arrived, in this run and earlier ones.
    is_complete : bool
        Is nothing more to be expected?
    """

    night: NightReport
    n_looks: int = 0
    n_done: int = 0
    is_complete: bool = False

    @classmethod
    def begun(cls, date: str, folder: Path, manifest: Path) -> Self:
        """Make the report of a watch that has seen nothing yet.

        Parameters
        ----------
        date : str
            ``YYYYMMDD``.
        folder, manifest : Path
            The night's folder here, and where the proof of each file stands.
        """
        return cls(NightReport(date, None, "", str(folder), str(manifest), is_open=True))

    def after_look(self) -> WatchReport:
        """Count a look at the door."""
        return replace(self, n_looks=self.n_looks + 1)

    def having(
        self,
        transfers: Iterable[Transfer],
        inspections: Iterable[Inspection],
        *,
        gaps: Gaps,
        **about: Any,
    ) -> WatchReport:
        """Take in what a look has brought; what failed before and came now has not failed.

        Parameters
        ----------
        transfers, inspections
            Of the files that were ready.
        gaps : Gaps
            What the night lacks, and which files are waited for.
        **about : Any
            ``path``, ``version`` and ``versions`` of the night, ``n_done``, ``is_complete``.
        """
        moved = {t.path: t for t in (*self.night.transfers, *transfers)}
        looked = CachedInspection([*self.night.inspections.values(), *inspections])
        night = replace(
            self.night,
            path=about.pop("path"),
            version=about.pop("version"),
            versions=about.pop("versions", {}),
            transfers=OpaqueSequence(moved.values()),
            inspections=looked,
            gaps=gaps,
            is_open=not about.get("is_complete", self.is_complete),
        )
        return replace(self, night=night, **about)

    @property
    def failed(self) -> tuple[str, ...]:
        """What went wrong, a line for each file."""
        return self.night.failed

    @property
    def state(self) -> str:
        """``absent``, ``growing``, ``incomplete``, ``open`` (it may go on) or ``complete``."""
        if not self.night.path:
            return "absent"
        if self.is_complete:
            return "complete"
        if self.night.gaps.growing:
            return "growing"
        return "incomplete" if self.night.gaps.is_incomplete or self.failed else "open"

    def records(self) -> list[dict[str, Any]]:
        """Give one JSON-ready record for each file that arrived, or failed to."""
        return self.night.records()

    # by hand: the state is worked out, and the night's keys are among its own
    def to_dict(self) -> dict[str, Any]:
        """Give all of it ready for JSON."""
        return {
            "state": self.state,
            "n_looks": self.n_looks,
            "n_done": self.n_done,
            **self.night.to_dict(),
            "verdict": self.state,
        }

    def verdict(self) -> str:
        """Say in one line how the night stands."""
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
