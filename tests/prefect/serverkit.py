"""Queries of a Prefect server, and processes in the background."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def wait_until(ask: Callable[[], Any], what: str, timeout_s: float = 240) -> Any:
    """Wait for a condition: the server stores task runs some time after they ended.

    The limit only ends what hangs: a worker on a busy machine needs a minute to begin.
    """
    deadline = time.monotonic() + timeout_s
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        time.sleep(0.1)
    return answer


@contextmanager
def process(command: list[str], log: Path, **kwargs) -> Iterator[subprocess.Popen]:
    """Run a command in the background; end it, and what it started, at the end of the block."""
    with log.open("ab") as out:
        child = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, **kwargs
        )
        try:
            yield child
        finally:
            for how in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(child.pid, how)
                    child.wait(10)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    continue


@dataclass
class PrefectServer:
    """The URL of a Prefect server, and queries of its database."""

    url: str
    home: Path

    @property
    def client(self):
        # by its address: in a new thread the settings of the session are not known
        from prefect.client.orchestration import SyncPrefectClient

        return SyncPrefectClient(self.url)

    def flow_runs(self, **where):
        """Flow runs with the given attributes."""
        with self.client as client:
            runs = client.read_flow_runs()
        return [run for run in runs if all(getattr(run, k) == v for k, v in where.items())]

    def task_runs(self, flow_run_id, n: int):
        """Wait until `n` task runs of a flow run have ended, and return them by name."""
        from prefect.client.schemas.filters import FlowRunFilter

        wanted = FlowRunFilter(id={"any_": [flow_run_id]})

        def ask():
            runs = client.read_task_runs(flow_run_filter=wanted)
            return len(runs) >= n and all(r.state and r.state.is_final() for r in runs) and runs

        with self.client as client:  # one for all questions: to make it costs more than they do
            runs = wait_until(ask, f"{n} finished task runs of {flow_run_id}")
        return sorted(runs, key=lambda run: run.name)

    def finished(self, flow_run_id, log: Path | None = None):
        """Wait until a flow run has ended, and return it; show the log where it does not end."""

        def ask():
            run = client.read_flow_run(flow_run_id)
            return run.state and run.state.is_final() and run

        try:
            with self.client as client:
                return wait_until(ask, f"the end of flow run {flow_run_id}")
        except AssertionError:
            print(log.read_text() if log else "", file=sys.stderr)
            raise

    def make_pool(self, name: str) -> None:
        """Make a work pool for processes of this machine, unless there is one."""
        from prefect.client.schemas.actions import WorkPoolCreate

        with self.client as client:
            client.create_work_pool(WorkPoolCreate(name=name, type="process"), overwrite=True)

    def ask(self, *words: str) -> str:
        """Run ``prefect WORDS`` in this process, and return its output."""
        from prefect.testing.cli import CycloptsCliRunner

        done = CycloptsCliRunner().invoke(["--no-prompt", *words])
        assert done.exit_code == 0, done.output
        return done.output

    def cli(self, *words: str, cwd: Path | None = None) -> str:
        """Run ``prefect WORDS`` as a process, and return its output."""
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *words],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
