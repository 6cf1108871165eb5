"""Tasks in a real Dask cluster: one of the run's own, and one that is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from serverkit import process, wait_until
from serverprocess import free_ports
from sitekit import assert_whole, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sitekit import Site

FLOW = Path(__file__).with_name("runnerflow.py")


def fetch(server: Site, dest: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ctaflows", "run", "fetch-dl1", "--date", "20241114"]
    return subprocess.run(
        [*command, "--dest", str(dest), *words], env=server.env, cwd=server.home,
        text=True, capture_output=True, check=False, timeout=240,
    )  # fmt: skip


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scheduler and a worker, as processes of their own that know nothing of our door."""
    home = tmp_path_factory.mktemp("dask")
    (port,) = free_ports(1)
    address = f"tcp://127.0.0.1:{port}"
    python = [sys.executable, "-m"]
    scheduler = [*python, "distributed.cli.dask_scheduler", "--host", "127.0.0.1"]
    scheduler += ["--port", str(port), "--no-dashboard"]
    worker = [*python, "distributed.cli.dask_worker", address, "--nthreads", "2", "--no-nanny"]
    worker += ["--no-dashboard"]
    env, log = environment(home), home / "dask.log"
    with process(scheduler, log, env=env, cwd=home), process(worker, log, env=env, cwd=home):
        wait_until(lambda: "Registered to" in log.read_text(), "a Dask worker")
        yield address


def newest(server: Site) -> Any:
    return max(server.flow_runs(auto_scheduled=False), key=lambda run: run.created)


def test_a_night_in_processes_of_this_machine(server: Site, tmp_path: Path) -> None:
    done = fetch(server, tmp_path, "--runner", "dask")
    assert done.returncode == 0, done.stderr
    assert "tracked by Prefect" in done.stderr
    assert_whole(tmp_path / "20241114")
    run = newest(server)
    assert run.state.is_completed()
    assert server.n_batches(run) == 2


def test_tasks_and_those_of_subflows_are_in_the_cluster(server: Site, scheduler: str) -> None:
    env = {**server.env, "CTAFLOWS_RUNNER": f"dask:{scheduler}"}
    done = subprocess.run(
        [sys.executable, str(FLOW), "3"], env=env, cwd=server.home,
        text=True, capture_output=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    pids = {pid for pid, _ in [*told["there"], told["inner"]]}
    assert len(pids) == 1
    assert told["here"] not in pids
    assert newest(server).state.is_completed()
