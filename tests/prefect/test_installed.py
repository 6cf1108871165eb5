"""Installed, beside a folder ``flows/`` of the user's own: each finds its own flows."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from nights import make_night
from serverkit import process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctaflows.sandbox import Sandbox

pytestmark = pytest.mark.servers

REPOSITORY = Path(__file__).parents[2]
#: What is at the top of the repository and of no use to an installation.
OTHERS = (".[!e]*", "__pycache__", "benchmarks", "build", "dist")  # but .editable
FLOWS = {
    "fetch-dl1": "ctaflows.flows.fetch_dl1:fetch_dl1",
    "maintain-token": "ctaflows.flows.maintain_token:maintain_token",
    "mirror": "ctaflows.flows.mirror:mirror",
    "upload-results": "ctaflows.flows.upload_results:upload_results",
    "watch-night": "ctaflows.flows.watch_night:watch_night",
}
MINE = """
from prefect import flow

@flow
def mine() -> int:
    return 1
"""
DEPLOYMENT_OF_MINE = """
- name: mine
  entrypoint: flows.mine.mine
  pull: [{prefect.deployments.steps.set_working_directory: {directory: PROJECT}}]
  work_pool: {name: ctaflows}
"""


def environment() -> dict[str, str]:
    """Give the environment of one who finds ctaflows where it is installed, and nowhere else."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def told(*words: object, cwd: Path | None = None) -> str:
    """Run a command; give what it printed."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def installed_into(folder: Path, *what: object) -> Path:
    """Make a virtual environment with what is installed here, and ctaflows; give its Python."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    purelib = told(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # a .pth file is not read again in the folder that it names: no editable install of this Python
    # counts. The digit has it read before any other
    (Path(purelib) / "0.pth").write_text(sysconfig.get_path("purelib"))
    told(
        sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps",
        "--no-build-isolation", "--ignore-installed", *what,
    )  # fmt: skip
    return python


@pytest.fixture(scope="module", params=["wheel", "wheel of the sdist", "editable clone"])
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an installation."""
    folder = tmp_path_factory.mktemp("installed")
    clone = folder / "clone"
    ignored = shutil.ignore_patterns(*OTHERS)
    shutil.copytree(REPOSITORY, clone, symlinks=True, ignore=ignored)
    if request.param == "editable clone":
        return installed_into(folder / "venv", "-e", clone)
    if request.param == "wheel":
        return installed_into(folder / "venv", clone)
    told(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=clone)
    (sdist,) = folder.glob("*.tar.gz")
    shutil.rmtree(clone)
    return installed_into(folder / "venv", sdist)


@pytest.fixture
def project(here: Path) -> Path:
    """The working folder, with ``flows/`` as a project of Prefect's has it."""
    (here / "flows").mkdir()
    (here / "flows" / "__init__.py").touch()
    (here / "flows" / "mine.py").write_text(MINE)
    return here


@pytest.fixture
def night(box: Sandbox) -> set[str]:
    """A night at the door: the names of its files."""
    files = make_night(box.storage, dt.date(2024, 11, 14), runs=(11111,), subruns=(2,), events=5)
    return {file.name for file in files}


@pytest.mark.parametrize("is_package", [True, False], ids=["package", "without __init__.py"])
def test_the_modules_of_both_are_found(is_package: bool, project: Path, python: Path) -> None:
    if not is_package:
        (project / "flows" / "__init__.py").unlink()
    code = """
import pickle, sys
import flows.mine
from ctaflows.flows.fetch_dl1 import fetch_dl1
print(flows.mine.__file__)
print(fetch_dl1.fn.__module__, pickle.loads(pickle.dumps(fetch_dl1)) is fetch_dl1)
print(*sorted(name for name in sys.modules if name.split(".")[0] == "flows"))
"""
    assert told(python, "-c", code, cwd=project).splitlines() == [
        str(project / "flows" / "mine.py"),
        "ctaflows.flows.fetch_dl1 True",
        "flows flows.mine",
    ]


@pytest.mark.parametrize("how", ["script", "module"])
def test_our_flows_are_listed_and_run(
    how: str, project: Path, python: Path, night: set[str]
) -> None:
    ctaflows = [python.parent / "ctaflows"] if how == "script" else [python, "-m", "ctaflows"]
    found = json.loads(told(*ctaflows, "flows", "--json", cwd=project))
    assert {flow["name"]: flow["entry_point"] for flow in found} == FLOWS
    assert {flow["package"] for flow in found} == {"ctaflows"}
    told(*ctaflows, "run", "fetch-dl1", "--date", "20241114", "--no-track", cwd=project)
    assert {file.name for file in (project / "20241114").rglob("*.h5")} == night


@pytest.fixture
def deployed(
    prefect_server: Any, project: Path, python: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """The deployments of prefect.yaml and one of the user's, by name; deleted at the end."""
    ours = (REPOSITORY / "deployments" / "prefect.yaml").read_text()
    (project / "prefect.yaml").write_text(
        ours + DEPLOYMENT_OF_MINE.replace("PROJECT", str(project))
    )
    monkeypatch.setenv("CTAFLOWS_DATA", str(project))
    prefect = [python, "-m", "prefect", "--no-prompt"]
    told(*prefect, "work-pool", "create", "ctaflows", "--type", "process", "--overwrite")
    with prefect_server.client as client:
        forget(client)  # what other tests have left
    told(*prefect, "deploy", "--all", cwd=project)
    with prefect_server.client as client:
        yield {one.name: one for one in client.read_deployments()}
        forget(client)


def forget(client: Any) -> None:
    """Delete all deployments."""
    for one in client.read_deployments():
        client.delete_deployment(one.id)


def test_the_deployments_of_both_run(
    deployed: dict[str, Any], prefect_server: Any, project: Path, python: Path, night: set[str],
    tmp_path: Path,
) -> None:  # fmt: skip
    entrypoints = {one.entrypoint for one in deployed.values()}
    assert entrypoints == {f.replace(":", ".") for f in FLOWS.values()} | {"flows.mine.mine"}
    with prefect_server.client as client:
        begin = client.create_flow_run_from_deployment
        ours = begin(deployed["night"].id, parameters={"date": "20241114"})
        mine = begin(deployed["mine"].id)
    log = tmp_path / "worker.log"
    worker = [str(python), "-m", "prefect", "worker", "start", "--pool", "ctaflows"]
    with process(worker, log, env=environment(), cwd=project):
        for run in (ours, mine):
            assert prefect_server.finished(run.id, log).state.is_completed(), log.read_text()
    assert {file.name for file in (project / "nights" / "20241114").rglob("*.h5")} == night
