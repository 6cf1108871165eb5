"""A throwaway single-node Slurm on loopback, from Debian's packages slurm-wlm and munge.

::

    with slurm() as cluster:
        subprocess.run(["srun", "hostname"], env=cluster.env)
        cluster.jobs()[0]["JobState"]

The daemons are children of ours and run as ourselves; only munged runs as munge where we are root.
Jobs run as ourselves. One partition, ``cpu``. Seen to work with Slurm 22.05.8 and munge 0.5.15.

``python tests/servers/realslurm.py`` starts one and says which SLURM_CONF, until Ctrl-C.
"""

from __future__ import annotations

import atexit
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Self

from serverprocess import (
    Missing,
    Running,
    StartError,
    free_ports,
    program,
    version_of,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Missing", "Slurm", "StartError", "slurm"]

PARTITION = "cpu"

# Without cgroups, accounting and task binding, which want rights or services that a test has not.
# CgroupPlugin=disabled would be natural, but slurmd 22.05 refuses it.
CONF = Template(f"""\
ClusterName=sandbox
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$home/munge.sock
CredType=cred/munge
SlurmctldPort=$controller
SlurmdPort=$node
StateSaveLocation=$home/state
SlurmdSpoolDir=$home/spool
SlurmctldPidFile=$home/slurmctld.pid
SlurmdPidFile=$home/slurmd.pid
SlurmctldLogFile=$home/slurmctld.log
SlurmdLogFile=$home/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmdTimeout=300
MinJobAge=3600
KillWait=5
NodeName=$host NodeAddr=127.0.0.1 CPUs=8 RealMemory=16000 State=UNKNOWN
PartitionName={PARTITION} Nodes=$host Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8
""")


@dataclass
class Slurm:
    """A cluster whose node is idle.

    Attributes
    ----------
    version : str
        As the program itself says.
    conf : Path
        Its slurm.conf.
    home : Path
        Settings, state and logs.
    """

    version: str
    conf: Path
    home: Path
    processes: list[Running] = field(default_factory=list, repr=False)

    @property
    def env(self) -> dict[str, str]:
        """The environment in which Slurm's commands reach it."""
        path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
        return {**os.environ, "PATH": path, "SLURM_CONF": str(self.conf)}

    def run(self, *command: str) -> str:
        """Run one of Slurm's commands, and return its output."""
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, check=False, timeout=60
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout

    def jobs(self, name: str | None = None) -> list[dict[str, str]]:
        """Return the jobs of the last hour, of a name if given, as scontrol describes them."""
        told = self.run("scontrol", "show", "job", "--oneliner").splitlines()
        jobs = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in told if "JobId=" in line]
        return [job for job in jobs if name in (None, job["JobName"])]

    def stop(self) -> None:
        """Cancel the jobs, and end the daemons; a second time does nothing."""
        atexit.unregister(self.stop)
        if not self.processes:
            return
        with suppress(RuntimeError, subprocess.TimeoutExpired):
            self.run("scancel", "--user", str(os.geteuid()), "--full")
            wait_for(lambda: not self.run("squeue", "--noheader").strip(), self.processes)
        while self.processes:
            self.processes.pop().stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def slurm() -> Slurm:
    """Start a cluster, in a folder of its own with a short name: a socket's path is ≤ 107 bytes.

    Raises
    ------
    Missing
        A package is not installed.
    StartError
        It did not come up; the text has the end of its logs.
    """
    programs = {
        "munged": program("munged", "munge"),
        "slurmctld": program("slurmctld", "slurmctld"),
        "slurmd": program("slurmd", "slurmd"),
    }
    program("srun", "slurm-client")
    home = Path(tempfile.mkdtemp(prefix="ctaflows-slurm-"))
    cluster = Slurm(version_of([programs["slurmd"], "-V"]), home / "slurm.conf", home)
    atexit.register(cluster.stop)
    try:
        _write(cluster)
        _start_munge(cluster, programs["munged"])
        for name in ("slurmctld", "slurmd"):
            command = [programs[name], "-D", "-f", str(cluster.conf)]
            if name == "slurmd":
                command += ["-N", _host()]
            cluster.processes.append(_start(name, command, cluster))
        wait_for(lambda: _is_idle(cluster), cluster.processes)
    except BaseException:
        cluster.stop()
        raise
    return cluster


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def _write(cluster: Slurm) -> None:
    home = cluster.home
    home.chmod(0o755)
    for folder in ("state", "spool"):
        (home / folder).mkdir()
    controller, node = free_ports(2)
    user = pwd.getpwuid(os.geteuid()).pw_name
    values = {"host": _host(), "user": user, "home": home, "controller": controller, "node": node}
    cluster.conf.write_text(CONF.substitute(values))
    (home / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")


def _start_munge(cluster: Slurm, munged: str) -> None:
    home = cluster.home / "munge"
    home.mkdir(mode=0o755)
    key = home / "munge.key"
    key.touch(mode=0o400)
    key.write_bytes(os.urandom(1024))
    socket_file = cluster.home / "munge.sock"
    command = [munged, "--foreground", "--force", f"--key-file={key}", f"--socket={socket_file}"]
    command += [f"--pid-file={home}/munged.pid", f"--log-file={home}/munged.log"]
    command += [f"--seed-file={home}/munged.seed"]
    identity: list[str] = []
    if os.geteuid() == 0:
        with suppress(KeyError):
            munge = pwd.getpwnam("munge")
            for path in (home, key, cluster.home):
                os.chown(path, munge.pw_uid, munge.pw_gid)
            identity = [f"--reuid={munge.pw_uid}", f"--regid={munge.pw_gid}", "--clear-groups"]
    cluster.processes.append(_start("munged", command, cluster, *identity))
    wait_for(socket_file.is_socket, cluster.processes)


def _start(name: str, command: list[str], cluster: Slurm, *identity: str) -> Running:
    """Start a daemon that ends with us, even if we are killed."""
    out = cluster.home / f"{name}.out"
    prefix = [program("setpriv", "util-linux"), "--pdeathsig=TERM", *identity]
    with out.open("ab") as stream:
        process = subprocess.Popen(
            [*prefix, *command], cwd=cluster.home, env=cluster.env, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT,
        )  # fmt: skip
    return Running(name, process, out)


def _is_idle(cluster: Slurm) -> bool:
    try:
        return cluster.run("sinfo", "--noheader", "--format=%T").strip() == "idle"
    except RuntimeError:
        return False


@contextmanager
def _until_stopped() -> Iterator[None]:
    import signal

    yield
    with suppress(KeyboardInterrupt):
        signal.pause()


if __name__ == "__main__":
    with slurm() as running, _until_stopped():
        print(f"export SLURM_CONF={running.conf}", flush=True)
