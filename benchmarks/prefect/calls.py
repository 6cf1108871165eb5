"""The cost of a direct call of a task, compared with the plain function."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HOME = Path(__file__).parents[2]
MOST_US = 50.0


def measure(*, quick: bool) -> dict[str, Any]:
    """Measure in a process without Prefect, and in one that has imported it."""
    n_calls = 2_000 if quick else 100_000
    return {
        "most_us": MOST_US,
        "without Prefect": _in_process("", n_calls),
        "Prefect imported": _in_process("import prefect, prefect.context", n_calls),
    }


def _in_process(before: str, n_calls: int) -> dict[str, float]:
    code = f"{before}\nfrom benchmarks.prefect.calls import report; report({n_calls})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=True)
    said: dict[str, float] = json.loads(done.stdout)
    return said


def report(n_calls: int) -> None:
    """Print microseconds per call, as JSON."""
    from benchmarks.task_call import as_flow, as_task, cost_us, plain

    calls = {"plain function": plain, "task": as_task, "flow": as_flow}
    print(
        json.dumps(
            {
                name: cost_us(lambda call=call: call("a/b", dest=None), n_calls)
                for name, call in calls.items()
            }
        )
    )
