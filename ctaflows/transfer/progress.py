"""Where moving files tell how far they are; who shows it is decided elsewhere."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctaflows.model import Transfer


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
