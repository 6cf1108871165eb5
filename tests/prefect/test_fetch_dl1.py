"""The flow fetch-dl1 as Prefect sees it: a real server, a real door, what the database says."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from nights import make_night

import ctaflows.flows.fetch_dl1 as module
from ctaflows.errors import PartialFailure
from ctaflows.flows.fetch_dl1 import fetch_dl1

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("without_pictures")


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
    tasks = prefect_server.task_runs(run.id, 5)
    names = [t.name for t in tasks]
    assert names[:2] == [
        "fetch Run11111.0000 to datacheck Run11113.0001, 10 files",
        "inspect Run11111.0000 to datacheck Run11113.0001, 10 files",
    ]
    assert names[2].startswith("list-night-")
    assert names[3:] == ["record Run11111", "record Run11113"]
    assert all(t.state.is_completed() for t in tasks)


def test_what_looks_like_a_number_may_be_one(prefect_server: Any, night: Path) -> None:
    """As ``prefect deployment run --param date=20241114`` gives it."""
    report = fetch_dl1.tracked(20241114, run=11111, subrun=0, dest=str(night), dry_run=True)
    assert (report.date, len(report.transfers)) == ("20241114", 2)
    assert newest(prefect_server).name == "fetch-dl1-20241114"
    kinds = [one["type"] for one in fetch_dl1.parameters.properties["date"]["anyOf"]]
    assert kinds == ["string", "integer"]


def test_a_finished_night_again_costs_no_batch(prefect_server: Any, night: Path) -> None:
    first = fetch_dl1.tracked("20241114", dest=str(night))
    again = fetch_dl1.tracked("2024-11-14")
    assert again.moved_bytes == 0
    assert [t.skipped for t in again.transfers] == [True] * 10
    assert [(r["run"], r["n_events"], r["verified"]) for r in again.records()] == [
        (r["run"], r["n_events"], r["verified"]) for r in first.records()
    ]
    run = newest(prefect_server)
    assert run.name == "fetch-dl1-20241114"
    assert [t.name.rpartition("-")[0] for t in prefect_server.task_runs(run.id, 1)] == [
        "list-night"
    ]


def test_last_night_is_that_before_the_day_it_was_scheduled_for(
    prefect_server: Any, night: Path
) -> None:
    from prefect.flow_engine import run_flow
    from prefect.states import Scheduled

    morning = dt.datetime(2024, 11, 15, 8, tzinfo=dt.UTC)
    parameters = {"dest": str(night), "inspect": False}
    with prefect_server.client as client:
        run = client.create_flow_run(
            fetch_dl1.real, parameters=parameters, state=Scheduled(scheduled_time=morning)
        )
    report = run_flow(fetch_dl1.real, flow_run=run, parameters=parameters)
    assert report.date == "20241114"
    assert prefect_server.finished(run.id).name == "fetch-dl1-20241114"


def test_a_date_that_is_none_names_the_run_and_fails_it(prefect_server: Any, night: Path) -> None:
    with pytest.raises(Exception, match="no date"):
        fetch_dl1.tracked("yesterday")
    assert newest(prefect_server).name == "fetch-dl1-yesterday"


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is tried again at once, and a request only once in all."""
    monkeypatch.setenv("CTAFLOWS_ATTEMPTS", "1")
    eager = module.fetch_batch.with_options(retry_delay_seconds=0, retry_jitter_factor=0)
    monkeypatch.setattr(module, "fetch_batch", eager)


def test_a_batch_that_failed_for_now_goes_on_where_it_was(
    prefect_server: Any, box: Sandbox, night: Path, no_pause: None
) -> None:
    box.faults.add("503", times=1, server="door", path="*Run11113.0001.h5")
    report = fetch_dl1.tracked("20241114", dest=str(night), exclude=["datacheck"])
    assert not report.failed
    (batch,) = [
        t for t in prefect_server.task_runs(newest(prefect_server).id, 5)
        if t.name.startswith("fetch")
    ]  # fmt: skip
    assert batch.run_count == 2
    assert batch.state.is_completed()
    fetched = [r.path for r in box.requests if r.server == "pool" and r.method == "GET"]
    assert len(fetched) == len(set(fetched)) == 5, "what had come was not fetched again"


def test_what_no_retry_can_mend_is_not_tried_again(
    prefect_server: Any, box: Sandbox, night: Path, no_pause: None
) -> None:
    box.locality("/cta/DL1/20241114/v0.1/tailcut84/dl1_LST-1.Run11111.0001.h5", "NEARLINE")
    with pytest.raises(PartialFailure):
        fetch_dl1.tracked("20241114", dest=str(night), inspect=False)
    (batch,) = [
        t for t in prefect_server.task_runs(newest(prefect_server).id, 3)
        if t.name.startswith("fetch")
    ]  # fmt: skip
    assert batch.run_count == 1
    assert batch.state.is_failed()
    assert "Nearline" in batch.state.message


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


@pytest.mark.slow
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


@pytest.mark.slow
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
    assert schema["date"]["default"] == "last-night"
    assert not fetch_dl1.parameters.required
    assert all(schema[name].get("description") for name in schema)
