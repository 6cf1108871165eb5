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
        from ctaflows.tracking.dask_runners import DaskRunner, SlurmRunner, is_in_worker

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
