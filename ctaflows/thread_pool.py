"""Many calls at once in threads, that end cleanly on Ctrl-C."""

from __future__ import annotations

import contextvars
import threading
import time
from typing import TYPE_CHECKING, TypeVar, cast

from ctaflows import cancel
from ctaflows.errors import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")


POLL_S = 0.02
#: So many threads begin; more are for where the network is the limit.
FIRST = 2
#: Threads this busy (CPU seconds per second) gain nothing from more: they only wait for each other.
_BUSY = 0.6
#: Those that do next to nothing wait for the network.
_IDLE = 0.2
_LONGEST_WINDOW_S = 0.64


class ConcurrencyController:
    """Decides how many threads are worth having: few where the CPU is the limit, more on a network.

    What its caller's own thread does is no work of theirs and does not count.

    Parameters
    ----------
    most : int
        Never more than these.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._cpu_s, self._at = _others_cpu_s(), time.monotonic()
        self._window_s = 0.0

    def n_wanted(self, n_now: int) -> int:
        """Say how many there should be, from how busy these were since it was last judged.

        Each time that it was busy the next judgement takes twice as long: on a loaded machine a
        short look finds it idle sooner or later, and threads never end.
        """
        cpu_s, at = _others_cpu_s(), time.monotonic()
        if n_now == 0:
            self._cpu_s, self._at = cpu_s, at
            return min(FIRST, self._most)
        past_s = at - self._at
        if past_s < self._window_s:
            return n_now
        busy_s = cpu_s - self._cpu_s
        self._cpu_s, self._at = cpu_s, at
        if busy_s < _IDLE * past_s:
            return self._most
        if busy_s <= _BUSY * past_s:
            return min(2 * n_now, self._most)
        self._window_s = min(max(2 * self._window_s, POLL_S), _LONGEST_WINDOW_S)
        return n_now


def _others_cpu_s() -> float:
    return time.process_time() - time.thread_time()


stop_all = cancel.stop_all


def run_concurrently(
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
        Set when the caller is interrupted, a call raises, or all work is stopped: work that has
        begun should end soon, and the requests it makes do, see `cancel.scope`.

    Returns
    -------
    list
        The results in the order of the items.
    """
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

    with cancel.link_child(stop), cancel.scope(stop):
        _run(worker, max(1, min(len(items), n_threads)), stop)
    if errors:
        raise errors[0]
    if stop.is_set():
        raise Stopped("Stopped; what has come is kept")
    return cast("list[R]", results)


class Worker:
    """A thread of ours, with the variables of the context it is made in.

    It is waited for without `threading.Thread.join`, which believes that a thread has ended when a
    signal's exception ends the wait (Python 3.11, threading.py: _wait_for_tstate_lock).

    Parameters
    ----------
    work : Callable
        What it does.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        self._work, self._ended = work, threading.Event()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._do,), daemon=True)

    def _do(self) -> None:
        try:
            self._work()
        finally:
            self._ended.set()

    def start(self) -> None:
        """Let it begin."""
        try:
            self._thread.start()
        except RuntimeError:  # there are too many
            self._ended.set()
            raise

    def is_alive(self) -> bool:
        """Is it still at work, or about to begin?"""
        return not self._ended.is_set()

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended, at most so many seconds."""
        self._ended.wait(timeout)


def _run(worker: Callable[[], None], n_threads: int, stop: threading.Event) -> None:
    """Let threads work until all have ended; an interruption stops them first."""
    begun: list[Worker] = []
    pace = ConcurrencyController(n_threads)
    try:
        while True:
            for _ in range(pace.n_wanted(len(begun)) - len(begun)):
                begun.append(Worker(worker))
                begun[-1].start()
            waited_for = next(filter(Worker.is_alive, begun), None)
            if waited_for is None:
                return  # all is done, perhaps by fewer than there might have been
            waited_for.join(POLL_S if len(begun) < n_threads else None)
    finally:
        if any(hand.is_alive() for hand in begun):  # interrupted
            stop.set()
            for hand in begun:
                hand.join()
