"""The cost of a direct call of an operation, compared with the plain function: median µs per call.

Run: ``python benchmarks/task_call.py [--prefect]``; with ``--prefect``, Prefect is imported, and
``prefect.Task.fn`` is measured too.
"""

from __future__ import annotations

import statistics
import sys
import timeit

from ctaflows.tracking.flow import flow
from ctaflows.tracking.task import task


def plain(path: str, dest: str | None = None) -> str:
    return dest or path


as_task = task(name="fetch")(plain)
as_flow = flow(name="fetch")(plain)


def cost_us(call, n_calls: int = 100_000, repeats: int = 7) -> float:
    return statistics.median(timeit.repeat(call, number=n_calls, repeat=repeats)) / n_calls * 1e6


def main() -> None:
    calls = {
        "plain function": lambda: plain("a/b", dest=None),
        "task, untracked": lambda: as_task("a/b", dest=None),
        "flow, untracked": lambda: as_flow("a/b", dest=None),
    }
    if "--prefect" in sys.argv:
        import prefect
        import prefect.context

        theirs = prefect.task(plain)
        calls["prefect.Task.fn"] = lambda: theirs.fn("a/b", dest=None)
    base = cost_us(calls["plain function"])
    print(f"Prefect imported: {'prefect' in sys.modules}")
    for name, call in calls.items():
        us = cost_us(call)
        print(f"{name:18} {us:6.2f} µs   {us - base:+6.2f} over the plain function")


if __name__ == "__main__":
    main()
