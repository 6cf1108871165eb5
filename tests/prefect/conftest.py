"""Fixtures: a real Prefect server on SQLite for the session, and a project with sample flows."""

from __future__ import annotations

import copy
import os
import shutil
import sqlite3
import sys
import urllib.request
from contextlib import closing
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
from serverkit import PrefectServer, free_port, process, wait_until

from ctaflows.sandbox.server import Certificates

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SAMPLE = '''
from __future__ import annotations

import os
import threading

from ctaflows.tracking.flow import flow
from ctaflows.tracking.task import get_logger, task, unmapped


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


def remember_schemas(patch: pytest.MonkeyPatch) -> None:
    """Let a block's schema be made once: Prefect makes it 150 times to save one (3.9.1)."""
    from prefect.blocks.core import Block

    real, made = Block.model_json_schema.__func__, {}

    def remembered(cls: type[Block], *args: Any, **kwargs: Any) -> dict[str, Any]:
        key = cls, repr((args, sorted(kwargs.items())))
        if key not in made:
            made[key] = real(cls, *args, **kwargs)
        return copy.deepcopy(made[key])

    patch.setattr(Block, "model_json_schema", classmethod(remembered))


def copy_migrated(kept: Path, database: Path) -> None:
    """Begin with the database that is kept, unless there is none; remove one that is damaged."""
    try:
        shutil.copyfile(kept, database)
        with closing(sqlite3.connect(database)) as connection:
            (told,) = connection.execute("PRAGMA integrity_check").fetchone()
            (of,) = connection.execute("SELECT count(*) FROM alembic_version").fetchone()
        if told == "ok" and of:
            return
    except FileNotFoundError:
        return
    except sqlite3.DatabaseError:
        pass
    kept.unlink(missing_ok=True)
    database.unlink(missing_ok=True)


def keep_migrated(database: Path, kept: Path) -> None:
    """Keep a copy of the database of a server that runs: whole, or none."""
    part = kept.with_name(f"{kept.name}.{os.getpid()}")
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(part)) as copy_:
        source.backup(copy_)
    part.replace(kept)


@pytest.fixture(scope="session")
def migrated(request: pytest.FixtureRequest) -> Path:
    """Where a database is kept between sessions, as this version of Prefect makes it.

    Its migrations, from the first to the last, take 10 s of a core (3.9.1).
    """
    return request.config.cache.mkdir("prefect") / f"migrated-{version('prefect')}.db"


@pytest.fixture(scope="session")
def prefect_server(
    tmp_path_factory: pytest.TempPathFactory, migrated: Path
) -> Iterator[PrefectServer]:
    """A Prefect server of its own home and database, and the session's settings pointing at it."""
    home = tmp_path_factory.mktemp("prefect-home")
    copy_migrated(migrated, home / "prefect.db")
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    settings = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        # Each client reads its authorities anew: 40 ms for the hundred of certifi.
        "PREFECT_API_SSL_CERT_FILE": str(Certificates(home, "localhost").ca_file),
        # Events can be asked for so soon after they came, not after 5 s.
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "0.2",
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

            wait_until(healthy, "the Prefect server's health", 240)
            if not migrated.exists():
                keep_migrated(home / "prefect.db", migrated)
            # Settings are read when Prefect is imported, which may be long ago.
            from prefect import settings as known

            names = ("PREFECT_API_URL", "PREFECT_HOME", "PREFECT_API_SSL_CERT_FILE")
            ours = {getattr(known, name): settings[name] for name in names}
            remember_schemas(patch)
            with known.temporary_settings(ours):
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
