"""Runs that are cancelled or killed, and a server that is away: what is done is kept."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from controlkit import (
    FOLDER,
    REPOSITORY,
    SLOW,
    SLOW_BYTES,
    arrived,
    begin,
    cancel,
    deploy,
    make_night,
    parts_bytes,
    processes_below,
    seconds_until,
)
from serverkit import process, wait_until

from ctaflows.flows.fetch_dl1 import fetch_dl1
from ctaflows.sandbox import faults
from ctaflows.tasks import fetch_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ctaflows.sandbox import Sandbox

#: Prefect kills a flow's process 30 s after it has asked it to end.
KILLED_AFTER_S = 30
SERVED = """
from ctaflows.flows.fetch_dl1 import fetch_dl1

if __name__ == "__main__":
    fetch_dl1.serve(name="served-night", print_starting_message=False)
"""


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the pieces in which the slow file was sent."""
    pieces: list[int] = []
    real = faults._dripped

    def counted(*args: Any) -> Iterator[bytes]:
        for piece in real(*args):
            pieces.append(len(piece))
            yield piece

    monkeypatch.setattr(faults, "_dripped", counted)
    return pieces


def worker(pool: str) -> list[str]:
    return [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool]


def is_moving(folder: Path, log: Path) -> None:
    """Wait until the slow file has begun to come and all others are there."""
    try:
        wait_until(lambda: parts_bytes(folder) > 300_000 and len(arrived(folder)) == 4, "bytes")
    except AssertionError:
        print(log.read_text(), file=sys.stderr)
        raise


def cancel_and_look(server: Any, run_id: Any, here: Path, log: Path, above: int) -> None:
    is_moving(here, log)
    assert processes_below(above)
    cancel(server, run_id)
    seconds = seconds_until(lambda: not processes_below(above))
    print(f"{seconds:.1f} s from cancel to the end of the flow's process")
    assert seconds < KILLED_AFTER_S / 2, log.read_text()
    run = server.finished(run_id, log)
    assert run.state.is_cancelled(), run.state
    assert 300_000 < parts_bytes(here) < SLOW_BYTES
    (task,) = [t for t in server.task_runs(run_id, 2) if t.name.startswith("fetch ")]
    assert "Stopped" in task.state.message


@pytest.mark.servers
def test_a_run_of_a_worker_is_cancelled_and_one_is_killed(
    prefect_server: Any, box: Sandbox, here: Path, tmp_path: Path, sent: list[int]
) -> None:
    night = make_night(box, rate_bytes_s=150_000)
    log = tmp_path / "worker.log"
    wanted = {"date": "20241114", "dest": str(here), "inspect": False}
    deployment_id = deploy(prefect_server, "controlled", "control", **wanted)
    with process(worker("control"), log, cwd=here) as child:
        run_id = begin(prefect_server, deployment_id)
        cancel_and_look(prefect_server, run_id, here, log, child.pid)
        before = parts_bytes(here)
        box.faults.clear()
        box.faults.add("slow", times=None, server="pool", rate_bytes_s=300_000)
        begin(prefect_server, deployment_id)
        wait_until(lambda: parts_bytes(here) > before + 600_000, "bytes of the second run")
        of_the_run = processes_below(child.pid)
        child.kill()
        for pid in of_the_run:
            os.kill(pid, signal.SIGKILL)
    here_bytes = parts_bytes(here)
    assert before < here_bytes < SLOW_BYTES
    box.faults.clear()
    box.faults.add("slow", times=None, server="pool", rate_bytes_s=100_000_000)
    with process(worker("control"), log, cwd=here):
        done = prefect_server.finished(begin(prefect_server, deployment_id), log)
    assert done.state.is_completed(), log.read_text()
    assert arrived(here) == night
    last = json.loads((here / "20241114" / "manifest.jsonl").read_text().splitlines()[-1])
    assert last["resumed_bytes"] == here_bytes
    twice = sum(sent) - SLOW_BYTES
    print(f"{twice} of {SLOW_BYTES} bytes twice: {twice / SLOW_BYTES:.2%}")
    assert twice <= SLOW_BYTES / 100


@pytest.mark.servers
def test_a_served_run_is_cancelled(
    prefect_server: Any, box: Sandbox, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_night(box, rate_bytes_s=100_000)
    script, log = tmp_path / "served.py", tmp_path / "served.log"
    script.write_text(SERVED)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY), prepend=os.pathsep)
    with process([sys.executable, str(script)], log, cwd=here) as child:

        def deployment() -> Any:
            with prefect_server.client as client:
                return [d for d in client.read_deployments() if d.name == "served-night"]

        (served,) = wait_until(deployment, "the served deployment")
        with prefect_server.client as client:
            run_id = client.create_flow_run_from_deployment(
                served.id, parameters={"date": "20241114", "dest": str(here), "inspect": False}
            ).id
        cancel_and_look(prefect_server, run_id, here, log, child.pid)


@pytest.mark.parametrize("is_task", [True, False], ids=["submitted", "direct"])
def test_an_interrupted_flow_of_a_user_stops_its_transfers(
    prefect_server: Any, box: Sandbox, here: Path, is_task: bool
) -> None:
    """Any interruption of the main thread, in a flow that is none of ours."""
    import prefect
    from prefect.exceptions import TerminationSignal

    night = make_night(box, rate_bytes_s=100_000)
    paths = [f"{FOLDER}/{name}" for name in night]

    @prefect.flow(name="of-a-user")
    def of_a_user() -> None:
        if is_task:
            fetch_files.submit(paths, here).result()
        else:
            fetch_files(paths, here)

    def terminate() -> None:
        wait_until(lambda: parts_bytes(here) > 300_000, "bytes")
        signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)

    def quiet(*_: object) -> None:
        """Prefect signals once more, for whoever was there before."""

    before = signal.signal(signal.SIGTERM, quiet)
    stopper = threading.Thread(target=terminate)
    stopper.start()
    try:
        with pytest.raises(TerminationSignal):
            of_a_user()
    finally:
        signal.signal(signal.SIGTERM, before)
    stopper.join()
    assert 300_000 < parts_bytes(here) < SLOW_BYTES
    size = parts_bytes(here)
    box.faults.clear()
    with_more = fetch_dl1.plain("20241114", dest=str(here / "again"), inspect=False)
    assert not with_more.failed
    assert parts_bytes(here) == size


@pytest.mark.slow
def test_a_task_in_another_process_ends_with_its_run(
    prefect_server: Any, box: Sandbox, here: Path
) -> None:
    """As on a Dask cluster: no signal of the flow's process reaches it."""
    import prefect
    from prefect.runtime import flow_run
    from prefect.task_runners import ProcessPoolTaskRunner

    make_night(box, rate_bytes_s=100_000)

    def cancel_when_moving(run_id: Any) -> None:
        wait_until(lambda: parts_bytes(here) > 300_000, "bytes")
        cancel(prefect_server, run_id)

    @prefect.flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
    def spread() -> str:
        canceller = threading.Thread(target=cancel_when_moving, args=(flow_run.id,))
        canceller.start()
        future = fetch_files.submit([SLOW], here)
        future.wait()
        canceller.join()
        return str(future.state.message)

    assert "Stopped" in spread()
    assert 300_000 < parts_bytes(here) < SLOW_BYTES / 2
