"""The measured results: ratios, targets, files."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.transfers.timing import Cost, middle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass
class Outcome:
    """The results of one tool.

    Attributes
    ----------
    tool, label : str
        The tool, and its command in short.
    costs : list of Cost
        Time and memory of each run.
    reason : str or None
        Why there is no valid result.
    least : float or None
        Target: its time ÷ ours is at least this.
    """

    tool: str
    label: str
    costs: list[Cost] = field(default_factory=list)
    reason: str | None = None
    least: float | None = None

    @property
    def middle(self) -> Cost | None:
        """The median of each figure; None if there is no valid result."""
        return middle(self.costs) if self.costs and self.reason is None else None


@dataclass
class Row:
    """One workload on one server: the results of ctaflows first, then those of its peers.

    Attributes
    ----------
    key, title, server : str
        Workload and server.
    outcomes : list of Outcome
        Empty if the workload could not be run.
    note : str or None
        Why it could not be run, or another remark.
    most_mb, most_cpu, most_over_s : float or None
        Limits for ctaflows, see `workloads.Work`.
    """

    key: str
    title: str
    server: str
    outcomes: list[Outcome] = field(default_factory=list)
    note: str | None = None
    most_mb: float | None = None
    most_cpu: float | None = None
    most_over_s: float | None = None


@dataclass
class Results:
    """All results of a run of the benchmark.

    Attributes
    ----------
    began : str
        Date and time, UTC.
    machine : dict
        Versions by name, and other properties of the machine.
    settings : dict
        Number of runs and other settings.
    rows : list of Row
        Results in the order of the workloads.
    """

    began: str
    machine: dict[str, str]
    settings: dict[str, Any]
    rows: list[Row] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A figure compared with its target.

    Attributes
    ----------
    value : float or None
        The figure; None if something it needs was not measured.
    limit : float
        The target.
    reached : bool or None
        Whether the target is reached; None if unknown.
    """

    value: float | None
    limit: float
    reached: bool | None


def ratio(peer: Outcome, ours: Outcome) -> float | None:
    """Return the peer's time ÷ ours (above 1 ours is faster); None if a result is missing."""
    if peer.middle is None or ours.middle is None:
        return None
    return peer.middle.wall_s / ours.middle.wall_s


def at_least(value: float | None, limit: float) -> Verdict:
    """Compare a figure, before rounding, with a lower limit."""
    return Verdict(value, limit, None if value is None else value >= limit)


def at_most(value: float | None, limit: float) -> Verdict:
    """Compare a figure, before rounding, with an upper limit."""
    return Verdict(value, limit, None if value is None else value <= limit)


def limits(row: Row) -> dict[str, Verdict]:
    """Return the figures of ctaflows that have limits, by name, compared with them."""
    ours, *peers = row.outcomes
    mine = ours.middle
    found: dict[str, Verdict] = {}
    if row.most_mb is not None:
        found["our peak, MB"] = at_most(mine.peak_mb if mine else None, row.most_mb)
    if row.most_cpu is not None:
        curl = next((p.middle for p in peers if p.tool == "curl"), None)
        share = mine.cpu_s / curl.cpu_s if mine and curl else None
        found["our CPU ÷ curl's"] = at_most(share, row.most_cpu)
    if row.most_over_s is not None:
        others = [p.middle.wall_s for p in peers if p.middle]
        over = mine.wall_s - min(others) if mine and others else None
        found["s more than the fastest"] = at_most(over, row.most_over_s)
    return found


def save(results: Results, file: Path) -> None:
    """Write all results, with the raw figures, as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dataclasses.asdict(results), indent=1, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")


def load(file: Path) -> Results:
    """Read what `save` wrote."""
    said = json.loads(file.read_text(encoding="utf-8"))
    rows = [
        Row(**{**row, "outcomes": [_outcome(outcome) for outcome in row["outcomes"]]})
        for row in said.pop("rows")
    ]
    return Results(**said, rows=rows)


def merged(found: Results, before: Results | None, order: Sequence[tuple[str, str]]) -> Results:
    """Return the published results, with rows replaced by new ones.

    Parameters
    ----------
    found, before : Results
        New results, and published ones.
    order : sequence of (str, str)
        Key and server of all rows.

    Raises
    ------
    ValueError
        Remaining rows were measured with other versions.
    """
    fresh = {(row.key, row.server): row for row in found.rows}
    old = {(row.key, row.server): row for row in (before.rows if before else [])}
    kept = [place for place in order if place in old and place not in fresh]
    if before is None or not kept:
        return found
    changed = [k for k, v in found.machine.items() if before.machine.get(k, v) != v]
    if changed:
        raise ValueError(
            f"other rows were measured with another {', '.join(changed)}: measure all rows"
        )
    rows = [{**old, **fresh}[place] for place in order if place in old or place in fresh]
    began = f"{before.began.partition(' to ')[0]} to {found.began}"
    return Results(began, before.machine | found.machine, found.settings, rows)


def _outcome(said: dict[str, Any]) -> Outcome:
    return Outcome(**{**said, "costs": [Cost(**cost) for cost in said["costs"]]})
