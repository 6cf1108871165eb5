"""Cooperative cancellation: events that ask work in many threads to end before it is done.

Ctrl-C and SIGTERM reach the main thread only, which may be waiting for another thread that waits
for ours: so all work that can be stopped is known here. What stops keeps what has come.
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


#: A wait for more than one thing looks at the others so often, in seconds.
GLANCE_S = 0.2

# Plain dictionaries and no locks: `stop_all` is called by signal handlers, at any moment.
_linked: dict[object, tuple[threading.Event, threading.Event]] = {}  # work it is part of, its own
_scope: ContextVar[threading.Event | None] = ContextVar("ctaflows_cancel", default=None)
_rest = threading.Event()  # of all that belongs to no scope


def stop_all() -> None:
    """Let all work that goes on in this process end soon; what begins later is not concerned."""
    global _rest
    rest, _rest = _rest, threading.Event()
    for stop in [rest, *(own for _, own in _linked.copy().values())]:
        stop.set()


def stop_within(scope: threading.Event) -> None:
    """Set the event of some work, and those of all that is part of it."""
    scope.set()
    for whole, own in _linked.copy().values():
        if whole is scope and not own.is_set():
            stop_within(own)


def current() -> threading.Event:
    """Give the event that tells the work of this context to end, once it is set."""
    return _scope.get() or _rest


@contextlib.contextmanager
def link_child(stop: threading.Event) -> Iterator[None]:
    """Let who stops this work, or all, set an event too, as long as the block lasts.

    It is set at once where the work that the block belongs to is to end already.
    """
    key, whole = object(), current()
    _linked[key] = whole, stop
    try:
        if whole.is_set():
            stop.set()
        yield
    finally:
        del _linked[key]


@contextlib.contextmanager
def scope(stop: threading.Event) -> Iterator[None]:
    """Let all work in the block, and in threads that get its context, end with an event."""
    token = _scope.set(stop)
    try:
        yield
    finally:
        _scope.reset(token)


def uncancellable() -> contextlib.AbstractContextManager[None]:
    """Let the block go to its end: what must be tidied up, or what is done already but unsaid."""
    return scope(threading.Event())


def wait(seconds: float, *stops: threading.Event) -> bool:
    """Wait until the time is over or one of the events is set; say whether one is."""
    first, *others = stops
    deadline = time.monotonic() + seconds
    while not any(stop.is_set() for stop in stops):
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        first.wait(min(left_s, GLANCE_S) if others else left_s)
    return True


def raise_if_cancelled(stop: threading.Event, where: str | None = None) -> None:
    """Raise `Stopped` if an event is set."""
    if stop.is_set():
        raise Stopped("Stopped", where=where)


def pause(seconds: float) -> None:
    """Wait, unless the work is asked to stop.

    Raises
    ------
    Stopped
        It is.
    """
    stop = threading.Event()
    with link_child(stop):
        wait(seconds, stop)
    raise_if_cancelled(stop)
