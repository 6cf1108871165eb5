"""Runs that are cancelled while their batches move in other processes: on Dask, and on Slurm."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from controlkit import cancel, parts_bytes
from serverkit import wait_until

from ctaflows.sandbox import faults

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from realslurm import Slurm
    from sitekit import Site

FOLDER = "/cta/DL1/20241201/v0.1/tailcut84"
SLOW = f"{FOLDER}/dl1_LST-1.Run11200.0000.h5"
SLOW_BYTES = 24_000_000
#: From the request to the last byte that the door sends.
MOST_S = 5.0


@pytest.fixture
def sent_at(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the pieces of the slow file were sent."""
    times: list[float] = []
    real = faults._dripped

    def timed(*args: Any) -> Iterator[bytes]:
        for piece in real(*args):
            times.append(time.monotonic())
            yield piece

    monkeypatch.setattr(faults, "_dripped", timed)
    return times


@pytest.fixture
def slow_night(server: Site) -> Iterator[str]:
    """A night of its own at the door, one file of which would come for four minutes."""
    server.door.put(SLOW, os.urandom(SLOW_BYTES))
    server.door.faults.add("slow", times=None, server="pool", path=SLOW, rate_bytes_s=100_000)
    yield "20241201"
    server.door.faults.clear()


def begin(server: Site, runner: dict[str, str], dest: Path, date: str) -> Any:
    """Ask for a run of the deployed night, its tasks elsewhere; give its id."""
    deployment = server.deployments()["fetch-dl1/night"]
    with server.client as client:
        return client.create_flow_run_from_deployment(
            deployment.id,
            parameters={"date": date, "dest": str(dest), "inspect": False},
            job_variables={"env": {**deployment.job_variables.get("env", {}), **runner}},
        ).id


def cancelled(server: Site, worker: Path, folder: Path, run_id: Any, sent_at: list[float]) -> float:
    """Cancel a run whose bytes come; say after how many seconds the last of them was sent."""
    wait_until(lambda: parts_bytes(folder) > 300_000, "bytes", 180)
    began = time.monotonic()
    cancel(server, run_id)
    run = server.finished(run_id, worker)
    assert run.state.is_cancelled(), worker.read_text()
    # pieces come several times a second: without any for so long, none will come
    wait_until(lambda: time.monotonic() - sent_at[-1] > 3, "the last byte", 60)
    seconds = sent_at[-1] - began
    print(f"{seconds:.1f} s from cancel to the last byte")
    assert 300_000 < parts_bytes(folder) < SLOW_BYTES / 2
    return seconds


def test_batches_in_a_dask_cluster(
    server: Site, worker: Path, slow_night: str, tmp_path: Path, sent_at: list[float]
) -> None:
    run_id = begin(server, {"CTAFLOWS_RUNNER": "dask"}, tmp_path, slow_night)
    assert cancelled(server, worker, tmp_path, run_id, sent_at) < MOST_S


def test_batches_in_slurm_jobs(
    server: Site, worker: Path, slurm: Slurm, slow_night: str, tmp_path: Path, sent_at: list[float]
) -> None:
    env = {"CTAFLOWS_RUNNER": "slurm", "CTAFLOWS_SLURM_QUEUE": "cpu", "CTAFLOWS_SLURM_CORES": "1"}
    env |= {"CTAFLOWS_SLURM_MEMORY": "1GB", "CTAFLOWS_SLURM_INTERFACE": "lo"}
    env |= {"SLURM_CONF": str(slurm.conf), "CTAFLOWS_SLURM_JOBS": "1"}
    run_id = begin(server, env, tmp_path, slow_night)
    assert cancelled(server, worker, tmp_path, run_id, sent_at) < MOST_S
    wait_until(lambda: not slurm.run("squeue", "--noheader").strip(), "the end of the jobs", 60)
