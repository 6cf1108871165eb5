"""Cooperative cancellation: events that ask work in many threads to end early.

Ctrl-C and SIGTERM reach only the main thread, which may be waiting for another thread that waits
for one of ours: so the stop events of all work are registered here. Work that is stopped keeps the
bytes received so far.
"""

from __future__ import annotations

import contextlib
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING

from ctaflows.errors import Stopped

if TYPE_CHECKING:
    from collections.abc import Iterator


#: A wait for several events looks at all but the first this often, seconds.
GLANCE_S = 0.2

# Plain dictionaries and no locks, since signal handlers call `stop_all` at any moment.
_linked: dict[
    object, tuple[threading.Event, threading.Event]
] = {}  # event of the work it is part of, its own
_scope: ContextVar[threading.Event | None] = ContextVar("ctaflows_cancel", default=None)
_rest = threading.Event()  # of all work outside a scope


def stop_all() -> None:
    """Stop all work under way in this process; work that begins later is not affected."""
    global _rest
    rest, _rest = _rest, threading.Event()
    for stop in [rest, *(own for _, own in _linked.copy().values())]:
        stop.set()


def stop_within(scope: threading.Event) -> None:
    """Set an event, and the events of all work that is part of its work."""
    scope.set()
    for parent, own in _linked.copy().values():
        if parent is scope and not own.is_set():
            stop_within(own)


def current() -> threading.Event:
    """Return the event that stops the work of this context when it is set."""
    return _scope.get() or _rest


@contextlib.contextmanager
def link_child(stop: threading.Event) -> Iterator[None]:
    """Set an event too when the work of this context is stopped, or all work, within the block.

    It is set at once where that work has been stopped already.
    """
    key, parent = object(), current()
    if parent is stop:  # perhaps that of work which `stop_all` must not stop
        yield
        return
    _linked[key] = parent, stop
    try:
        if parent.is_set():
            stop.set()
        yield
    finally:
        del _linked[key]


@contextlib.contextmanager
def scope(stop: threading.Event) -> Iterator[None]:
    """Make an event the one that stops all work in the block, and in threads with its context."""
    token = _scope.set(stop)
    try:
        yield
    finally:
        _scope.reset(token)


def uncancellable() -> contextlib.AbstractContextManager[None]:
    """Return a context in which work is not stopped, such as cleaning up or reporting a result."""
    return scope(threading.Event())


def wait(seconds: float, *stops: threading.Event) -> bool:
    """Wait until one of the events is set or the time is over; return whether one is set."""
    first, *others = stops
    deadline = time.monotonic() + seconds
    while not any(stop.is_set() for stop in stops):
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        first.wait(min(left_s, GLANCE_S) if others else left_s)
    return True


def raise_if_cancelled(stop: threading.Event, where: str | None = None) -> None:
    """Raise `Stopped` if the event is set; `where` is for its message."""
    if stop.is_set():
        raise Stopped("Stopped", where=where)


def pause(seconds: float) -> None:
    """Wait some seconds, unless the work of this context is stopped.

    Raises
    ------
    Stopped
        The work was stopped.
    """
    stop = threading.Event()
    with link_child(stop):
        wait(seconds, stop)
    raise_if_cancelled(stop)
