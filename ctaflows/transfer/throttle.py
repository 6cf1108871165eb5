"""A limit on bytes per second, shared by all that moves in a context."""

from __future__ import annotations

import contextlib
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING

from ctaflows import cancel

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST_NAP_S = 0.5


class Throttle:
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

    def pay(self, n_bytes: int) -> None:
        """Wait until the bytes that have come were due, or the work is to end."""
        if self._rate is None:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - _LONGEST_NAP_S) + n_bytes / self._rate
            wait_s = self._free_at - now
        if wait_s > 0:
            cancel.wait(wait_s, cancel.current())


_current: ContextVar[Throttle] = ContextVar("ctaflows_throttle", default=Throttle())  # noqa: B039


def current() -> Throttle:
    """Give the limit of this context."""
    return _current.get()


@contextlib.contextmanager
def limited_to(bytes_per_s: float | None) -> Iterator[None]:
    """Let all transfers within share a limit."""
    token = _current.set(Throttle(bytes_per_s))
    try:
        yield
    finally:
        _current.reset(token)
