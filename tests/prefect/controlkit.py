"""Deployments, their runs and the processes of these, for tests that cancel and kill runs."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctaflows.sandbox import Sandbox

REPOSITORY = Path(__file__).parents[2]
FOLDER = "/cta/DL1/20241114/v0.1/tailcut84"
SLOW = f"{FOLDER}/dl1_LST-1.Run11113.0000.h5"
SLOW_BYTES = 24_000_000


def make_night(box: Sandbox, *, rate_bytes_s: int) -> dict[str, bytes]:
    """Make a night at the door, one file of which is slow; return its files by name."""
    files = {f"{FOLDER}/dl1_LST-1.Run11111.{n:04}.h5": os.urandom(30_000) for n in range(4)}
    files[SLOW] = os.urandom(SLOW_BYTES)
    for path, data in files.items():
        box.put(path, data)
    box.faults.add("slow", times=None, server="pool", path=SLOW, rate_bytes_s=rate_bytes_s)
    return {path.rpartition("/")[2]: data for path, data in files.items()}


def parts_bytes(folder: Path) -> int:
    """Return the number of bytes in part files."""
    return sum(part.stat().st_size for part in folder.rglob(".*.part"))


def arrived(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.rglob("*.h5") if not p.name.startswith(".")}


def deploy(server: Any, name: str, pool: str, **parameters: Any) -> Any:
    """Deploy fetch-dl1 to a process work pool, and return the deployment's id."""
    server.make_pool(pool)
    with server.client as client:
        flow_id = client.create_flow_from_name("fetch-dl1")
        step = {"prefect.deployments.steps.set_working_directory": {"directory": str(REPOSITORY)}}
        return client.create_deployment(
            flow_id, name, work_pool_name=pool, entrypoint="ctaflows.flows.fetch_dl1.fetch_dl1",
            pull_steps=[step], parameters=parameters, enforce_parameter_schema=False,
        )  # fmt: skip


def begin(server: Any, deployment_id: Any) -> Any:
    """Create a flow run, and return its id."""
    with server.client as client:
        return client.create_flow_run_from_deployment(deployment_id).id


def cancel(server: Any, run_id: Any) -> None:
    """Cancel a run as the UI and ``prefect flow-run cancel`` do."""
    from prefect.states import Cancelling

    with server.client as client:
        client.set_flow_run_state(run_id, Cancelling())


def processes_below(pid: int) -> list[int]:
    """Return the processes that run flows, started by a worker or ``serve``."""
    parents = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # gone
            state, parent = file.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(file.parent.name)] = int(parent)
    found, newest = [], [pid]
    while newest:
        newest = [child for child, parent in parents.items() if parent in newest]
        found += newest
    return [one for one in found if b"resource_tracker" not in _command(one)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b"resource_tracker"


def seconds_until(ask: Any, timeout_s: float = 120) -> float:
    """Return the time until a condition is true, in seconds; the whole time if it never is."""
    began = time.monotonic()
    while not ask() and time.monotonic() - began < timeout_s:
        time.sleep(0.05)
    return time.monotonic() - began
