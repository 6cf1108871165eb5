"""A gauge of a run's progress: hears of transfers, and tells every few seconds how far they are.

Who moves files only adds to counters. One thread of the gauge's own does the telling; if that is
slow, hangs or fails, the run goes on without it.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from typing import TYPE_CHECKING, Self

from ctaflows.text import human_bytes
from ctaflows.transfer.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ctaflows.model import Report, Transfer

#: Seconds between two messages; the first comes at once.
EVERY_S = 5.0
#: Longest wait for the last message at the end of a run, in seconds.
_PATIENCE_S = 10.0

log = logging.getLogger("ctaflows.gauge")


class Gauge(Progress):
    """Counts what is moved, and tells of it while its block lasts.

    Parameters
    ----------
    n_files, n_bytes : int
        What there is to do in all.
    tell : Callable
        Takes a percentage (0 to 100) and a text; called in a thread of the gauge's own.
    also : Progress, optional
        Hears all of it too, such as a bar on the terminal.
    every_s : float
        Seconds between two messages.
    """

    def __init__(
        self,
        n_files: int,
        n_bytes: int,
        tell: Callable[[float, str], None],
        *,
        also: Progress | None = None,
        every_s: float = EVERY_S,
    ) -> None:
        self._n_files, self._n_bytes = n_files, n_bytes
        self._tell = tell
        self._also = also or Progress()
        self._every_s = every_s
        self._lock = threading.Lock()
        self._expected_bytes = self._done_bytes = self._done_files = 0
        self._arrived_bytes = self._arrived_files = self._arrived_failed = 0
        self._began = time.monotonic()
        self._over = threading.Event()
        self._has_warned = False

    def expect(self, n_files: int, n_bytes: int) -> None:
        """More files are going to be moved; a batch that is tried again is expected again."""
        with self._lock:
            self._expected_bytes += n_bytes
        self._also.expect(n_files, n_bytes)

    def advance(self, n_bytes: int) -> None:
        """Bytes have come (or, negative, turned out to be useless)."""
        with self._lock:
            self._done_bytes += n_bytes
        self._also.advance(n_bytes)

    def finished(self, transfer: Transfer) -> None:
        """One file has ended, well or not."""
        with self._lock:
            self._done_files += 1
        self._also.finished(transfer)

    def arrived(self, report: Report) -> Report:
        """Count a batch that has ended, and give it back: others than those here tell no more."""
        with self._lock:
            self._arrived_bytes += sum(t.size_bytes or 0 for t in report.transfers if t.ok)
            self._arrived_files += len(report.transfers)
            self._arrived_failed += len(report.failed)
        return report

    def reading(self) -> tuple[float, str]:
        """Give the percentage, and the same in words."""
        if not self._n_files:
            return 100.0, "nothing to move"
        with self._lock:
            all_bytes = max(self._n_bytes, self._expected_bytes)
            n_bytes = min(max(self._done_bytes, self._arrived_bytes), all_bytes)
            n_files = min(max(self._done_files, self._arrived_files), self._n_files)
            # of a batch that ended only what ended badly in its last try is known to have failed
            n_failed = self._arrived_failed
        share = n_bytes / all_bytes if all_bytes else n_files / self._n_files
        seconds = time.monotonic() - self._began
        words = f"{n_files:,} of {self._n_files:,} files, {human_bytes(n_bytes)}"
        words += f" of {human_bytes(all_bytes)}"
        if n_bytes and n_files < self._n_files and seconds > 1:
            words += f", {human_bytes(n_bytes / seconds)}/s, "
            words += f"about {human_seconds(seconds / share - seconds)} left"
        if n_failed:
            words += f", {n_failed:,} failed"
        return 100.0 * share, words

    def __enter__(self) -> Self:
        # the run is known to the thread by the context's variables
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._watch,), name="ctaflows-gauge", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join(_PATIENCE_S)

    def _watch(self) -> None:
        told: tuple[float, str] | None = None
        is_over = False
        while True:
            reading = self.reading()
            if reading != told and self._told(*reading):
                told = reading
            if is_over:
                return
            is_over = self._over.wait(self._every_s)

    def _told(self, percent: float, text: str) -> bool:
        try:
            self._tell(percent, text)
        except Exception as why:  # noqa: BLE001  whatever it is, the files matter more
            if not self._has_warned:
                log.warning("The progress of this run can't be shown: %s", why)
            self._has_warned = True
            return False
        return True


def human_seconds(seconds: float) -> str:
    """Write a time for people: 45 s, 12 min, 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
