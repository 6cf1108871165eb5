"""A night on a real Slurm, in both ways: the whole run as a job, and its batches as jobs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from serverkit import wait_until
from sitekit import DEPLOYMENTS, assert_whole

from ctaflows.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from realslurm import Slurm
    from sitekit import Site


def deploy_night(server: Site, file: Path, name: str, pool: str, **job_variables: Any) -> None:
    """Deploy the night of our prefect.yaml under another name, to another pool."""
    told = yaml.safe_load((DEPLOYMENTS / "prefect.yaml").read_text())
    (night,) = (one for one in told["deployments"] if one["name"] == "night")
    night |= {"name": name, "work_pool": {"name": pool, "job_variables": job_variables}}
    night["parameters"]["dest"] = f"{server.nights}-{name}"
    file.write_text(json.dumps({**told, "deployments": [night]}))
    server.cli("deploy", "--all", "--prefect-file", str(file), cwd=file.parent)


def night_of(server: Site, name: str) -> Path:
    return server.nights.with_name(f"nights-{name}") / "20241114"


def ended_jobs(slurm: Slurm) -> list[dict[str, str]]:
    """Wait until no job is left: they end with the run."""
    wait_until(lambda: not slurm.run("squeue", "--noheader").strip(), "the end of the jobs", 60)
    return slurm.jobs("ctaflows")


def test_the_run_is_a_job(server: Site, slurm: Slurm, tmp_path: Path) -> None:
    before = {job["JobId"] for job in slurm.jobs()}
    pool = str(DEPLOYMENTS / "slurm/pool.json")
    server.cli("work-pool", "create", "srun", "--type", "process", "--base-job-template", pool)
    deploy_night(server, tmp_path / "prefect.yaml", "srun", "srun")
    run = server.trigger("fetch-dl1/srun", "--param", "date=2024-11-14")
    with server.worker("srun", SLURM_CONF=str(slurm.conf)) as log:
        run = server.finished(run.id, log)
        (job,) = (job for job in ended_jobs(slurm) if job["JobId"] not in before)
    assert run.state.is_completed(), log.read_text()
    assert_whole(night_of(server, "srun"))
    assert job["JobState"] == "COMPLETED"
    assert (job["Partition"], job["NumCPUs"]) == ("cpu", "2")


def test_a_job_that_slurm_does_not_take_fails_at_once(
    slurm: Slurm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from ctaflows.tracking.dask_runners import try_job

    monkeypatch.setenv("SLURM_CONF", str(slurm.conf))
    script = "#!/bin/sh\n#SBATCH -p {}\ntrue\n"
    try_job(script.format("cpu"), tmp_path)
    with pytest.raises(UsageError, match="nonesuch"):
        try_job(script.format("nonesuch"), tmp_path)
    assert not [job for job in slurm.jobs() if job["JobState"] == "PENDING"]


def test_the_batches_are_in_jobs(server: Site, worker: Path, slurm: Slurm, tmp_path: Path) -> None:
    before = {job["JobId"] for job in slurm.jobs()}
    env = {"CTAFLOWS_RUNNER": "slurm", "CTAFLOWS_SLURM_QUEUE": "cpu", "CTAFLOWS_SLURM_CORES": "1"}
    env |= {"CTAFLOWS_SLURM_MEMORY": "1GB", "CTAFLOWS_SLURM_INTERFACE": "lo"}
    env |= {"SLURM_CONF": str(slurm.conf)}
    deploy_night(server, tmp_path / "prefect.yaml", "jobs", "ctaflows", env=env)
    run = server.trigger("fetch-dl1/jobs", "--param", "date=20241114")
    run = server.finished(run.id, worker)
    assert run.state.is_completed(), worker.read_text()
    assert_whole(night_of(server, "jobs"))
    assert server.n_batches(run) == 2
    jobs = [job for job in ended_jobs(slurm) if job["JobId"] not in before]
    assert len(jobs) == 2
    assert all(job["StartTime"] != "Unknown" for job in jobs)
