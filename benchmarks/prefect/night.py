"""A night of small files, fetched by the flow with Prefect and by the same function without it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.prefect import servers
from benchmarks.transfers import machine

#: Target: time with Prefect ÷ time without.
MOST_RATIO = 1.10
MOST_MB = 300.0
MOST_TASK_RUNS = 300
_INGEST_S = 600
#: Seconds for the otherwise idle server to process the events of a run that has ended.
_SETTLES_S = 6

_CHILD = """
import json, resource, sys, time
began = time.perf_counter()
how, dest = sys.argv[1:]
from ctaflows.flows.fetch_dl1 import fetch_dl1
if how == "tracked":
    import prefect.main
loaded, loaded_cpu = time.perf_counter(), time.process_time()
call = fetch_dl1.tracked if how == "tracked" else fetch_dl1.plain
report = call("20241114", dest=dest, inspect=False)
ended, called_cpu = time.perf_counter(), time.process_time()
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "call_s": ended - loaded, "load_s": loaded - began,
    "cpu_s": usage.ru_utime + usage.ru_stime, "call_cpu_s": called_cpu - loaded_cpu,
    "peak_mb": usage.ru_maxrss / 1024,
    "n_files": len([t for t in report.transfers if t.ok and not t.skipped]),
}))
"""


def measure(
    *, n_files: int, repeats: int, door: str, database: str, rtt_ms: float = 0.0
) -> dict[str, Any]:
    """Fetch the same night repeatedly, alternating with and without Prefect."""
    place = servers.RAM_DISK if servers.RAM_DISK.is_dir() else Path(tempfile.gettempdir())
    runs: dict[str, list[dict[str, float]]] = {"plain": [], "tracked": []}
    with tempfile.TemporaryDirectory(prefix="ctaflows-prefect-", dir=place) as name:
        home = Path(name)
        home.chmod(0o755)
        with (
            servers.night_door(door, home, n_files, rtt_ms) as door_env,
            servers.database(database, home) as database_env,
            servers.prefect_server(home / "prefect", database_env) as (url, server_pid),
        ):
            env = {**os.environ, **door_env, "PREFECT_API_URL": url}
            env |= {"PREFECT_HOME": str(home / "client"), "PREFECT_LOGGING_LEVEL": "WARNING"}
            _once(env, "plain", home)  # warm up
            for turn in range(repeats):
                for how in ("plain", "tracked") if turn % 2 == 0 else ("tracked", "plain"):
                    before_s = servers.cpu_s(server_pid)
                    run = _once(env, how, home)
                    if how == "tracked":  # what the server has still to do is not for the next
                        time.sleep(_SETTLES_S)
                        run["server_cpu_s"] = servers.cpu_s(server_pid) - before_s
                        recorded = _recorded(env, turn + 1)
                    runs[how].append(run)
    return {
        "n_files": n_files,
        "file_bytes": servers.FILE_BYTES,
        "door": door,
        "rtt_ms": rtt_ms,
        "database": database.partition(":")[0],
        "runs": runs,
        "recorded": recorded,
        "most": {"ratio": MOST_RATIO, "mb": MOST_MB, "task_runs": MOST_TASK_RUNS},
    }


def _once(env: dict[str, str], how: str, home: Path) -> dict[str, float]:
    dest = home / "dest"
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, how, str(dest)],
        env=env, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    wall_s = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"benchmarks.prefect: the {how} night failed\n{done.stdout}{done.stderr[-3000:]}")
    shutil.rmtree(dest)
    said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {**said, "wall_s": wall_s, "load": machine.load()}


_ASK = """
import json, sys
from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    flows = client.read_flow_runs()
    tasks, offset = [], 0
    while more := client.read_task_runs(limit=200, offset=offset):
        tasks, offset = tasks + more, offset + 200
def names(runs):
    return [run.state.name if run.state else "none" for run in runs]
print(json.dumps([names(flows), names(tasks)]))
"""


def _recorded(env: dict[str, str], n_flow_runs: int) -> dict[str, Any]:
    """Return the states in the database, once all runs have ended."""
    began = time.monotonic()
    before: Any = None
    while True:
        done = subprocess.run(
            [sys.executable, "-c", _ASK], env=env, capture_output=True, text=True, check=True
        )
        flows, tasks = json.loads(done.stdout.splitlines()[-1])
        is_over = set(flows) | set(tasks) <= {"Completed"} and len(flows) == n_flow_runs
        if (is_over and before == len(tasks)) or time.monotonic() - began > _INGEST_S:
            break
        before = len(tasks)
        time.sleep(2)
    return {
        "flow_runs": Counter(flows),
        "task_runs": Counter(tasks),
        "task_runs_a_night": len(tasks) / max(1, len(flows)),
        "all_right": is_over,
    }


def ratio(found: dict[str, Any], key: str = "call_s") -> float:
    """Return the median time with Prefect ÷ that without."""
    runs = found["runs"]
    return median(r[key] for r in runs["tracked"]) / median(r[key] for r in runs["plain"])
