"""The figures as Markdown tables."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.prefect import night


def text(work: str, found: dict[str, Any]) -> str:
    """Return the table of one of the benchmarks."""
    return {"calls": _calls, "night": _night, "scale": _scale}[work](found)


def _rows(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _reached(value: float, most: float) -> str:
    return "yes" if value <= most else "no"


def _calls(found: dict[str, Any]) -> str:
    rows = []
    for where in ("without Prefect", "Prefect imported"):
        us = found[where]
        for kind in ("task", "flow"):
            over = us[kind] - us["plain function"]
            most = found["most_us"]
            rows.append([f"{kind}, {where}", f"{over:.1f}", f"{most:.0f}", _reached(over, most)])
    return _rows(["direct call", "µs more than the plain function", "target", "reached"], rows)


def _night(found: dict[str, Any]) -> str:
    runs, most, recorded = found["runs"], found["most"], found["recorded"]

    def cell(how: str, key: str, digits: int = 2) -> str:
        values = [run[key] for run in runs[how]]
        if len(values) == 1:
            return f"{values[0]:.{digits}f}"
        low, high = min(values), max(values)
        return f"{median(values):.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"

    def line(what: str, key: str, digits: int, target: float | None, is_ratio: bool) -> list[str]:
        value = night.ratio(found, key)
        of_target = value if is_ratio else median(r[key] for r in runs["tracked"])
        return [
            what, cell("plain", key, digits), cell("tracked", key, digits), f"{value:.2f}",
            *(["", ""] if target is None else [f"{target:g}", _reached(of_target, target)]),
        ]  # fmt: skip

    tasks = recorded["task_runs_a_night"]
    rows = [
        line("the transfer, s", "call_s", 2, most["ratio"], is_ratio=True),
        line("the process with its imports, s", "wall_s", 2, None, is_ratio=True),
        line("its CPU, s", "cpu_s", 2, None, is_ratio=True),
        line("CPU of the transfer alone, s", "call_cpu_s", 2, None, is_ratio=True),
        ["CPU of Prefect's server, s", "", cell("tracked", "server_cpu_s"), "", "", ""],
        line("its peak memory, MiB", "peak_mb", 0, most["mb"], is_ratio=False),
        ["task runs per night", "0", f"{tasks:.0f}", "", f"{most['task_runs']}",
         _reached(tasks, most["task_runs"])],
        ["states in the database", "", _states(recorded), "", "all completed",
         "yes" if recorded["all_right"] else "no"],
    ]  # fmt: skip
    head = f"{found['n_files']:,} files of {found['file_bytes'] // 1000} KB from {found['door']}"
    head += f", round trip {found['rtt_ms']:g} ms" if found["rtt_ms"] else ""
    columns = [head, "plain", f"Prefect on {found['database']}", "ratio", "target", "reached"]
    return _rows(columns, rows)


def _states(recorded: dict[str, Any]) -> str:
    return "; ".join(
        f"{what}: " + ", ".join(f"{n} {state}" for state, n in recorded[key].items())
        for what, key in (("flows", "flow_runs"), ("tasks", "task_runs"))
    )


def _scale(found: dict[str, Any]) -> str:
    n = found["n_entries"]
    rows = [
        [step["what"], f"{step['seconds']:.1f}", f"{step['cpu_s']:.1f}",
         f"{step['cpu_s'] / n * 1e6:.1f}", f"{step['peak_mb']:.0f}"]
        for step in found["steps"]
    ]  # fmt: skip
    return _rows([f"{n:,} files", "s", "CPU, s", "CPU, µs per file", "peak memory, MiB"], rows)
