"""Concurrent calls in threads, which end cleanly on Ctrl-C."""

from __future__ import annotations

import contextvars
import errno
import threading
import time
from typing import TYPE_CHECKING, TypeVar, cast

from ctaflows import cancel
from ctaflows.atomic_files import local_error
from ctaflows.errors import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")


POLL_S = 0.02
#: Number of threads at the start; more are added where the network is the limit.
FIRST = 2
#: Above this CPU use of all threads together, CPU seconds per second, more threads gain nothing:
#: they only wait for each other.
_BUSY = 0.6
#: Below this CPU use the threads are waiting for the network.
_IDLE = 0.2
_LONGEST_WINDOW_S = 0.64


class ConcurrencyController:
    """Decides on the number of threads: few where the CPU is the limit, more on a network.

    The CPU time of the thread that calls it does not count.

    Parameters
    ----------
    most : int
        Greatest number of threads.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._cpu_s, self._at = _others_cpu_s(), time.monotonic()
        self._window_s = 0.0

    def n_wanted(self, n_now: int) -> int:
        """Return the wanted number of threads, given their CPU time since the last decision.

        Each time they were busy, the time to the next decision doubles, up to 0.64 s: on a loaded
        machine short measurements find them idle sooner or later, and added threads stay.

        Parameters
        ----------
        n_now : int
            The present number of threads.
        """
        cpu_s, at = _others_cpu_s(), time.monotonic()
        if n_now == 0:
            self._cpu_s, self._at = cpu_s, at
            return min(FIRST, self._most)
        elapsed_s = at - self._at
        if elapsed_s < self._window_s:
            return n_now
        busy_s = cpu_s - self._cpu_s
        self._cpu_s, self._at = cpu_s, at
        if busy_s < _IDLE * elapsed_s:
            return self._most
        if busy_s <= _BUSY * elapsed_s:
            return min(2 * n_now, self._most)
        self._window_s = min(max(2 * self._window_s, POLL_S), _LONGEST_WINDOW_S)
        return n_now


def _others_cpu_s() -> float:
    return time.process_time() - time.thread_time()


stop_all = cancel.stop_all


def run_concurrently(
    work: Callable[[T], R], items: Sequence[T], n_threads: int, stop: threading.Event
) -> list[R]:
    """Call a function for each item in several threads, with this context's variables.

    Parameters
    ----------
    work : Callable
        Called once for each item.
    items : sequence
        Its arguments.
    n_threads : int
        Greatest number of threads; where the CPU is the limit there are fewer, and where the system
        gives none this one does the work.
    stop : threading.Event
        Set when the caller is interrupted, a call raises, or the work is stopped. Calls under way
        should end then; their requests do, see `cancel.scope`.

    Returns
    -------
    list
        The results in the order of the items.

    Raises
    ------
    BaseException
        The first error that a call raised.
    Stopped
        The work was stopped.
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


def start(thread: threading.Thread | Worker) -> None:
    """Start a thread without which the work can't be done.

    Raises
    ------
    UsageError
        This process, or this user, may have no more threads.
    """
    if not started(thread):
        why = OSError(errno.EAGAIN, "can't start new thread")
        raise local_error(why, None, "Too few threads can be started")


def started(thread: threading.Thread | Worker) -> bool:
    """Start a thread, and return whether this process may have one more."""
    try:
        thread.start()
    except RuntimeError:  # CPython's, for any refusal of the system
        return False
    return True


class Worker:
    """A daemon thread with the context variables of its creator.

    `join` does not use `threading.Thread.join`, which takes a thread for ended when a signal's
    exception ends the wait (Python 3.11, threading.py: _wait_for_tstate_lock).

    Parameters
    ----------
    work : Callable
        The thread's function.
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
        """Start the thread."""
        try:
            self._thread.start()
        except RuntimeError:  # the system has no more threads
            self._ended.set()
            raise

    def is_alive(self) -> bool:
        """Return whether it has not ended, even if it has not started yet."""
        return not self._ended.is_set()

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended, at most `timeout` seconds."""
        self._ended.wait(timeout)


def _run(worker: Callable[[], None], n_threads: int, stop: threading.Event) -> None:
    """Start threads and wait until all have ended; an interruption stops them first."""
    threads: list[Worker] = []
    controller = ConcurrencyController(n_threads)
    try:
        while True:
            for _ in range(min(controller.n_wanted(len(threads)), n_threads) - len(threads)):
                thread = Worker(worker)
                if not started(thread):
                    n_threads = len(threads)
                    break
                threads.append(thread)
            if not threads:
                worker()
                return
            running = next(filter(Worker.is_alive, threads), None)
            if running is None:
                return
            running.join(POLL_S if len(threads) < n_threads else None)
    finally:
        if any(thread.is_alive() for thread in threads):  # interrupted
            stop.set()
            for thread in threads:
                thread.join()
