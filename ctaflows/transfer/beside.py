"""A second process at the files of one call: when it pays, and what the two share."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from ctaflows import cancel
from ctaflows.transfer import twin

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    from ctaflows.storage.protocol import Storage
    from ctaflows.transfer.twin import Settle

    Work = Callable[["Beside", Settle, threading.Event], None]

log = logging.getLogger("ctaflows.transfer")

#: From so many small files on, or so many bytes of others, a second process gains more than the
#: 20 ms or so that it costs.
_FROM_SMALL = 256
_FROM_BYTES = 128 << 20
_FROM_OTHERS = 4
_SMALL_AT_ONCE = 16


class Beside:
    """A second process that stands ready, and what both draw from.

    Parameters
    ----------
    small, others : sequence of int
        Places of the small files, and of the others.
    n_slots : int
        How many files the second one may move at once.

    Attributes
    ----------
    small, others : SharedLine
        To be drawn from.
    n_slots : int
        As given.
    """

    def __init__(self, small: Sequence[int], others: Sequence[int], n_slots: int) -> None:
        self.small = twin.SharedLine(small, _SMALL_AT_ONCE)
        try:
            self.others = twin.SharedLine(others)
        except OSError:
            self.small.close()
            raise
        self.n_slots = n_slots
        self._twin: twin.Twin | None = None

    @contextlib.contextmanager
    def ready(self, work: Work, silent_s: float) -> Iterator[None]:
        """Have the process as long as the block lasts.

        Parameters
        ----------
        work : Callable
            What it does: it gets this, whom to tell of each file that is done, and what stops it.
        silent_s : float
            See `twin.Twin`.
        """
        with (
            contextlib.closing(self.small),
            contextlib.closing(self.others),
            twin.Twin(lambda tell, stop: work(self, tell, stop), silent_s) as self._twin,
        ):
            yield

    @contextlib.contextmanager
    def at_work(self, door: Storage, heard: Settle, stop: threading.Event) -> Iterator[None]:
        """Let it work as long as the block lasts, and until it is done, in slots of this one."""
        assert self._twin is not None  # noqa: S101  it is ready
        n, slots = 0, door.transfer_slots
        try:
            while n < self.n_slots and slots.acquire(blocking=False):
                n += 1
            if n == self.n_slots:
                self._twin.begin(heard, stop)
            yield
            with cancel.link_child(stop):
                self._twin.wait(stop)
        finally:
            self._twin.end()
            for _ in range(n):
                slots.release()


@contextlib.contextmanager
def standing_ready(
    door: Storage, small: Sequence[int], others: Sequence[int], n_bytes: int, work: Work
) -> Iterator[Beside | None]:
    """Let a second process stand ready, where that pays and can be done.

    To be called while the process has but one thread, see `twin`.

    Parameters
    ----------
    door : Storage
        Its number of transfers is shared.
    small, others : sequence of int
        Places of the small files, and of the others.
    n_bytes : int
        Of the others.
    work : Callable
        See `Beside.ready`.
    """
    n_slots = door.settings.transfers // 2
    pays = len(small) >= _FROM_SMALL or (len(others) >= _FROM_OTHERS and n_bytes >= _FROM_BYTES)
    if n_slots == 0 or not pays or not twin.is_able():
        yield None
        return
    with contextlib.ExitStack() as stack:
        beside = None
        try:
            beside = Beside(small, others, n_slots)
            stack.enter_context(beside.ready(work, door.settings.stall_timeout_s))
        except OSError as why:
            log.info("No second process: %s", why)
            beside = None
        yield beside
