"""Tasks inside Prefect runs, checked in the server's database."""

from __future__ import annotations

import os
import pickle
import sys

import pytest
from serverkit import process, wait_until

from ctaflows.errors import UsageError
from ctaflows.tracking.flow import flow
from ctaflows.tracking.task import DualTask, get_logger, task, unmapped
from ctaflows.tracking.tracked import tracking

pytestmark = pytest.mark.usefixtures("prefect_server")

hooked: list[str] = []
attempts: list[int] = []


@task(name="fetch-one", tags=["dl1"], retries=2, retry_delay_seconds=0)
def fetch(x: int) -> int:
    attempts.append(x)
    if len(attempts) < 3:
        raise ConnectionError("busy")
    return x * 10


@task(on_failure=[lambda task, run, state: hooked.append(f"{task.name} {state.name}")])
def refuse(x: int) -> int:
    raise UsageError(f"no {x}")


@task(task_run_name="add-{a}-{b}")
def add(a: int, b: int = 1) -> int:
    return a + b


@task
def add_twice(a: int) -> int:
    get_logger("sample").warning("adding to %d", a)
    return add(add(a))


def run_id() -> str:
    from prefect.runtime import flow_run

    return flow_run.id


def test_in_a_flow_it_is_a_task_run(prefect_server):
    attempts.clear()
    hooked.clear()

    @flow
    def compose() -> tuple[str, list[int]]:
        many = add.map([1, 2], unmapped(5)).result()
        again = fetch.with_options(name="fetch-again", tags=["other"], retries=0)
        future = again.submit(fetch(1))
        with pytest.raises(UsageError, match="no 1"):
            refuse(1)
        assert isinstance(again, DualTask)
        assert refuse(2, return_state=True).is_failed()
        return run_id(), [*many, future.result(), add_twice(0)]

    flow_run_id, values = compose.tracked()
    assert values == [6, 7, 100, 2]
    runs = {run.name: run for run in prefect_server.task_runs(flow_run_id, 9)}
    assert {name: run.state.name for name, run in runs.items() if name.startswith("add-")} == {
        "add-0-1": "Completed",
        "add-1-1": "Completed",
        "add-1-5": "Completed",
        "add-2-5": "Completed",
    }
    by_task = {name.rpartition("-")[0]: run for name, run in runs.items()}
    assert by_task["fetch-one"].state.name == "Completed"
    assert by_task["fetch-one"].run_count == 3
    assert by_task["fetch-one"].tags == ["dl1"]
    assert by_task["fetch-one"].empirical_policy.retries == 2
    assert by_task["fetch-again"].tags == ["other"]
    assert by_task["fetch-again"].run_count == 1
    assert by_task["refuse"].state.name == "Failed"
    assert "no " in by_task["refuse"].state.message
    assert hooked == ["refuse Failed"] * 2


def test_never_tracks_no_task_even_in_a_flow(prefect_server):
    @flow
    def compose() -> tuple[str, list[int]]:
        with tracking("never"):
            quiet = [add(1), *add.map([1, 2]).result()]
        return run_id(), [*quiet, add(7)]

    flow_run_id, values = compose.tracked()
    assert values == [2, 2, 3, 8]
    assert [run.name for run in prefect_server.task_runs(flow_run_id, 1)] == ["add-7-1"]


def test_always_tracks_outside_a_flow(prefect_server, monkeypatch):
    monkeypatch.setenv("CTAFLOWS_TRACK", "always")
    name = f"alone-{os.getpid()}"
    alone = add.with_options(task_run_name=name)
    assert alone(1) == 2
    assert alone.submit(2).result() == 3

    def states():
        with prefect_server.client as client:
            runs = [run for run in client.read_task_runs() if run.name == name]
        return [run.state.name for run in runs] == ["Completed"] * 2

    assert wait_until(states, "two task runs")


def test_the_logger_is_the_run_s(prefect_server):
    import prefect

    @flow
    def compose() -> str:
        log = get_logger("sample")
        return f"{log.extra['flow_run_name']} {type(log).__name__}"

    assert compose.with_options(flow_run_name="logged").__call__() == "logged PrefectLogAdapter"
    assert isinstance(compose.real, prefect.Flow)


def test_it_is_a_prefect_task():
    import prefect

    assert isinstance(add, prefect.Task)
    assert isinstance(add.with_options(name="x"), prefect.Task)
    assert not isinstance(add, prefect.Flow)
    assert isinstance(add, DualTask)
    assert fetch.retries == 2
    assert fetch.tags == {"dl1"}
    assert type(add.real) is prefect.Task
    add.version = "7"
    assert add.real.version == "7"


def test_prefect_s_own_unmapped_is_honoured_untracked():
    from prefect import unmapped as theirs
    from prefect.utilities.annotations import quote

    assert task(lambda a, b: (a, b)).map(quote([1, 2]), theirs([3])).result() == [
        (1, [3]),
        (2, [3]),
    ]


def test_it_pickles_for_other_processes(sums):
    import cloudpickle

    for dumps in (pickle.dumps, cloudpickle.dumps):
        assert pickle.loads(dumps(sums.double)) is sums.double
        assert len(dumps(sums.double)) < 200
    script_only = cloudpickle.loads(cloudpickle.dumps(task(name="here")(lambda x: x + 1)))
    assert (script_only.name, script_only(1)) == ("here", 2)


def test_a_script_loaded_by_its_path_pickles_by_value(tmp_path):
    import cloudpickle
    from prefect.utilities.importtools import load_script_as_module

    script = tmp_path / "script_of_mine.py"
    script.write_text(
        "from ctaflows.tracking.task import task\n\n@task\ndef one() -> int:\n    return 1\n"
    )
    one = load_script_as_module(str(script)).one
    sent = cloudpickle.dumps(one)
    assert b"return 1" not in sent
    again = cloudpickle.loads(sent)
    assert again is not one
    assert again() == 1


@pytest.mark.slow
def test_the_process_runner_runs_it(prefect_server, sums):
    from prefect.task_runners import ProcessPoolTaskRunner

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=2))
    def compose() -> tuple[str, list[tuple[int, int]]]:
        return run_id(), [sums.pid_of.submit(4).result(), *sums.pid_of.map([5]).result()]

    flow_run_id, values = compose.tracked()
    assert [value for value, _ in values] == [8, 10]
    assert os.getpid() not in {pid for _, pid in values}
    runs = prefect_server.task_runs(flow_run_id, 4)
    assert [run.name.rpartition("-")[0] for run in runs] == ["double-it"] * 2 + ["pid_of"] * 2
    assert {run.state.name for run in runs} == {"Completed"}


@pytest.mark.servers
def test_it_runs_in_the_background(prefect_server, project, sums):
    future = sums.double.delay(21)
    command = [sys.executable, "-m", "prefect", "task", "serve", "flows_of_mine/sums.py:double"]
    with process(command, prefect_server.home / "task-serve.log", cwd=project):
        future.wait(timeout=240)
        assert future.state.is_completed(), (prefect_server.home / "task-serve.log").read_text()
    assert future.result() == 42
