"""Starting, stopping and asking after the agent of a profile."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ctaflows.atomic_files import make_folder, read_private, write_private
from ctaflows.auth.renewal import Keeper
from ctaflows.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ctaflows.settings import Settings

_START_S = 20.0
_STOP_S = 20.0


@dataclass(frozen=True, slots=True)
class Status:
    """How an agent is.

    Attributes
    ----------
    running : bool
        Is there one?
    pid, host : int or None, str or None
        Which process, on which machine.
    started_at : float or None
        Seconds since 1970.
    state : str
        ``ok``, ``failing`` (it goes on trying), ``login needed``, or ``stopped``.
    message : str or None
        What it failed on.
    log_file : str
        Where it writes.
    """

    running: bool
    pid: int | None
    host: str | None
    started_at: float | None
    state: str
    message: str | None
    log_file: str

    def to_dict(self) -> dict[str, Any]:
        """Give the status ready for JSON."""
        return asdict(self)


def start(settings: Settings) -> Status:
    """Start an agent, unless there is one.

    Raises
    ------
    TokenMissing
        Nobody has logged in.
    AuthError
        The login is another issuer's, or another client's.
    UsageError
        It did not come up; its log says why.
    """
    Keeper(settings.replace(token_source="store")).check_owner()  # noqa: S106
    files = Files(settings)
    make_folder(files.lock.parent)
    files.stop_asked.unlink(missing_ok=True)
    stale_pid = None
    if not files.is_held():
        stale_pid = files.read().get("pid")  # of one that was killed
        env = {**os.environ, "CTAFLOWS_CONFIG_DIR": str(settings.config_dir)}
        subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "ctaflows.auth.agent", settings.profile],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env=env,
        )

    def is_up() -> bool:
        return files.is_held() and files.read().get("pid") not in (None, stale_pid)

    if not _comes_true(is_up, _START_S):
        raise UsageError("The agent did not come up", where=str(files.log))
    return status(settings)


def stop(settings: Settings) -> bool:
    """Stop the agent; False if there was none.

    Raises
    ------
    UsageError
        It does not end, and is not on this machine.
    """
    files = Files(settings)
    if not files.is_held():
        files.forget()
        return False
    about = files.read()
    is_here = about.get("host") == socket.gethostname() and isinstance(about.get("pid"), int)
    write_private(files.stop_asked, "")
    for number in (signal.SIGTERM, signal.SIGKILL) if is_here else (None,):
        if number is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(about["pid"], number)
        if _comes_true(lambda: not files.is_held(), _STOP_S):
            files.forget()
            return True
    raise UsageError(
        "The agent does not end",
        where=f"{about.get('host')}, process {about.get('pid')}",
        hint="It runs on another machine; it looks for the request every few seconds.",
    )


def status(settings: Settings) -> Status:
    """Say how the agent is."""
    files = Files(settings)
    running = files.is_held()
    about = files.read() if running else {}
    return Status(
        running=running,
        pid=about.get("pid"),
        host=about.get("host"),
        started_at=about.get("started_at"),
        state=str(about.get("state", "starting")) if running else "stopped",
        message=about.get("message"),
        log_file=str(files.log),
    )


class Files:
    """The files of one profile's agent."""

    def __init__(self, settings: Settings) -> None:
        base = settings.config_dir / "tokens"
        self.lock: Path = base / f"{settings.profile}.agent.lock"
        self.state = base / f"{settings.profile}.agent.json"
        self.stop_asked = base / f"{settings.profile}.agent.stop"
        self.log = settings.config_dir / f"agent-{settings.profile}.log"

    def is_held(self) -> bool:
        """Tell whether an agent holds the lock."""
        try:
            descriptor = os.open(self.lock, os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def read(self) -> dict[str, Any]:
        """Give what the agent says of itself."""
        try:
            found = json.loads(read_private(self.state) or "{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def forget(self) -> None:
        """Remove what an agent leaves."""
        for file in (self.state, self.stop_asked):
            file.unlink(missing_ok=True)


def _comes_true(ask: Callable[[], bool], seconds: float) -> bool:
    ends_at = time.monotonic() + seconds
    while not ask():
        if time.monotonic() > ends_at:
            return False
        time.sleep(0.05)
    return True
