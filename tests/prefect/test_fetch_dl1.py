"""The flow fetch-dl1 as Prefect sees it: a real server, a real door, what the database says."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from serverkit import process

from ctaflows.errors import PartialFailure
from ctaflows.sandbox.night import make_night
from flows.fetch_dl1 import fetch_dl1

if TYPE_CHECKING:
    from ctaflows.sandbox import Sandbox


@pytest.fixture
def night(box: Sandbox, here: Path) -> Path:
    make_night(box.storage, dt.date(2024, 11, 14), subruns=(3, 2))
    return here


def newest(server: Any) -> Any:
    """The flow run that was made last; the server makes runs of scheduled deployments by itself."""
    return max(server.flow_runs(auto_scheduled=False), key=lambda run: run.created)


def test_a_night_is_tracked(prefect_server: Any, night: Path) -> None:
    report = fetch_dl1.tracked("20241114", dest=str(night))
    assert len(report.transfers) == 10
    assert not report.failed
    run = newest(prefect_server)
    assert run.name == "fetch-dl1-20241114"
    assert run.state.is_completed()
    tasks = prefect_server.task_runs(run.id, 3)
    assert [t.name.rpartition("-")[0] for t in tasks] == [
        "fetch-files", "inspect-dl1-files", "list-night",
    ]  # fmt: skip
    assert all(t.state.is_completed() for t in tasks)
    assert all("ctaflows" in t.tags for t in tasks)


def test_the_table_of_the_night_is_an_artifact(prefect_server: Any, night: Path) -> None:
    fetch_dl1.tracked("20241114", dest=str(night), exclude=["datacheck"])
    from prefect.artifacts import Artifact

    with prefect_server.client:
        artifact = Artifact.get("night-20241114")
    assert artifact is not None
    assert "5 of 5 files in place, 5 verified" in (artifact.description or "")
    assert "11111" in str(artifact.data)


def test_partial_failure_fails_the_run(prefect_server: Any, box: Sandbox, night: Path) -> None:
    box.locality("/cta/DL1/20241114/v0.1/tailcut84/dl1_LST-1.Run11111.0001.h5", "NEARLINE")
    with pytest.raises(PartialFailure) as why:
        fetch_dl1.tracked("20241114", dest=str(night))
    assert why.value.exit_code == 10
    assert len(why.value.report.failed) == 1
    run = newest(prefect_server)
    assert run.state.is_failed()
    assert "1 failed" in run.state.message
    assert len(list(night.rglob("*.h5"))) == 9


def test_the_command_line_tracks_where_an_api_is_configured(
    prefect_server: Any, night: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ctaflows", "run", "fetch-dl1", "--date", "20241114"],
        text=True, capture_output=True, check=False, timeout=240,
        env={**os.environ, "PREFECT_API_URL": prefect_server.url},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"tracked by Prefect at {prefect_server.url}" in done.stderr
    assert "10 of 10 files in place, 10 verified" in done.stdout
    assert newest(prefect_server).state.is_completed()


def test_a_failing_run_shows_no_traceback(prefect_server: Any, night: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ctaflows", "run", "fetch-dl1", "--date", "20241115"],
        text=True, capture_output=True, check=False, timeout=240,
        env={**os.environ, "PREFECT_API_URL": prefect_server.url},
    )  # fmt: skip
    assert done.returncode == 3
    assert "no night 20241115" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_its_parameters_make_a_form() -> None:
    schema = fetch_dl1.parameters.properties
    assert "Date of the evening" in schema["date"]["description"]
    assert all(schema[name].get("description") for name in schema)


def test_the_deployment_runs_in_a_worker(
    prefect_server: Any, box: Sandbox, night: Path, tmp_path: Path
) -> None:
    deployments = Path(__file__).parents[2] / "deployments"
    prefect_server.cli("work-pool", "create", "ctaflows", "--type", "process", "--overwrite")
    prefect_server.cli("deploy", "--all", cwd=deployments)
    prefect_server.cli(
        "deployment", "run", "fetch-dl1/night",
        "--param", "date=2024-11-14", "--param", f"dest={night}",
    )  # fmt: skip
    worker = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "ctaflows"]
    log = tmp_path / "worker.log"
    with process(worker, log, env=dict(os.environ)):
        run = prefect_server.finished(newest(prefect_server).id, log)
    assert run.state.is_completed(), log.read_text()
    assert run.name == "fetch-dl1-2024-11-14"
    assert len(list(night.rglob("*.h5"))) == 10
