"""The throwaway PostgreSQL and Slurm: they answer, name what is missing, leave nothing behind."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import realpostgres
import realslurm
import serverprocess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


#: As in conftest.py: set by .ci/run where it has installed the servers.
REQUIRED = os.environ.get("STORAGE_SERVERS") == "required"


def started(make: Callable[..., Any], *args: object) -> Any:
    """Start a server, or skip the test that wants it."""
    try:
        return make(*args)
    except serverprocess.Missing as why:
        if REQUIRED:
            raise
        pytest.skip(str(why))


def alive(home: Path) -> list[str]:
    """Give the processes that have a folder in their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            found += [words] if str(home) in words else []
    return found


@pytest.fixture
def slurm() -> Iterator[realslurm.Slurm]:
    with started(realslurm.slurm) as cluster:
        yield cluster


@pytest.mark.servers
def test_a_database_is_ours_alone_and_ends(tmp_path: Path) -> None:
    database = started(realpostgres.postgres, tmp_path / "postgres")
    assert database.psql("select 6 * 7") == "42"
    database.password, password = "another", database.password
    with pytest.raises(RuntimeError, match="password authentication failed"):
        database.psql("select 1")
    assert password not in " ".join(alive(tmp_path))
    assert alive(tmp_path)
    database.stop()
    assert alive(tmp_path) == []
    database.stop()


def test_a_cluster_runs_jobs_and_ends_with_them(slurm: realslurm.Slurm) -> None:
    assert slurm.run("srun", "--job-name=one", "echo", "here") == "here\n"
    (job,) = slurm.jobs("one")
    assert (job["Partition"], job["ExitCode"]) == ("cpu", "0:0")
    with pytest.raises(RuntimeError, match="nvalid partition"):
        slurm.run("srun", "--partition=nonesuch", "true")
    slurm.run("sbatch", "--output=/dev/null", "--wrap", f"sleep 600 # {slurm.home}")
    slurm.stop()
    assert alive(slurm.home) == []
    assert not slurm.home.exists()
    slurm.stop()


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(serverprocess.shutil, "which", lambda *a, **k: None)
    monkeypatch.setattr(realpostgres, "PROGRAMS", tmp_path)
    with pytest.raises(realpostgres.Missing, match="package postgresql is"):
        realpostgres.postgres(tmp_path / "postgres")
    with pytest.raises(realslurm.Missing, match="package munge is"):
        realslurm.slurm()
