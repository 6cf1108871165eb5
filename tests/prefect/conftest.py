"""A real Prefect server on SQLite for the session, and a project folder with the sample's flows."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SAMPLE = '''
from __future__ import annotations

import os
import threading

from ctaflows.flow import flow
from ctaflows.task import get_logger, task, unmapped


@task(name="double-it", tags=["sample"], retries=1, retry_delay_seconds=0)
def double(x: int, times: int = 2) -> int:
    """Multiply."""
    get_logger("sample").info("doubling %d", x)
    return x * times


LOCK = threading.Lock()  # cannot be pickled, so whoever pickles pid_of by value fails


@task
def pid_of(x: int) -> tuple[int, int]:
    with LOCK:
        return double(x), os.getpid()


@flow(name="sum-doubles", flow_run_name="sum-doubles-{n}")
def sum_doubles(n: int, times: int = 2) -> int:
    """Add up doubled numbers.

    Parameters
    ----------
    n : int
        How many: from 0 on.
    times : int, optional
        The factor,
        two unless given.

    Returns
    -------
    int
        The sum.
    """
    return sum(double.map(range(n), unmapped(times)).result())


@flow
def outer_flow(n: int) -> int:
    return sum_doubles(n) + double(1)


if __name__ == "__main__":
    sum_doubles.serve(name="served", print_starting_message=False)
'''

PREFECT_YAML = """
pull:
- prefect.deployments.steps.set_working_directory: {{directory: "{directory}"}}
deployments:
- name: by-path
  entrypoint: flows_of_mine/sums.py:sum_doubles
  parameters: {{n: 3}}
  work_pool: {{name: here}}
- name: by-module
  entrypoint: flows_of_mine.sums.sum_doubles
  parameters: {{n: 2}}
  work_pool: {{name: here}}
"""


def wait_until(ask: Callable[[], Any], what: str, timeout_s: float = 60) -> Any:
    """Ask until the answer is true; the server takes in task runs some time after they ended."""
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
    """Where the server is, and what its database says."""

    url: str
    home: Path

    @property
    def client(self):
        from prefect.client.orchestration import get_client

        return get_client(sync_client=True)

    def flow_runs(self, **where):
        """Flow runs with the given attributes."""
        with self.client as client:
            runs = client.read_flow_runs()
        return [run for run in runs if all(getattr(run, k) == v for k, v in where.items())]

    def task_runs(self, flow_run_id, n: int):
        """Wait until the database has `n` task runs of a flow run, all over; give them by name."""
        from prefect.client.schemas.filters import FlowRunFilter

        def ask():
            with self.client as client:
                runs = client.read_task_runs(
                    flow_run_filter=FlowRunFilter(id={"any_": [flow_run_id]})
                )
            return len(runs) >= n and all(r.state and r.state.is_final() for r in runs) and runs

        runs = wait_until(ask, f"{n} finished task runs of {flow_run_id}")
        return sorted(runs, key=lambda run: run.name)

    def finished(self, flow_run_id):
        """Wait until a flow run is over; give it."""

        def ask():
            with self.client as client:
                run = client.read_flow_run(flow_run_id)
            return run.state and run.state.is_final() and run

        return wait_until(ask, f"the end of flow run {flow_run_id}")

    def cli(self, *words: str, cwd: Path | None = None) -> str:
        """Run ``prefect WORDS``; give its output."""
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *words],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A Prefect server of its own home and database, and the session's settings pointing at it."""
    home = tmp_path_factory.mktemp("prefect-home")
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    settings = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        # A worker and a served flow look for runs this often.
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        patch.delenv("CTAFLOWS_TRACK", raising=False)
        command = [sys.executable, "-m", "prefect", "server", "start", "--no-ui"]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        log = home / "server.log"
        with process(command, log) as child:

            def healthy() -> bool:
                assert child.poll() is None, log.read_text()
                try:
                    with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
                        return answer.status == 200
                except OSError:
                    return False

            wait_until(healthy, "the Prefect server's health", 90)
            # Settings are read when Prefect is imported, which may be long ago.
            from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

            with temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: home}):
                yield PrefectServer(url, home)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder as a user has it: prefect.yaml, and flows in an importable package."""
    folder = tmp_path_factory.mktemp("project")
    package = folder / "flows_of_mine"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "sums.py").write_text(SAMPLE)
    (folder / "prefect.yaml").write_text(PREFECT_YAML.format(directory=folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        yield folder


@pytest.fixture(scope="session")
def sums(project: Path):
    """The sample's module."""
    import flows_of_mine.sums as module

    return module
