"""Task runners by name: where a flow's tasks run is chosen when it runs, not in its code.

================  =================================================================
``threads``       threads of the flow's own process; the default
``dask``          processes on this machine: a Dask cluster that ends with the run
``dask:ADDRESS``  an existing Dask cluster, such as ``dask:tcp://127.0.0.1:8786``
``slurm``         Slurm jobs: the workers of a Dask cluster that ends with the run
================  =================================================================

The name is given by ``ctaflows run FLOW --runner``, or by ``CTAFLOWS_RUNNER`` in the
environment of the process that runs the flow, such as ``job_variables.env`` of a deployment.

Slurm jobs are described by these variables, with their defaults: ``CTAFLOWS_SLURM_QUEUE``
(partition), ``…_ACCOUNT``, ``…_CORES`` (2), ``…_MEMORY`` (4GB), ``…_WALLTIME`` (04:00:00),
``…_JOBS`` (2; 1-8 adapts to the work there is), ``…_INTERFACE`` (of the network between nodes),
``…_FOLDER`` (shared by all nodes, for logs and certificates; ``~/.cache/ctaflows/slurm``). Other
values come from dask-jobqueue's own configuration, ``jobqueue.slurm`` in ``~/.config/dask``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ctaflows.errors import UsageError
from ctaflows.tracking.dask_clusters import LOCAL, find_slurm, reach

if TYPE_CHECKING:
    from prefect.task_runners import TaskRunner

VARIABLE = "CTAFLOWS_RUNNER"
_WORDS = "threads, dask, dask:ADDRESS or slurm"
_INSTALL = "pip install 'ctaflows[dask]', where the flow runs and where its tasks run."


@dataclass(frozen=True)
class Choice:
    """The parsed name of a task runner.

    Attributes
    ----------
    kind : str
        ``threads``, ``dask`` or ``slurm``.
    address : str or None
        Address of an existing Dask scheduler.
    """

    kind: str
    address: str | None = None

    @property
    def needs_prefect(self) -> bool:
        """Whether tasks run in other processes, which needs a tracked flow run."""
        return self.kind != "threads"

    @property
    def is_elsewhere(self) -> bool:
        """Whether tasks may run on other machines."""
        return self.kind == "slurm" or self.address is not None


def parse(word: str) -> Choice:
    """Parse the name of a task runner.

    Raises
    ------
    UsageError
        There is none of that name, or the scheduler's address has no host or port.
    """
    kind, _, address = word.strip().partition(":")
    if kind == "dask" and (address or ":" not in word):
        return Choice("dask", _complete(address, word) if address else None)
    if kind in ("threads", "slurm") and ":" not in word:
        return Choice(kind)
    raise UsageError(f"There is no task runner “{word}”", hint=f"It can be {_WORDS}.")


def _complete(address: str, word: str) -> str:
    """Return a scheduler's address with its scheme, which is by default ``tcp`` as for Dask."""
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
    """Return the value of ``CTAFLOWS_RUNNER``, or None."""
    return os.environ.get(VARIABLE) or None


def make(word: str) -> TaskRunner[Any]:
    """Return the task runner of a name; its cluster is not started yet.

    Raises
    ------
    UsageError
        There is no task runner of that name, a setting is invalid, or packages are not installed.
    """
    choice = parse(word)
    if choice.kind == "threads":
        from prefect.task_runners import ThreadPoolTaskRunner

        return ThreadPoolTaskRunner()
    try:
        from ctaflows.tracking.dask_runners import DaskRunner, SlurmRunner, is_in_worker

        if is_in_worker():
            return make("threads")  # for tasks that a task submits
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
    """Check, before a run is created, that a task runner can start on this machine.

    Raises
    ------
    NetworkError
        No scheduler answers at the address.
    UsageError
        As for `make`; or ``sbatch`` is not installed.
    """
    choice = parse(word)
    if choice.address is not None:
        reach(choice.address)
    if choice.kind == "slurm":
        find_slurm()
    make(word)
