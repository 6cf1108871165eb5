"""The words for task runners: understood or refused, with what to do next."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from serverprocess import free_ports

from ctaflows.errors import NetworkError, UsageError
from ctaflows.tracking import dask_clusters, task_runners
from ctaflows.tracking.dask_clusters import SlurmJobs
from ctaflows.tracking.task_runners import Choice

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("word", "choice"),
    [
        ("threads", Choice("threads")),
        ("dask", Choice("dask")),
        ("dask:127.0.0.1:8786", Choice("dask", "tcp://127.0.0.1:8786")),
        ("dask:tls://node.example.org:8786", Choice("dask", "tls://node.example.org:8786")),
        ("dask:tcp://[::1]:8786", Choice("dask", "tcp://[::1]:8786")),
        (" slurm ", Choice("slurm")),
    ],
)
def test_a_word_is_understood(word: str, choice: Choice) -> None:
    assert task_runners.parse(word) == choice


@pytest.mark.parametrize(
    "word",
    ["", "ray", "Dask", "dask:", "dask:8786", "dask:node", "slurm:cpu", "threads:4", "dask:a:b"],
)
def test_another_is_refused(word: str) -> None:
    with pytest.raises(UsageError) as why:
        task_runners.parse(word)
    assert why.value.hint


def test_only_threads_do_without_prefect() -> None:
    assert [w for w in ("threads", "dask", "slurm") if not task_runners.parse(w).needs_prefect] == [
        "threads"
    ]


def test_jobs_are_as_the_environment_says(tmp_path: Path) -> None:
    env = {
        "CTAFLOWS_SLURM_QUEUE": "long", "CTAFLOWS_SLURM_ACCOUNT": "lst",
        "CTAFLOWS_SLURM_CORES": "4", "CTAFLOWS_SLURM_MEMORY": "8GB",
        "CTAFLOWS_SLURM_WALLTIME": "01:00:00",
        "CTAFLOWS_SLURM_JOBS": "1-8", "CTAFLOWS_SLURM_FOLDER": str(tmp_path),
    }  # fmt: skip
    jobs = SlurmJobs.from_environment(env)
    cluster = jobs.cluster()
    assert (cluster["queue"], cluster["account"], cluster["cores"]) == ("long", "lst", 4)
    assert (cluster["memory"], cluster["walltime"]) == ("8GB", "01:00:00")
    assert cluster["log_directory"] == str(tmp_path)
    assert (jobs.least, jobs.most) == (1, 8)
    fixed = SlurmJobs.from_environment({"CTAFLOWS_SLURM_JOBS": "3", "CTAFLOWS_SLURM_QUEUE": ""})
    assert (fixed.least, fixed.most) == (3, 3)
    assert "queue" not in fixed.cluster(), "the cluster's own default"


def test_nobody_else_may_send_work() -> None:
    for cluster in (dask_clusters.LOCAL, SlurmJobs().cluster()):
        assert cluster["security"]
        assert cluster["protocol"] == "tls://"


@pytest.mark.parametrize(
    ("name", "value"),
    [("CORES", "0"), ("CORES", "2-4"), ("CORES", "many"), ("JOBS", "8-1"), ("JOBS", "-1")],
)
def test_a_setting_that_cannot_be_is_named(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"CTAFLOWS_SLURM_{name} can't be “{value}”"):
        SlurmJobs.from_environment({f"CTAFLOWS_SLURM_{name}": value})


def test_an_address_that_does_not_answer() -> None:
    (port,) = free_ports(1)
    with pytest.raises(NetworkError, match="No Dask scheduler answers") as why:
        dask_clusters.reach(f"tcp://127.0.0.1:{port}")
    assert f"127.0.0.1:{port}" in str(why.value)


@pytest.mark.parametrize("package", ["prefect_dask", "dask_jobqueue"])
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "ctaflows.tracking.dask_runners", raising=False)
    with pytest.raises(UsageError, match=package) as why:
        task_runners.make("slurm")
    assert "pip install 'ctaflows[dask]'" in (why.value.hint or "")


def test_a_worker_makes_no_cluster_of_its_own() -> None:
    from prefect.task_runners import ThreadPoolTaskRunner

    for word in ("dask", "slurm"):
        sent = pickle.loads(pickle.dumps(task_runners.make(word)))
        assert type(sent) is ThreadPoolTaskRunner


def test_ctrl_c_stays_with_who_had_it() -> None:
    code = "import signal; from ctaflows.tracking import task_runners; task_runners.make('slurm'); "
    code += "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "True\n"


def test_slurm_is_said_to_be_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="there is no sbatch"):
        task_runners.check("slurm")


def ctaflows(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ctaflows", "run", "fetch-dl1", "--date", "20241114", *words],
        text=True, capture_output=True, check=False, timeout=120, env={**os.environ, **env},
    )  # fmt: skip


def test_the_command_line_refuses_before_it_begins(tmp_path: Path) -> None:
    done = ctaflows("--runner", "ray")
    assert done.returncode == 2
    assert "There is no task runner “ray”" in done.stderr
    assert "threads, dask, dask:ADDRESS or slurm" in done.stderr
    done = ctaflows("--runner", "dask", "--no-track")
    assert done.returncode == 2
    assert "--no-track" in done.stderr
    done = ctaflows("--runner", "slurm", PREFECT_API_URL="", PREFECT_HOME=str(tmp_path))
    assert done.returncode == 2
    assert "PREFECT_API_URL" in done.stderr


def test_the_command_line_says_that_nobody_answers(tmp_path: Path) -> None:
    first, second = free_ports(2)
    done = ctaflows(
        "--runner", f"dask:127.0.0.1:{first}", PREFECT_API_URL=f"http://127.0.0.1:{second}/api"
    )
    assert done.returncode == 9, done.stderr
    assert f"No Dask scheduler answers: tcp://127.0.0.1:{first}" in done.stderr
    assert "Traceback" not in done.stderr
