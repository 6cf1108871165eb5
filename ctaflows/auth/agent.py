"""The agent, which renews tokens in the background: one process for each profile and home.

For people without Prefect. ``python -m ctaflows.auth.agent PROFILE`` is the process, which `start`
and `stop` control. It holds ``tokens/<profile>.agent.lock`` as long as it lives, and writes its
state to ``tokens/<profile>.agent.json``.
"""

from __future__ import annotations

import contextlib
import fcntl
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
from ctaflows.atomic_files import make_folder, read_private, write_private
from ctaflows.auth.renewal import TokenProvider
from ctaflows.errors import CtaflowsError, LoginNeeded, TokenMissing, UsageError, error_text
from ctaflows.model import Record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ctaflows.auth.store import TokenSet
    from ctaflows.settings import Settings


log = logging.getLogger("ctaflows.auth.agent")

#: The agent renews when less than this is left of a token, or half of its life if that is less:
#: earlier than those who use it, so that these need not wait.
MARGIN_S = 300.0
FRACTION = 0.5
_LONGEST_SLEEP_S = 60.0
_SHORTEST_SLEEP_S = 0.5
_GLANCE_S = 2.0
_LOG_BYTES = 200_000


class Agent:
    """Renews the stored token of a profile until it is told to stop.

    Parameters
    ----------
    settings : Settings
        The profile.
    stop : threading.Event
        Ends it.
    """

    def __init__(self, settings: Settings, stop: threading.Event) -> None:
        self._provider = TokenProvider(settings.replace(token_source="store"))  # noqa: S106
        self._stop = stop
        self._files = Files(settings)
        self._n_failures = 0
        self._started_at = time.time()

    def run(self) -> None:
        """Renew, sleep, renew; ends on request, after a logout, or when its folder is gone."""
        log.info("started, process %d on %s", os.getpid(), socket.gethostname())
        while not self._stop.is_set() and self._files.lock.exists():
            try:
                pause_s = self._once()
            except TokenMissing:
                log.info("logged out: nothing to keep")
                break
            self._sleep(pause_s)
        self._files.forget()
        log.info("ended")

    def _once(self) -> float:
        """Renew if it is time, and say how long to sleep."""
        try:
            tokens = self._provider.ensure_valid(MARGIN_S, fraction=FRACTION, quiet=False)
        except TokenMissing:
            raise
        except LoginNeeded as why:
            self._tell("login needed", why)
            return _LONGEST_SLEEP_S
        except (CtaflowsError, OSError) as why:
            self._n_failures += 1
            self._tell("failing", why)
            return min(2.0**self._n_failures, _LONGEST_SLEEP_S)
        self._n_failures = 0
        self._tell("ok", None)
        return sleep_s(tokens)

    def _tell(self, state: str, why: Exception | None) -> None:
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

    def _version(self) -> int | None:
        try:
            return self._provider.store.file.stat().st_mtime_ns
        except OSError:
            return None

    def _sleep(self, seconds: float) -> None:
        ends_at = time.monotonic() + seconds
        version = self._version()
        while (left_s := ends_at - time.monotonic()) > 0 and not self._stop.is_set():
            if self._version() != version:  # a new login, or somebody else renewed
                return
            if self._files.stop_asked.exists() or not self._files.lock.exists():
                self._stop.set()
            self._stop.wait(min(left_s, _GLANCE_S))


def sleep_s(tokens: TokenSet, now: float | None = None) -> float:
    """Say how long the agent may sleep before it has to renew these tokens.

    Parameters
    ----------
    tokens : TokenSet
        What is stored.
    now : float, optional
        Seconds since 1970; for tests.
    """
    life_s = tokens.expires_in if tokens.expires_in is not None else float("inf")
    until_due_s = tokens.remaining_s(now) - min(MARGIN_S, FRACTION * life_s)
    return max(_SHORTEST_SLEEP_S, min(until_due_s + 0.1, _LONGEST_SLEEP_S))


def main(profile: str) -> int:
    """Be the agent of a profile."""
    os.umask(0o077)
    settings = _settings.load(profile)
    files = Files(settings)
    descriptor = os.open(files.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        # somebody who only looks holds the lock for an instant
        for _ in range(20):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.05)
        else:
            return 0  # there is one already
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
    TokenProvider(settings.replace(token_source="store")).check_owner()  # noqa: S106
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
