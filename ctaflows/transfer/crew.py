"""Many calls at once in threads, that end cleanly on Ctrl-C."""

from __future__ import annotations

import contextvars
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")


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
    with ThreadPoolExecutor(max(1, min(len(items), n_threads))) as pool:
        futures = [pool.submit(contextvars.copy_context().run, work, item) for item in items]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            if not all(future.done() for future in futures):
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
        return [future.result() for future in futures]
