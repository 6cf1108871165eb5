"""The agent: a background process that renews tokens, one for each profile and home directory.

It is for users without Prefect. `start` runs ``python -m ctaflows.auth.agent PROFILE``, `stop` ends
it. The process holds a lock on ``tokens/<profile>.agent.lock`` as long as it runs, and writes its
state to ``tokens/<profile>.agent.json``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctaflows import settings as _settings
from ctaflows.atomic_files import (
    local_errors,
    lock,
    make_folder,
    open_ours,
    read_private,
    remove_private,
    write_private,
)
from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import CtaflowsError, LoginNeeded, TokenMissing, UsageError, error_text
from ctaflows.model import Record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ctaflows.auth.store import TokenSet
    from ctaflows.settings import Settings


log = logging.getLogger("ctaflows.auth.agent")

#: The agent renews a token when less than this is left, seconds, or half of its lifetime if that is
#: less. That is earlier than programs that use the token do, so that they need not wait.
MARGIN_S = 300.0
FRACTION = 0.5
_LONGEST_SLEEP_S = 60.0
_SHORTEST_SLEEP_S = 0.5
#: While it sleeps the agent looks for a stop request and for a changed store this often.
_POLL_S = 2.0
_LOG_BYTES = 200_000


class Agent:
    """The loop that renews the stored token of a profile until it is asked to stop.

    Parameters
    ----------
    settings : Settings
        Profile, issuer and client; tokens are read from the store whatever ``token_source`` says.
    stop : threading.Event
        Set to end the loop.
    """

    def __init__(self, settings: Settings, stop: threading.Event) -> None:
        self._provider = TokenProvider(settings.replace(token_source="store"))  # noqa: S106
        self._stop = stop
        self._files = Files(settings)
        self._n_failures = 0
        self._started_at = time.time()

    def run(self) -> None:
        """Renew and sleep until asked to stop, after a logout, or when the lock file is gone."""
        log.info("started, process %d on %s", os.getpid(), socket.gethostname())
        while not self._stop.is_set() and self._files.lock.exists():
            try:
                pause_s = self._renew_if_due()
            except TokenMissing:
                log.info("logged out: no token to renew")
                break
            self._sleep(pause_s)
        self._files.forget()
        log.info("ended")

    def _renew_if_due(self) -> float:
        """Renew the token if it is due; return how long to sleep, in seconds."""
        try:
            tokens = self._provider.ensure_valid(MARGIN_S, fraction=FRACTION, quiet=False)
        except TokenMissing:
            raise
        except LoginNeeded as why:
            self._record_state("login needed", why)
            return _LONGEST_SLEEP_S
        except (CtaflowsError, OSError) as why:
            self._n_failures += 1
            self._record_state("failing", why)
            return min(2.0**self._n_failures, _LONGEST_SLEEP_S)
        self._n_failures = 0
        self._record_state("ok", None)
        return sleep_s(tokens)

    def _record_state(self, state: str, why: Exception | None) -> None:
        """Write the state to the log and to the state file, if it has changed."""
        message = error_text(why) if why else None
        about = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started_at": self._started_at,
            "state": state,
            "message": message,
        }
        if self._files.read() == about:
            return
        if why is not None:
            log.warning("%s: %s", state, message)
        else:
            log.info("ok")
        with contextlib.suppress(CtaflowsError):
            write_private(self._files.state, json.dumps(about))

    def _store_mtime_ns(self) -> int | None:
        try:
            return self._provider.store.file.stat().st_mtime_ns
        except OSError:
            return None

    def _sleep(self, seconds: float) -> None:
        ends_at = time.monotonic() + seconds
        mtime_ns = self._store_mtime_ns()
        while (left_s := ends_at - time.monotonic()) > 0 and not self._stop.is_set():
            if self._store_mtime_ns() != mtime_ns:  # a new login, or another process renewed
                return
            if self._files.stop_asked.exists() or not self._files.lock.exists():
                self._stop.set()
            self._stop.wait(min(left_s, _POLL_S))


def sleep_s(tokens: TokenSet, now: float | None = None) -> float:
    """Return how long the agent may sleep before these tokens are due for renewal.

    Parameters
    ----------
    tokens : TokenSet
        The stored tokens.
    now : float, optional
        Current time, seconds since 1970; for tests.

    Returns
    -------
    float
        Seconds, from 0.5 to 60.
    """
    lifetime_s = tokens.expires_in if tokens.expires_in is not None else float("inf")
    until_due_s = tokens.remaining_s(now) - min(MARGIN_S, FRACTION * lifetime_s)
    return max(_SHORTEST_SLEEP_S, min(until_due_s + 0.1, _LONGEST_SLEEP_S))


def main(profile: str) -> int:
    """Run the agent of a profile in this process; return the exit code."""
    os.umask(0o077)
    settings = _settings.load(profile)
    files = Files(settings)
    with local_errors(files.lock, "The agent can't be started"):
        descriptor = open_ours(files.lock, os.O_RDWR | os.O_CREAT, 0o600, may_be_linked=True)
    try:
        # `Files.is_held` of another process holds the lock for an instant
        for _ in range(20):
            if lock(descriptor, files.lock, required=True):
                break
            time.sleep(0.05)
        else:
            return 0  # another agent is running
        handler = logging.handlers.RotatingFileHandler(
            files.log, maxBytes=_LOG_BYTES, backupCount=2, encoding="utf-8"
        )
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger("ctaflows").addHandler(handler)
        logging.getLogger("ctaflows").setLevel(logging.INFO)
        stop_event = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop_event.set())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        Agent(settings, stop_event).run()
        return 0
    finally:
        os.close(descriptor)


# -- start, stop, status ---------------------------------------------------------------------------

_START_S = 20.0
_STOP_S = 20.0


@dataclass(frozen=True, slots=True)
class Status(Record):
    """The state of a profile's agent.

    Attributes
    ----------
    running : bool
        Does an agent hold the lock?
    pid, host : int or None, str or None
        Its process id and its machine; None where no agent is running.
    started_at : float or None
        Start time, seconds since 1970.
    state : str
        ``starting``, ``ok``, ``failing`` (it keeps trying), ``login needed``, or ``stopped``.
    message : str or None
        The last error, in the states ``failing`` and ``login needed``.
    log_file : str
        Path of the log.
    """

    running: bool
    pid: int | None
    host: str | None
    started_at: float | None
    state: str
    message: str | None
    log_file: str


def start(settings: Settings) -> Status:
    """Start an agent, unless one is running, and return its state.

    Raises
    ------
    TokenMissing
        Nobody has logged in.
    AuthError
        The stored login belongs to another issuer or another client.
    UsageError
        The agent did not come up within 20 s; its log has the reason.
    """
    TokenProvider(settings.replace(token_source="store")).check_owner()  # noqa: S106
    files = Files(settings)
    make_folder(files.lock.parent)
    files.forget_stop()
    stale_pid = None
    if not files.is_held(may_start=True):
        stale_pid = files.read().get("pid")  # of an agent that was killed
        env = {**os.environ, "CTAFLOWS_CONFIG_DIR": str(settings.config_dir)}
        with local_errors(None, "The agent can't be started", hint=None):
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

    if not _wait_until(is_up, _START_S):
        raise UsageError("The agent did not come up", where=str(files.log))
    return status(settings)


def stop(settings: Settings) -> bool:
    """Stop the agent: by a file it looks for, and by signals if it runs on this machine.

    Returns
    -------
    bool
        False if no agent was running.

    Raises
    ------
    UsageError
        It did not end in time: 20 s, or twice that on this machine, where SIGKILL follows SIGTERM.
    """
    files = Files(settings)
    if not files.is_held():
        files.forget()
        return False
    about = files.read()
    is_local = about.get("host") == socket.gethostname() and isinstance(about.get("pid"), int)
    write_private(files.stop_asked, "")
    for number in (signal.SIGTERM, signal.SIGKILL) if is_local else (None,):
        if number is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(about["pid"], number)
        if _wait_until(lambda: not files.is_held(), _STOP_S):
            files.forget()
            return True
    raise UsageError(
        "The agent does not end",
        where=f"{about.get('host')}, process {about.get('pid')}",
        hint="It runs on another machine; it looks for the stop request every few seconds.",
    )


def status(settings: Settings) -> Status:
    """Return the state of the profile's agent."""
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
    """The files of one profile's agent: lock, state, stop request and log."""

    def __init__(self, settings: Settings) -> None:
        base = settings.config_dir / "tokens"
        self.lock: Path = base / f"{settings.profile}.agent.lock"
        self.state = base / f"{settings.profile}.agent.json"
        self.stop_asked = base / f"{settings.profile}.agent.stop"
        self.log = settings.config_dir / f"agent-{settings.profile}.log"

    def is_held(self, *, may_start: bool = False) -> bool:
        """Return whether an agent holds the lock; without locks there is none.

        Parameters
        ----------
        may_start : bool
            Is one to be started otherwise?

        Raises
        ------
        NoLocks
            One is to be started, and can't be: the file system has no locks.
        """
        flags = os.O_RDWR | (os.O_CREAT if may_start else 0)
        try:
            descriptor = open_ours(self.lock, flags, 0o600, may_be_linked=True)
        except (OSError, UsageError):
            return False
        try:
            return lock(descriptor, self.lock, shared=True, required=may_start) is False
        finally:
            os.close(descriptor)

    def read(self) -> dict[str, Any]:
        """Return the state file's content; empty where it is missing or no JSON object."""
        try:
            found = json.loads(read_private(self.state) or "{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def forget(self) -> None:
        """Remove the state file and the stop request."""
        remove_private(self.state)
        self.forget_stop()

    def forget_stop(self) -> None:
        """Remove the stop request."""
        with local_errors(self.stop_asked, "The request to stop can't be removed"):
            self.stop_asked.unlink(missing_ok=True)


def _wait_until(is_true: Callable[[], bool], seconds: float) -> bool:
    """Poll a condition; return False if it is still false when the time is over."""
    ends_at = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > ends_at:
            return False
        time.sleep(0.05)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
