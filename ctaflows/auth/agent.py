"""The keeper in the background, for people without Prefect: one process for each profile and home.

``python -m ctaflows.auth.agent PROFILE`` is the process, which `ctaflows.auth.daemon` starts and
stops. It holds ``tokens/<profile>.agent.lock`` as long as it lives, and says in
``tokens/<profile>.agent.json`` how it is.
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
import sys
import threading
import time
from typing import TYPE_CHECKING

from ctaflows import settings as _settings
from ctaflows.atomic_files import write_private
from ctaflows.auth.daemon import Files
from ctaflows.auth.renewal import Keeper
from ctaflows.errors import CtaflowsError, LoginNeeded, TokenMissing, error_text

if TYPE_CHECKING:
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
    """Keeps the stored token of a profile warm until it is told to stop.

    Parameters
    ----------
    settings : Settings
        The profile.
    stop : threading.Event
        Ends it.
    """

    def __init__(self, settings: Settings, stop: threading.Event) -> None:
        self._keeper = Keeper(settings.replace(token_source="store"))  # noqa: S106
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
            tokens = self._keeper.warm(MARGIN_S, fraction=FRACTION, quiet=False)
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
            return self._keeper.store.file.stat().st_mtime_ns
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
