"""The results as a table: on a terminal, and in docs/performance.md between two markers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.transfers.results import at_least, limits, ratio

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.transfers.results import Outcome, Results, Row, Verdict

Line = tuple[str, ...]
HEAD = (
    "workload", "tool", "wall s (min–max)", "CPU s", "peak MB", "peer ÷ ours", "target", "reached",
)  # fmt: skip
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
_RIGHT = ("CPU s", "peak MB", "peer ÷ ours")


def lines(row: Row) -> list[Line]:
    """Return the table's lines for one workload, with a cell for each of `HEAD`."""
    work = f"{row.title} ({row.server})"
    if not row.outcomes:
        return [(work, f"not run: {row.note}", "", "", "", "", "", "")]
    ours, *peers = row.outcomes
    made: list[Line] = [(ours.label, *_figures(ours), "", "", "")]
    made += [
        (what, "", "", "", _number(v.value), f"≤ {v.limit:g}", _reached(v))
        for what, v in limits(row).items()
    ]
    made += [_of_peer(peer, ours) for peer in peers]
    return [(work if i == 0 else "", *line) for i, line in enumerate(made)]


def _of_peer(peer: Outcome, ours: Outcome) -> Line:
    found = ratio(peer, ours)
    if peer.least is None:
        return (peer.label, *_figures(peer), _number(found), "", "")
    verdict = at_least(found, peer.least)
    reach = f"≥ {verdict.limit:g}"
    return (peer.label, *_figures(peer), _number(found), reach, _reached(verdict))


def _figures(outcome: Outcome) -> tuple[str, str, str]:
    cost = outcome.middle
    if cost is None:
        return (outcome.reason or "not measured", "", "")
    walls = sorted(c.wall_s for c in outcome.costs)
    spread = f"({_number(walls[0])}–{_number(walls[-1])})" if len(walls) > 1 else "(one run)"
    return (f"{_number(cost.wall_s)} {spread}", _number(cost.cpu_s), f"{cost.peak_mb:.0f}")


def _number(value: float | None) -> str:
    if value is None:
        return "?"
    n_places = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{n_places}f}"


def _reached(verdict: Verdict) -> str:
    return {True: "yes", False: "**no**", None: "?"}[verdict.reached]


def text(rows: Sequence[Row], *, head: bool = True) -> str:
    """Return the table for a terminal."""
    made: list[Line] = [HEAD] if head else []
    made += [line for row in rows for line in lines(row)]
    widths = (50, 31, 18, 6, 7, 11, 6, 7)
    padded = (
        "  ".join(
            cell.rjust(width) if name in _RIGHT else cell.ljust(width)
            for cell, width, name in zip(line, widths, HEAD, strict=True)
        )
        for line in made
    )
    return "\n".join(line.replace("**no**", "NO").rstrip() for line in padded)


def markdown(results: Results) -> str:
    """Return the table for the documentation, with date, settings and versions."""
    versions = ", ".join(f"{name} {version}" for name, version in results.machine.items())
    said = ", ".join(f"{name} {value}" for name, value in results.settings.items())
    rules = tuple("---:" if name in _RIGHT else "---" for name in HEAD)
    body: list[Line] = [HEAD, rules, *(line for row in results.rows for line in lines(row))]
    table = "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in body)
    return f"Measured {results.began} UTC ({said}) with {versions}.\n\n{table}\n"


def _cell(value: str) -> str:
    return value.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def between_markers(page: str, table: str) -> str:
    """Return the page with its table replaced.

    Raises
    ------
    ValueError
        The page lacks the markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} followed by {END}")
    return f"{before}{BEGIN}\n{table}{END}{after}"


def write(results: Results, page: Path) -> None:
    """Write the table to the page."""
    was = page.read_text(encoding="utf-8")
    page.write_text(between_markers(was, markdown(results)), encoding="utf-8")
