"""Task runners on Dask: prefect-dask's, with clear errors, shared clusters and Slurm jobs.

This needs the extra ``dask``, so only `ctaflows.tracking.task_runners` imports it, when asked for
such a runner.
"""

from __future__ import annotations

import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

import distributed
from prefect.context import FlowRunContext
from prefect.task_runners import ThreadPoolTaskRunner
from prefect_dask.task_runners import DaskTaskRunner

from ctaflows.atomic_files import local_errors
from ctaflows.errors import UsageError
from ctaflows.tracking import dask_clusters

_TEST_S = 60.0


class DaskRunner(DaskTaskRunner):
    """A task runner on a Dask cluster, which is created when the first task is submitted."""

    _outer: DaskRunner | None = None

    def duplicate(self) -> Self:
        """Return a runner with the same settings, as Prefect asks for with each flow run.

        In a subflow of a flow with an equal runner it shares that flow's cluster: a cluster of its
        own would wait for Slurm jobs while the parent's jobs hold the queue.
        """
        made: Self = super().duplicate()  # type: ignore[no-untyped-call]
        run = FlowRunContext.get()
        if run is not None and isinstance(run.task_runner, DaskRunner) and run.task_runner == self:
            made._outer = run.task_runner
        return made

    @property
    def client(self) -> Any:
        """The client of the cluster, which is created or connected to at the first access.

        Raises
        ------
        NetworkError
            No scheduler answers at the address.
        """
        if self._outer is not None:
            return self._outer.client
        return self._client or self._begin()

    def __reduce__(self) -> tuple[Any, ...]:
        # A flow is sent to the workers with its tasks; tasks submitted there run in threads.
        return (ThreadPoolTaskRunner, ())

    def _begin(self) -> Any:
        if self.address is not None:
            dask_clusters.reach(self.address)
        try:
            return super().client
        except OSError as why:
            if self.address is None:
                raise
            raise dask_clusters.no_scheduler(self.address, str(why)) from why


class SlurmRunner(DaskRunner):
    """A task runner on Slurm jobs that end with the flow's run.

    Parameters
    ----------
    jobs : SlurmJobs, optional
        The jobs; by default as ``CTAFLOWS_SLURM_*`` describe them.
    **settings : Any
        As for ``DaskTaskRunner``.
    """

    def __init__(self, *, jobs: dask_clusters.SlurmJobs | None = None, **settings: Any) -> None:
        self.jobs = jobs or dask_clusters.SlurmJobs.from_environment()
        given = settings.pop("cluster_kwargs", None) or self.jobs.cluster()
        settings["cluster_class"] = _slurm_cluster()
        super().__init__(cluster_kwargs=given, **settings)

    def duplicate(self) -> Self:
        """Return a runner with the same settings and jobs, see `DaskRunner.duplicate`."""
        made = super().duplicate()
        made.jobs = self.jobs
        return made

    def _begin(self) -> Any:
        dask_clusters.find_slurm()
        folder, given = self.jobs.folder, self.cluster_kwargs
        with local_errors(folder, "The folder of the Slurm jobs can't be written"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # dask-jobqueue 0.9.0 leaves the certificates and keys of its workers behind
            own = self._exit_stack.enter_context(
                tempfile.TemporaryDirectory(dir=folder, prefix="tls-")
            )
        self.cluster_kwargs = {**given, "shared_temp_directory": own}
        try:
            client = super()._begin()
        finally:
            self.cluster_kwargs = given
        cluster: Any = self._cluster
        try_job(cluster.job_script(), Path(own))
        least, most = self.jobs.least, self.jobs.most
        self.logger.info("Tasks run in %d to %d Slurm jobs; their logs: %s", least, most, folder)
        if least == most:
            cluster.scale(jobs=most)
        else:
            cluster.adapt(minimum_jobs=least, maximum_jobs=most)
        return client


def _slurm_cluster() -> Any:
    """Return dask-jobqueue's class, imported without its handler of Ctrl-C.

    Version 0.9.0 installs a handler of SIGINT when it is imported (runner.py), which fails in any
    thread but the main one.
    """
    keep = signal.signal
    signal.signal = lambda *_: None
    try:
        from dask_jobqueue.slurm import SLURMCluster
    finally:
        signal.signal = keep
    return SLURMCluster


def is_in_worker() -> bool:
    """Return whether this code runs in a task of a Dask worker."""
    try:
        distributed.get_worker()
    except ValueError:
        return False
    return True


def try_job(script: str, folder: Path) -> None:
    """Check by ``sbatch --test-only`` that Slurm accepts a job.

    Where Slurm rejects one, dask-jobqueue 0.9.0 only logs it, and the tasks wait for ever.

    Parameters
    ----------
    script : str
        The job's script, which is written to ``job.sh``.
    folder : Path
        Folder for that file.

    Raises
    ------
    UsageError
        Slurm rejects it; the error has its message.
    """
    file = folder / "job.sh"
    with local_errors(file, "The folder of the Slurm jobs can't be written"):
        file.write_text(script)
    command = ["sbatch", "--test-only", str(file)]
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=False, timeout=_TEST_S
    )
    if done.returncode:
        raise UsageError(
            "Slurm does not take the jobs",
            said=done.stderr.strip(),
            hint="Mend CTAFLOWS_SLURM_QUEUE and the like, or jobqueue.slurm in ~/.config/dask.",
        )
