"""Where moving files tell how far they are; who shows it is decided elsewhere."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

from ctaflows import cancel

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from ctaflows.model import Transfer
    from ctaflows.storage.protocol import Storage


class Progress:
    """Hears of transfers, and does nothing: the base of those that show something.

    All methods may be called from many threads at once.
    """

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
def reported_to(progress: Progress) -> Iterator[None]:
    """Let a listener hear of all transfers within."""
    token = _current.set(progress)
    try:
        yield
    finally:
        _current.reset(token)


# -- slots -----------------------------------------------------------------------------------------
#
# The transfer slots of a door, for one thread that moves many files.


@contextlib.contextmanager
def held(door: Storage, stop: threading.Event) -> Iterator[int]:
    """Hold one transfer slot, and those that are free besides."""
    slots, n = door.transfer_slots, 1
    while not slots.acquire(timeout=cancel.GLANCE_S):
        cancel.end_if(stop)
    try:
        while n < door.settings.transfers and slots.acquire(blocking=False):
            n += 1
        yield n
    finally:
        for _ in range(n):
            slots.release()
