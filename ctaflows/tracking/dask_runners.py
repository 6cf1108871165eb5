"""The task runners on Dask: Prefect's own, which say what is wrong and share their cluster.

Only `ctaflows.tracking.task_runners` imports this, when asked for Dask: it needs the extra
``dask``.
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

from ctaflows.errors import UsageError
from ctaflows.tracking import dask_clusters

_TEST_S = 60.0


class DaskRunner(DaskTaskRunner):
    """Runs tasks in the workers of a Dask cluster, made when the first task is submitted."""

    _outer: DaskRunner | None = None

    def duplicate(self) -> Self:
        """Make one of the same settings; within a flow of the same ones, share that flow's cluster.

        A subflow with a cluster of its own would wait for jobs while the outer flow's hold the
        queue.
        """
        made: Self = super().duplicate()  # type: ignore[no-untyped-call]
        run = FlowRunContext.get()
        if run is not None and isinstance(run.task_runner, DaskRunner) and run.task_runner == self:
            made._outer = run.task_runner
        return made

    @property
    def client(self) -> Any:
        """The client of the cluster, which is made or found when this is first asked for.

        Raises
        ------
        NetworkError
            No scheduler answers at the address.
        """
        if self._outer is not None:
            return self._outer.client
        return self._client or self._begin()

    def __reduce__(self) -> tuple[Any, ...]:
        # A flow goes to the workers with its tasks: what a task submits there, it does by threads.
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
    """Runs tasks in Slurm jobs that end with the flow's run.

    Parameters
    ----------
    jobs : SlurmJobs, optional
        What they are like; None means what the environment says.
    **settings : Any
        As of ``DaskTaskRunner``.
    """

    def __init__(self, *, jobs: dask_clusters.SlurmJobs | None = None, **settings: Any) -> None:
        self.jobs = jobs or dask_clusters.SlurmJobs.from_environment()
        given = settings.pop("cluster_kwargs", None) or self.jobs.cluster()
        settings["cluster_class"] = _slurm_cluster()
        super().__init__(cluster_kwargs=given, **settings)

    def duplicate(self) -> Self:
        """Make one of the same settings, see `DaskRunner`."""
        made = super().duplicate()
        made.jobs = self.jobs
        return made

    def _begin(self) -> Any:
        dask_clusters.find_slurm()
        folder, given = self.jobs.folder, self.cluster_kwargs
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # dask-jobqueue 0.9.0 leaves the certificates and keys of its workers behind
        own = self._exit_stack.enter_context(tempfile.TemporaryDirectory(dir=folder, prefix="tls-"))
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
    """Import dask-jobqueue, and leave Ctrl-C to who had it.

    Its version 0.9.0 takes SIGINT for itself as soon as it is imported (runner.py), which fails in
    any thread but the main one.
    """
    keep = signal.signal
    signal.signal = lambda *_: None
    try:
        from dask_jobqueue.slurm import SLURMCluster
    finally:
        signal.signal = keep
    return SLURMCluster


def is_in_worker() -> bool:
    """Is this a task in a Dask worker?"""
    try:
        distributed.get_worker()
    except ValueError:
        return False
    return True


def try_job(script: str, folder: Path) -> None:
    """Ask Slurm whether it would take a job.

    Where it refuses one, dask-jobqueue 0.9.0 only logs it, and the tasks wait for ever.

    Raises
    ------
    UsageError
        It would not, and says why.
    """
    file = folder / "job.sh"
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
