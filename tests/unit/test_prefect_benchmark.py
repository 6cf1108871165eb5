"""The tables of benchmarks/prefect, and the steps of a night of many files, with few."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.prefect import scale, table


def test_a_night_s_table_tells_what_was_reached() -> None:
    def run(call_s: float, peak_mb: float) -> dict[str, float]:
        return {
            "call_s": call_s, "wall_s": call_s + 1, "cpu_s": call_s / 2, "peak_mb": peak_mb,
            "call_cpu_s": call_s / 3, "server_cpu_s": 4.0,
        }  # fmt: skip

    found = {
        "n_files": 10_000, "file_bytes": 20_000, "door": "nginx", "rtt_ms": 0.0,
        "database": "sqlite",
        "runs": {
            "plain": [run(10.0, 60), run(11.0, 60), run(12.0, 60)],
            "tracked": [run(13.0, 400), run(12.0, 140), run(11.5, 140)],
        },
        "recorded": {
            "flow_runs": {"Completed": 3}, "task_runs": {"Completed": 250, "Running": 1},
            "task_runs_a_night": 83.7, "all_right": False,
        },
        "most": {"ratio": 1.1, "mb": 300, "task_runs": 300},
    }  # fmt: skip
    lines = table.text("night", found).splitlines()
    assert lines[0].startswith("| 10,000 files of 20 KB from nginx | plain | Prefect on sqlite |")
    cells = {line.split(" | ")[0].strip("| "): line.rstrip(" |").split(" | ") for line in lines}
    assert cells["the transfer, s"][1:] == [
        "11.00 (10.00–12.00)", "12.00 (11.50–13.00)", "1.09", "1.1", "yes",
    ]  # fmt: skip
    assert cells["its peak memory, MiB"][-1] == "yes"
    assert cells["states in the database"][-1] == "no"
    assert "250 Completed, 1 Running" in lines[-1]


def test_a_call_s_table_is_over_the_plain_function() -> None:
    us = {"plain function": 0.1, "task": 2.1, "flow": 60.1}
    text = table.text(
        "calls", {"most_us": 50.0, "without Prefect": us, "Prefect imported": us}
    )  # fmt: skip
    assert "| task, without Prefect | 2.0 | 50 | yes |" in text
    assert "| flow, Prefect imported | 60.0 | 50 | no |" in text


def test_the_steps_of_many_files_run(tmp_path: Path) -> None:
    """In one process after the other, as what one writes the next one reads."""
    code = (
        "import sys\nfrom benchmarks.prefect.scale import main\n"
        f"for name in {list(scale.STEPS)!r}:\n"
        f"    sys.argv = ['scale', name, '1200', {str(tmp_path)!r}]\n    main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    assert [step["what"] for step in steps] == [what for what, _ in scale.STEPS.values()]
    assert len((tmp_path / "manifest.jsonl").read_text().splitlines()) == 1200
    assert len(list(tmp_path.rglob("*.h5"))) == 1200
