"""Many calls at once in threads, that end cleanly on Ctrl-C.

Ctrl-C reaches the main thread only, which may be waiting for another thread that waits for ours: so
all work that can be stopped is known here.
"""

from __future__ import annotations

import contextvars
import threading
import time
import weakref
from typing import TYPE_CHECKING, TypeVar, cast

from ctaflows.errors import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")


GLANCE_S = 0.02
_FIRST = 2
#: A process this busy (CPU seconds per second) gains nothing from more threads: they only wait for
#: each other.
_BUSY = 0.6


class Pace:
    """Decides how many threads are worth having: few where the CPU is the limit, more on a network.

    Parameters
    ----------
    most : int
        Never more than these.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._cpu_s, self._at = time.process_time(), time.monotonic()

    def n_wanted(self, n_now: int) -> int:
        """Say how many there should be, from how busy this process was since it was asked last."""
        cpu_s, at = time.process_time(), time.monotonic()
        is_busy = cpu_s - self._cpu_s > _BUSY * (at - self._at)
        self._cpu_s, self._at = cpu_s, at
        if n_now == 0:
            return min(_FIRST, self._most)
        return n_now if is_busy else min(2 * n_now, self._most)


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
    queue = iter(enumerate(items))
    taking = threading.Lock()
    results: list[R | None] = [None] * len(items)
    errors: list[BaseException] = []

    def worker() -> None:
        while not stop.is_set():
            with taking:
                index, item = next(queue, (-1, None))
            if index < 0:
                return
            try:
                results[index] = work(cast("T", item))
            except BaseException as why:  # noqa: BLE001  raised again below
                errors.append(why)
                stop.set()

    _run(worker, max(1, min(len(items), n_threads)), stop)
    if errors:
        raise errors[0]
    if stop.is_set():
        raise Stopped("Stopped; what has come is kept")
    return cast("list[R]", results)


def _run(worker: Callable[[], None], n_threads: int, stop: threading.Event) -> None:
    """Let threads work until all have ended; an interruption stops them first."""
    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(worker,), daemon=True)
        for _ in range(n_threads)
    ]
    begun: list[threading.Thread] = []
    pace = Pace(n_threads)
    try:
        while len(begun) < n_threads or any(map(threading.Thread.is_alive, begun)):
            for thread in threads[len(begun) : pace.n_wanted(len(begun))]:
                thread.start()
                begun.append(thread)
            waited_for = next(filter(threading.Thread.is_alive, begun), None)
            if waited_for is None:
                return  # all is done, by fewer than there might have been
            waited_for.join(GLANCE_S if len(begun) < n_threads else None)
    finally:
        threads = begun
        if any(thread.is_alive() for thread in threads):  # interrupted
            stop.set()
            for thread in threads:
                thread.join()
