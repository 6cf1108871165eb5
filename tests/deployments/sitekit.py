"""A site as an operator sets it up (Prefect server, door, workers), and queries for tests."""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
import zoneinfo
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serverkit import PrefectServer, process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from realpostgres import Database

    from ctaflows.sandbox import Sandbox

DEPLOYMENTS = Path(__file__).parents[2] / "deployments"
#: A night of 110 files: two batches.
NIGHT = dt.date(2024, 11, 14)
N_FILES = 110


def last_night() -> dt.date:
    """Return yesterday's date at the site."""
    return dt.datetime.now(zoneinfo.ZoneInfo("Atlantic/Canary")).date() - dt.timedelta(days=1)


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return an environment that has nothing but this Python."""
    ours = ("CTAFLOWS_", "PREFECT", "BEARER_TOKEN", "XDG_", "SLURM_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    path = f"{Path(sys.executable).parent}:{env.get('PATH', os.defpath)}"
    return {**env, "HOME": str(home), "PATH": path, **more}


@dataclass
class Site(PrefectServer):
    """A Prefect server on PostgreSQL, a door, and the environment of their users."""

    door: Sandbox
    env: dict[str, str]
    database: Database

    @property
    def nights(self) -> Path:
        """Directory into which the deployment fetches nights."""
        return Path(self.env["CTAFLOWS_DATA"]) / "nights"

    @contextmanager
    def worker(self, pool: str, **env: str) -> Iterator[Path]:
        """Start a worker on a pool for the block; yields its log."""
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool]
        log = self.home / f"worker-{pool}.log"
        with process(command, log, env={**self.env, **env}, cwd=self.home):
            yield log

    def deployments(self) -> dict[str, Any]:
        """Return all deployments by ``FLOW/NAME``."""
        with self.client as client:
            flows = {flow.id: flow.name for flow in client.read_flows()}
            return {f"{flows[d.flow_id]}/{d.name}": d for d in client.read_deployments()}

    def trigger(self, name: str, *words: str) -> Any:
        """Run ``prefect deployment run``, and return the flow run."""
        before = {run.id for run in self.flow_runs(auto_scheduled=False)}
        self.cli("deployment", "run", name, *words)
        (run,) = (r for r in self.flow_runs(auto_scheduled=False) if r.id not in before)
        return run

    def n_batches(self, run: Any) -> int:
        """Wait for the task runs of a flow run, and return how many of them fetched."""
        # one lists, one records the run; of two batches each one fetches and one looks into files
        tasks = self.task_runs(run.id, 6)
        assert {t.state.name for t in tasks} == {"Completed"}
        return sum(t.name.startswith("fetch ") for t in tasks)


def proofs(night: Path) -> list[dict[str, Any]]:
    """Return the lines of a night's manifest."""
    return [json.loads(line) for line in (night / "manifest.jsonl").read_text().splitlines()]


def assert_whole(night: Path, n_files: int = N_FILES) -> None:
    """Check that a night was fetched completely, and that each file is verified."""
    assert len(list(night.rglob("*.h5"))) == n_files
    told = proofs(night)
    assert len(told) == n_files
    assert all(line["verified"] for line in told)
