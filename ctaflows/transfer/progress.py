"""Where moving files tell how far they are; who shows it is decided elsewhere."""

from __future__ import annotations

import contextlib
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Self

from ctaflows import cancel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctaflows.model import Transfer
    from ctaflows.storage.protocol import Storage


class Progress:
    """Hears of transfers, and does nothing: the base of those that show something.

    All methods may be called from many threads at once.
    """

    def __enter__(self) -> Self:
        """Begin to show it; the transfers begin after this."""
        return self

    def __exit__(self, *exc: object) -> None:
        """End it."""

    def expect(self, n_files: int, n_bytes: int) -> None:
        """More files are going to be moved."""

    def advance(self, n_bytes: int) -> None:
        """Bytes have come (or, negative, turned out to be useless)."""

    def finished(self, transfer: Transfer) -> None:
        """One file has ended, well or not."""


_current: ContextVar[Progress] = ContextVar("ctaflows_progress", default=Progress())  # noqa: B039


def current() -> Progress:
    """Give the listener of this context."""
    return _current.get()


@contextlib.contextmanager
def reported_to(progress: Progress | None) -> Iterator[None]:
    """Report all transfers within to a listener; None leaves the present one."""
    if progress is None:
        yield
        return
    with progress:
        token = _current.set(progress)
        try:
            yield
        finally:
            _current.reset(token)


# -- concurrent listings ---------------------------------------------------------------------------
#
# The transfer slots of a door, for one thread that moves many files.


@contextlib.contextmanager
def held(door: Storage, stop: threading.Event) -> Iterator[int]:
    """Hold one transfer slot, and those that are free besides."""
    slots, n = door.transfer_slots, 1
    while not slots.acquire(timeout=cancel.GLANCE_S):
        cancel.raise_if_cancelled(stop)
    try:
        while n < door.settings.transfers and slots.acquire(blocking=False):
            n += 1
        yield n
    finally:
        for _ in range(n):
            slots.release()


# -- rate limit ------------------------------------------------------------------------------------
#
# A limit on bytes per second, shared by all that moves in a context.

_LONGEST_NAP_S = 0.5


class RateLimiter:
    """Lets bytes pass at a rate; a faster stream waits.

    Parameters
    ----------
    bytes_per_s : float, optional
        None lets all pass.
    """

    def __init__(self, bytes_per_s: float | None = None) -> None:
        self._rate = bytes_per_s
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def consume(self, n_bytes: int) -> None:
        """Wait until the bytes that have come were due, or the work is to end."""
        if self._rate is None:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - _LONGEST_NAP_S) + n_bytes / self._rate
            wait_s = self._free_at - now
        if wait_s > 0:
            cancel.wait(wait_s, cancel.current())


_rate_limiter: ContextVar[RateLimiter] = ContextVar("ctaflows_throttle", default=RateLimiter())  # noqa: B039


def rate_limiter() -> RateLimiter:
    """Give the limit of this context."""
    return _rate_limiter.get()


@contextlib.contextmanager
def limited_to(bytes_per_s: float | None) -> Iterator[None]:
    """Let all transfers within share a limit."""
    token = _rate_limiter.set(RateLimiter(bytes_per_s))
    try:
        yield
    finally:
        _rate_limiter.reset(token)
