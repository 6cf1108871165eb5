"""Fixtures: one site for all these tests, a Prefect server on PostgreSQL, a door, a worker.

Nothing of it is in the environment of other tests: `server` points a test's own process at it.
"""

from __future__ import annotations

import os
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# what these folders of tests have for starting servers
sys.path.insert(0, str(Path(__file__).parents[1] / "prefect"))
sys.path.insert(0, str(Path(__file__).parents[1] / "servers"))

import realpostgres
import realslurm
from nights import make_night
from serverkit import process, wait_until
from serverprocess import Missing, free_ports
from sitekit import DEPLOYMENTS, N_FILES, NIGHT, Site, environment, last_night

from ctaflows.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from realpostgres import Database
    from realslurm import Slurm

#: Set by .ci/run where it has installed the servers: then nothing is skipped.
REQUIRED = os.environ.get("STORAGE_SERVERS") == "required"


def started(make: Callable[..., Any], *args: object) -> Any:
    """Start a server, or skip the test that needs it."""
    try:
        return make(*args)
    except Missing as why:
        if REQUIRED:
            raise
        pytest.skip(str(why))


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with started(realpostgres.postgres, tmp_path_factory.mktemp("postgres")) as database:
        yield database


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    with started(realslurm.slurm) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def door() -> Iterator[Sandbox]:
    """A door with an old night and last night."""
    with Sandbox() as box:
        make_night(box.storage, NIGHT, runs=(11111,), subruns=(N_FILES // 2,), events=5)
        make_night(box.storage, last_night(), subruns=(2, 1), events=5)
        yield box


@pytest.fixture(scope="session")
def site(
    database: Database, door: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("site")
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/api"
    env = environment(
        home,
        PREFECT_HOME=str(home / "prefect"),
        PREFECT_API_URL=url,
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        PREFECT_LOGGING_LEVEL="WARNING",
        PREFECT_WORKER_QUERY_SECONDS="1",
        CTAFLOWS_CONFIG_DIR=str(door.config_dir),
        CTAFLOWS_BACKOFF_S="0.01",
        CTAFLOWS_ATTEMPTS="5",
        CTAFLOWS_DATA=str(home / "data"),
    )
    command = [sys.executable, "-m", "prefect", "server", "start", "--no-ui"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    secret = {"PREFECT_API_DATABASE_CONNECTION_URL": database.url("postgresql+asyncpg")}
    log = home / "server.log"
    with process(command, log, env={**env, **secret}, cwd=home) as child:

        def healthy() -> bool:
            assert child.poll() is None, log.read_text()
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
                    return answer.status == 200
            except OSError:
                return False

        wait_until(healthy, "the Prefect server's health")
        yield Site(url, home, door, env, database)


@pytest.fixture
def server(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The site, whose addresses are in this process's environment during the test."""
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    for name, value in site.env.items():
        monkeypatch.setenv(name, value)
    home = Path(site.env["PREFECT_HOME"])
    with temporary_settings({PREFECT_API_URL: site.url, PREFECT_HOME: home}):
        yield site


@pytest.fixture(scope="session")
def deployed(site: Site) -> Site:
    """The work pool and all deployments of prefect.yaml, as an operator creates them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in site.env.items():
            patch.setenv(name, value)
        site.cli("work-pool", "create", "ctaflows", "--type", "process")
        site.cli("deploy", "--all", cwd=DEPLOYMENTS)
    return site


@pytest.fixture(scope="session")
def worker(deployed: Site) -> Iterator[Path]:
    """A worker on the pool; yields its log."""
    with deployed.worker("ctaflows") as log:
        yield log
