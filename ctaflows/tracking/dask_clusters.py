"""Configuration of a flow's Dask cluster: local, at an address, or made of Slurm jobs."""

from __future__ import annotations

import os
import re
import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ctaflows.errors import NetworkError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping


#: Longest wait for a connection to a scheduler, seconds.
ANSWER_S = 10.0


def reach(address: str) -> None:
    """Check that a scheduler's address accepts connections.

    Raises
    ------
    NetworkError
        It does not.
    """
    parts = urlsplit(address)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=ANSWER_S):
            return
    except OSError as why:
        raise no_scheduler(address, str(why)) from why


def no_scheduler(address: str, said: str) -> NetworkError:
    """Return the error for an address at which no scheduler answers."""
    return NetworkError(
        "No Dask scheduler answers",
        where=address,
        said=said,
        hint="Start one (dask scheduler), or mend the address after dask:.",
    )


def find_slurm() -> None:
    """Check that Slurm's ``sbatch`` is installed on this machine.

    Raises
    ------
    UsageError
        It is not.
    """
    if shutil.which("sbatch") is None:
        raise UsageError(
            "The task runner “slurm” submits jobs, and there is no sbatch here",
            hint="Run the flow, or its worker, on a machine from which you can submit jobs.",
        )


#: TLS with certificates of its own: a client that can connect to a cluster runs code as this user.
_PRIVATE: dict[str, Any] = {"security": True, "protocol": "tls://"}


LOCAL: dict[str, Any] = {**_PRIVATE, "dashboard_address": "127.0.0.1:0"}


@dataclass(frozen=True)
class SlurmJobs:
    """The Slurm jobs that are a cluster's workers; None leaves a value to dask-jobqueue.

    Attributes
    ----------
    queue, account, interface : str or None
        As for ``dask_jobqueue.SLURMCluster``.
    walltime : str or None
        Time limit of a job, ``HH:MM:SS``; by default 4 h.
    cores : int
        CPUs of a job, and the number of tasks it runs at once; by default 2.
    memory : str
        Memory of a job; by default ``4GB``.
    least, most : int
        Number of jobs, by default 2; where the two differ it adapts to the work there is.
    folder : Path
        Folder on a file system that all nodes share, for logs and the cluster's certificates.
    """

    queue: str | None = None
    account: str | None = None
    cores: int = 2
    memory: str = "4GB"
    walltime: str | None = "04:00:00"
    interface: str | None = None
    least: int = 2
    most: int = 2
    folder: Path = field(default_factory=lambda: Path.home() / ".cache/ctaflows/slurm")

    @classmethod
    def from_environment(cls, env: Mapping[str, str] | None = None) -> SlurmJobs:
        """Return the jobs that the variables ``CTAFLOWS_SLURM_*`` describe.

        Parameters
        ----------
        env : Mapping, optional
            Environment variables; by default those of this process.

        Raises
        ------
        UsageError
            A number of cores or jobs is invalid.
        """
        env = os.environ if env is None else env
        given = {
            name: value.strip()
            for name in ("queue", "account", "memory", "walltime", "interface")
            if (value := env.get(f"CTAFLOWS_SLURM_{name.upper()}", "")).strip()
        }
        values: dict[str, Any] = dict(given)
        if cores := env.get("CTAFLOWS_SLURM_CORES"):
            values["cores"], _ = _range("CTAFLOWS_SLURM_CORES", cores, may_differ=False)
        if jobs := env.get("CTAFLOWS_SLURM_JOBS"):
            values["least"], values["most"] = _range("CTAFLOWS_SLURM_JOBS", jobs)
        if folder := env.get("CTAFLOWS_SLURM_FOLDER"):
            values["folder"] = Path(folder).expanduser().absolute()
        return cls(**values)

    def cluster(self) -> dict[str, Any]:
        """Return the arguments of ``dask_jobqueue.SLURMCluster``, without the number of jobs."""
        values: dict[str, Any] = {
            "queue": self.queue,
            "account": self.account,
            "cores": self.cores,
            # one process, whose tasks share connections and what is known of the storage
            "processes": 1,
            "memory": self.memory,
            "walltime": self.walltime,
            "interface": self.interface,
            "job_name": "ctaflows",
            "log_directory": str(self.folder),
            "scheduler_options": {"dashboard_address": ":0"},
            **_PRIVATE,
        }
        return {name: value for name, value in values.items() if value is not None}


def _range(name: str, text: str, *, may_differ: bool = True) -> tuple[int, int]:
    """Return the least and the greatest number in ``4`` or ``1-8``."""
    found = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", text.strip())
    least = int(found[1]) if found else 0
    most = int(found[2]) if found and found[2] else least
    if most < 1 or most < least or (most != least and not may_differ):
        kind = "a number of at least 1" + (", or two such as 1-8" if may_differ else "")
        raise UsageError(f"{name} can't be “{text}”", hint=f"It must be {kind}.")
    return least, most
