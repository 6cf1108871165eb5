"""What is shared by the transfers of a context: progress reports, a rate limit."""

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


class Progress:
    """The receiver of progress reports. This base class ignores them; others display them.

    All methods may be called from many threads at once.
    """

    def __enter__(self) -> Self:
        """Begin to show it; the transfers begin after this."""
        return self

    def __exit__(self, *exc: object) -> None:
        """End it."""

    def expect(self, n_files: int, n_bytes: int) -> None:
        """Announce further files, and their total size."""

    def advance(self, n_bytes: int) -> None:
        """Report transferred bytes; a negative number takes back bytes that must be sent again."""

    def finished(self, transfer: Transfer) -> None:
        """Report that the transfer of one file has ended, with success or with an error."""


_current: ContextVar[Progress] = ContextVar("ctaflows_progress", default=Progress())  # noqa: B039


def current() -> Progress:
    """Return the receiver of this context's reports."""
    return _current.get()


@contextlib.contextmanager
def reported_to(progress: Progress | None) -> Iterator[None]:
    """Send the reports of all transfers within to a receiver; None keeps the present one."""
    if progress is None:
        yield
        return
    with progress:
        token = _current.set(progress)
        try:
            yield
        finally:
            _current.reset(token)


# -- rate limit ------------------------------------------------------------------------------------
#
# A limit on bytes per second, shared by all transfers of a context.

_MAX_BURST_S = 0.5


class RateLimiter:
    """A limit on the transfer rate that several threads share.

    Parameters
    ----------
    bytes_per_s : float, optional
        The limit; by default there is none.
    """

    def __init__(self, bytes_per_s: float | None = None) -> None:
        self._rate = bytes_per_s
        self.is_limited = bytes_per_s is not None
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def pause_s(self, n_bytes: int) -> float:
        """Count transferred bytes, and return how long to wait before the next ones, seconds.

        Unused time is credited up to half a second.
        """
        if self._rate is None:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - _MAX_BURST_S) + n_bytes / self._rate
            return max(0.0, self._free_at - now)

    def consume(self, n_bytes: int) -> None:
        """Wait as long as bytes that have been transferred exceed the rate, or until cancelled."""
        wait_s = self.pause_s(n_bytes)
        if wait_s > 0:
            cancel.wait(wait_s, cancel.current())


_rate_limiter: ContextVar[RateLimiter] = ContextVar("ctaflows_throttle", default=RateLimiter())  # noqa: B039


def rate_limiter() -> RateLimiter:
    """Return the rate limiter of this context."""
    return _rate_limiter.get()


def rate_limit() -> RateLimiter | None:
    """Return the rate limiter of this context; None where there is no limit."""
    limiter = rate_limiter()
    return limiter if limiter.is_limited else None


@contextlib.contextmanager
def limited_to(bytes_per_s: float | None) -> Iterator[None]:
    """Let all transfers within the block share a limit, in bytes per second; None lifts it."""
    token = _rate_limiter.set(RateLimiter(bytes_per_s))
    try:
        yield
    finally:
        _rate_limiter.reset(token)
