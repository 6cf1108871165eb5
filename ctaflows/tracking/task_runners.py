"""Task runners by a word: where a flow's tasks run is said when it runs, not in its code.

================  =================================================================
``threads``       threads of the flow's own process, as without a word
``dask``          processes on this machine, by a Dask cluster that lives as long as the run
``dask:ADDRESS``  a Dask cluster that is there, such as ``dask:tcp://127.0.0.1:8786``
``slurm``         Slurm jobs, as the workers of a Dask cluster that lives as long as the run
================  =================================================================

The word is that of ``ctaflows run FLOW --runner WORD``, or of ``CTAFLOWS_RUNNER`` in the
environment of the process that runs the flow, such as ``job_variables.env`` of a deployment.

What a Slurm job is, these say: ``CTAFLOWS_SLURM_QUEUE`` (partition), ``…_ACCOUNT``, ``…_CORES``
(2), ``…_MEMORY`` (4GB), ``…_WALLTIME`` (04:00:00), ``…_JOBS`` (2, or 1-8 for as many as there is
work for), ``…_INTERFACE`` (of the network between nodes), ``…_FOLDER`` (shared by all nodes, for
logs and certificates, ``~/.cache/ctaflows/slurm``). The rest is dask-jobqueue's own configuration,
``jobqueue.slurm`` in ``~/.config/dask``.
"""

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

    from prefect.task_runners import TaskRunner

VARIABLE = "CTAFLOWS_RUNNER"
#: Longest wait for a scheduler that is said to be there, in seconds.
ANSWER_S = 10.0
_WORDS = "threads, dask, dask:ADDRESS or slurm"
_INSTALL = "pip install 'ctaflows[dask]', where the flow runs and where its tasks run."


@dataclass(frozen=True)
class Choice:
    """A word, understood.

    Attributes
    ----------
    kind : str
        ``threads``, ``dask`` or ``slurm``.
    address : str or None
        Of a Dask scheduler that is there.
    """

    kind: str
    address: str | None = None

    @property
    def needs_prefect(self) -> bool:
        """Does it run tasks in other processes, which is Prefect's work?"""
        return self.kind != "threads"

    @property
    def is_elsewhere(self) -> bool:
        """May tasks run on other machines?"""
        return self.kind == "slurm" or self.address is not None


def parse(word: str) -> Choice:
    """Understand a word.

    Raises
    ------
    UsageError
        It is none of those we know.
    """
    kind, _, address = word.strip().partition(":")
    if kind == "dask" and (address or ":" not in word):
        return Choice("dask", _complete(address, word) if address else None)
    if kind in ("threads", "slurm") and ":" not in word:
        return Choice(kind)
    raise UsageError(f"There is no task runner “{word}”", hint=f"It can be {_WORDS}.")


def _complete(address: str, word: str) -> str:
    """Give an address with its scheme: Dask takes one without for tcp."""
    full = address if "://" in address else f"tcp://{address}"
    try:
        valid = bool(urlsplit(full).hostname) and bool(urlsplit(full).port)
    except ValueError:
        valid = False
    if not valid:
        raise UsageError(
            f"“{word}” names no Dask scheduler",
            hint="Write host and port, such as dask:tcp://127.0.0.1:8786.",
        )
    return full


def from_environment() -> str | None:
    """Give the word in ``CTAFLOWS_RUNNER``, None if there is none."""
    return os.environ.get(VARIABLE) or None


def make(word: str) -> TaskRunner[Any]:
    """Make the task runner for a word; nothing is started yet.

    Raises
    ------
    UsageError
        No such word, a setting that can't be one, or what it needs is not installed.
    """
    choice = parse(word)
    if choice.kind == "threads":
        from prefect.task_runners import ThreadPoolTaskRunner

        return ThreadPoolTaskRunner()
    try:
        from ctaflows.daskrunner import DaskRunner, SlurmRunner, is_in_worker

        if is_in_worker():
            return make("threads")  # what a task submits, no cluster of its own takes
        if choice.address is not None:
            return DaskRunner(address=choice.address)
        if choice.kind == "dask":
            return DaskRunner(cluster_class="distributed.LocalCluster", cluster_kwargs=LOCAL)
        return SlurmRunner()
    except ModuleNotFoundError as why:
        raise UsageError(
            f"The task runner “{word}” needs packages that are not installed",
            said=str(why),
            hint=_INSTALL,
        ) from why


def check(word: str) -> None:
    """See whether a task runner could start here and now: before a run is made for nothing.

    Raises
    ------
    NetworkError
        No scheduler answers at the address.
    UsageError
        As for `make`; Slurm's commands are not here.
    """
    choice = parse(word)
    if choice.address is not None:
        reach(choice.address)
    if choice.kind == "slurm":
        find_slurm()
    make(word)


def reach(address: str) -> None:
    """Raise if nobody listens at the address of a scheduler."""
    parts = urlsplit(address)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=ANSWER_S):
            return
    except OSError as why:
        raise no_scheduler(address, str(why)) from why


def no_scheduler(address: str, said: str) -> NetworkError:
    """Make the error for an address at which no scheduler answers."""
    return NetworkError(
        "No Dask scheduler answers",
        where=address,
        said=said,
        hint="Start one (dask scheduler), or mend the address after dask:.",
    )


def find_slurm() -> None:
    """Raise if Slurm's commands are not here."""
    if shutil.which("sbatch") is None:
        raise UsageError(
            "The task runner “slurm” submits jobs, and there is no sbatch here",
            hint="Run the flow, or its worker, on a machine from which you can submit jobs.",
        )


#: Nobody but us may send work to the cluster: whoever can, runs code in our name.
_PRIVATE: dict[str, Any] = {"security": True, "protocol": "tls://"}
LOCAL: dict[str, Any] = {**_PRIVATE, "dashboard_address": "127.0.0.1:0"}


@dataclass(frozen=True)
class SlurmJobs:
    """What the jobs are like that become a cluster's workers; None leaves it to dask-jobqueue.

    Attributes
    ----------
    queue, account, walltime, interface : str or None
        As for ``dask_jobqueue.SLURMCluster``.
    cores : int
        CPUs of a job, and tasks that it runs at once.
    memory : str
        Of a job, such as ``4GB``.
    least, most : int
        Number of jobs; where they differ, as many as there is work for.
    folder : Path
        Seen by all nodes, for logs and the cluster's certificates.
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
        """Read ``CTAFLOWS_SLURM_*``, of this process unless another environment is given.

        Raises
        ------
        UsageError
            A value that can't be one.
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
        """Give the arguments of ``dask_jobqueue.SLURMCluster``, without the number of jobs."""
        values: dict[str, Any] = {
            "queue": self.queue,
            "account": self.account,
            "cores": self.cores,
            # one process: its tasks share what is known of the door, and their connections
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
    """Read ``4``, or ``1-8``."""
    found = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", text.strip())
    least = int(found[1]) if found else 0
    most = int(found[2]) if found and found[2] else least
    if most < 1 or most < least or (most != least and not may_differ):
        kind = "a number of at least 1" + (", or two such as 1-8" if may_differ else "")
        raise UsageError(f"{name} can't be “{text}”", hint=f"It must be {kind}.")
    return least, most
