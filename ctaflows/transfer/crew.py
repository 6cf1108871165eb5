"""Many calls at once in threads, that end cleanly on Ctrl-C.

Ctrl-C reaches the main thread only, which may be waiting for another thread that waits for ours: so
all work that can be stopped is known here.
"""

from __future__ import annotations

import contextvars
import weakref
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

from ctaflows.errors import CtaflowsError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")


class Stopped(CtaflowsError):
    """The work was asked to stop; what came so far is kept."""

    exit_code = 130


_stops: weakref.WeakSet[threading.Event] = weakref.WeakSet()


def stop_all() -> None:
    """Let all work in this process end soon, as Ctrl-C asks for."""
    for stop in list(_stops):
        stop.set()


def at_once(
    work: Callable[[T], R], items: Sequence[T], n_threads: int, stop: threading.Event
) -> list[R]:
    """Call a function for each item, several at a time, with this context's variables.

    Parameters
    ----------
    work : Callable
        Called once for each item.
    items : sequence
        What to work on.
    n_threads : int
        How many at a time.
    stop : threading.Event
        Set when the caller is interrupted or a call raises: work that has begun should end soon.

    Returns
    -------
    list
        The results in the order of the items.
    """
    _stops.add(stop)
    with ThreadPoolExecutor(max(1, min(len(items), n_threads))) as pool:
        futures = [pool.submit(contextvars.copy_context().run, work, item) for item in items]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            if not all(future.done() for future in futures):
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
        return [future.result() for future in futures]
