"""Flows: without Prefect, as flow runs here, and as deployments run by a worker and by serve."""

from __future__ import annotations

import sys

import pytest
from serverkit import process, wait_until

from ctaflows.tracking.flow import DualFlow, flow
from ctaflows.tracking.task import task

pytestmark = pytest.mark.usefixtures("prefect_server")

DESCRIPTIONS = {"n": "How many: from 0 on.", "times": "The factor, two unless given."}


def described(schema: dict) -> dict[str, str]:
    return {name: field.get("description") for name, field in schema["properties"].items()}


def test_a_plain_call_leaves_no_run(prefect_server, sums):
    before = len(prefect_server.flow_runs(auto_scheduled=False))
    assert sums.sum_doubles(4) == 12
    assert sums.outer_flow(4) == 14
    assert len(prefect_server.flow_runs(auto_scheduled=False)) == before


def test_tracked_is_a_flow_run_with_task_runs(prefect_server, sums, monkeypatch):
    monkeypatch.setenv("CTAFLOWS_TRACK", "never")
    assert sums.sum_doubles.tracked(3, times=5) == 15
    (run,) = prefect_server.flow_runs(name="sum-doubles-3", parameters={"n": 3, "times": 5})
    assert run.state.name == "Completed"
    tasks = prefect_server.task_runs(run.id, 3)
    assert [(t.state.name, t.tags) for t in tasks] == [("Completed", ["sample"])] * 3


def test_always_and_with_options_ask_for_tracking(prefect_server, sums, monkeypatch):
    assert sums.sum_doubles.with_options(flow_run_name="with-options")(1) == 0
    assert len(prefect_server.flow_runs(name="with-options")) == 1
    monkeypatch.setenv("CTAFLOWS_TRACK", "always")
    assert sums.sum_doubles(7) == 42
    assert len(prefect_server.flow_runs(name="sum-doubles-7")) == 1


def test_a_flow_in_a_flow_is_a_subflow(prefect_server, sums):
    state = sums.outer_flow.tracked(5, return_state=True)
    assert state.result() == 22
    outer_id = state.state_details.flow_run_id
    (inner,) = prefect_server.flow_runs(name="sum-doubles-5")
    runs = {run.id: run.name for run in prefect_server.task_runs(outer_id, 2)}
    assert inner.parent_task_run_id in runs
    assert inner.state.name == "Completed"
    assert {name.rpartition("-")[0] for name in runs.values()} == {"sum-doubles", "double-it"}
    assert len(prefect_server.task_runs(inner.id, 5)) == 5


def test_plain_tracks_nothing_inside_a_run(prefect_server, sums):
    from prefect.runtime import flow_run

    @flow
    def compose() -> tuple[str, int]:
        return flow_run.id, sums.outer_flow.plain(6) + sums.double(100)

    flow_run_id, value = compose.tracked()
    assert value == 232
    assert len(prefect_server.task_runs(flow_run_id, 1)) == 1
    assert not prefect_server.flow_runs(name="sum-doubles-6")


def test_a_failing_flow_says_so(prefect_server):
    @flow(flow_run_name="fails")
    def fails() -> None:
        raise ValueError("no data")

    with pytest.raises(ValueError, match="no data"):
        fails.tracked()
    (run,) = prefect_server.flow_runs(name="fails")
    assert run.state.name == "Failed"
    with pytest.raises(ValueError, match="no data"):
        fails()


def test_it_is_a_prefect_flow(sums):
    import prefect

    assert isinstance(sums.sum_doubles, prefect.Flow)
    assert isinstance(sums.sum_doubles, DualFlow)
    assert not isinstance(sums.sum_doubles, prefect.Task)
    assert sums.sum_doubles.fn(2) == 2
    assert sums.outer_flow.name == sums.outer_flow.real.name == "outer-flow"
    assert sums.sum_doubles.description == "Add up doubled numbers."
    assert described(sums.sum_doubles.parameters.model_dump()) == DESCRIPTIONS


def test_drawing_a_flow_runs_no_task():
    ran = []

    @task(viz_return_value=1)
    def touch() -> int:
        ran.append(1)
        return 1

    @flow
    def compose() -> int:
        return touch() + touch()

    assert "touch-1" in compose.generate_mermaid_graph()
    assert ran == []


@pytest.mark.parametrize(
    "entrypoint", ["flows_of_mine/sums.py:sum_doubles", "flows_of_mine.sums.sum_doubles"]
)
def test_prefect_loads_it(project, monkeypatch, entrypoint):
    from prefect.flows import load_flow_arguments_from_entrypoint, load_flow_from_entrypoint

    monkeypatch.chdir(project)
    loaded = load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
    assert loaded.name == "sum-doubles"
    assert type(loaded) is DualFlow or loaded.fn(2) == 2
    assert load_flow_arguments_from_entrypoint(entrypoint)["name"] == "sum-doubles"


def trigger(name: str, **parameters: int):
    from prefect.deployments import run_deployment

    return run_deployment(name, parameters=parameters or None, timeout=0)


@pytest.fixture
def deployed(prefect_server, project, monkeypatch):
    """Deploy the sample's flow as a user does, by its path and by its module."""
    monkeypatch.chdir(project)
    prefect_server.make_pool("here")
    prefect_server.ask("deploy", "--all")


@pytest.mark.parametrize(
    ("name", "parameters", "n"),
    [("by-path", {}, 3), ("by-module", {"n": 1}, 1)],
    ids=["by-path", "by-module"],
)
def test_deployed_it_runs(prefect_server, deployed, name, parameters, n):
    from prefect.flow_engine import load_flow_and_flow_run, run_flow

    with prefect_server.client as client:
        schema = client.read_deployment_by_name(f"sum-doubles/{name}").parameter_openapi_schema
    assert described(schema) == DESCRIPTIONS
    # as in the process that a worker begins
    flow_run, loaded = load_flow_and_flow_run(trigger(f"sum-doubles/{name}", **parameters).id)
    run_flow(loaded, flow_run=flow_run, parameters=flow_run.parameters)
    assert prefect_server.finished(flow_run.id).state.name == "Completed"
    tasks = prefect_server.task_runs(flow_run.id, n)
    assert [task.state.name for task in tasks] == ["Completed"] * n


@pytest.mark.servers
def test_deployed_a_worker_runs_it(prefect_server, deployed, project):
    runs = {trigger("sum-doubles/by-path").id: 3, trigger("sum-doubles/by-module", n=1).id: 1}
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "here"]
    log = prefect_server.home / "worker.log"
    with process([*command, "--type", "process"], log, cwd=project):
        for run_id, n_tasks in runs.items():
            assert prefect_server.finished(run_id).state.name == "Completed", log.read_text()
            tasks = prefect_server.task_runs(run_id, n_tasks)
            assert [task.state.name for task in tasks] == ["Completed"] * n_tasks


@pytest.mark.servers
def test_served_it_runs(prefect_server, project):
    log = prefect_server.home / "serve.log"
    with process([sys.executable, "flows_of_mine/sums.py"], log, cwd=project):

        def deployment():
            with prefect_server.client as client:
                return [d for d in client.read_deployments() if d.name == "served"]

        (served,) = wait_until(deployment, "the served deployment")
        assert described(served.parameter_openapi_schema) == DESCRIPTIONS
        run_id = trigger("sum-doubles/served", n=2).id
        assert prefect_server.finished(run_id).state.name == "Completed", log.read_text()
        assert len(prefect_server.task_runs(run_id, 2)) == 2
