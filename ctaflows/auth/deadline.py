"""A total time for a call that talks to a server, and the end of what must not be cut off.

A timeout of the HTTP library is one for each read: a server that drips a byte now and then is never
late. Here the whole call has one end. An answer that has to be kept is kept in the thread that
receives it, so that a signal that ends the wait for it loses nothing.
"""

from __future__ import annotations

import atexit
import contextvars
import logging
import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from ctaflows import cancel
from ctaflows.errors import NetworkError, Stopped

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")

log = logging.getLogger("ctaflows.auth")

#: Who is interrupted waits so long for an answer that has to be kept, seconds.
PATIENCE_S = 10.0
_SILENT_S = 1.0

_going_on: set[threading.Event] = set()  # of calls whose answer has to be kept, set at their end


def within(
    seconds: float,
    call: Callable[[], R],
    *,
    where: str,
    stop: Callable[[], None],
    keep: Callable[[R], object] | None = None,
) -> R:
    """Make a call that must be over in time.

    Parameters
    ----------
    seconds : float
        How long the call may take in all.
    call : Callable
        What to do. It runs in a thread of its own, with this context's variables.
    where : str
        The server, for the message.
    stop : Callable
        Called when the time is over, to let the abandoned call end soon.
    keep : Callable, optional
        Keeps what the call gives, in the same thread, unless the time is over by then. A signal's
        exception, such as KeyboardInterrupt, is raised when that is done, or after `PATIENCE_S`.

    Raises
    ------
    NetworkError
        It was not over in time; what the server did is not known.
    Stopped
        The work that the call belongs to is to end, and no answer came soon.
    """
    made = _Call(call, keep)
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(made.run,), daemon=True)
    halted, ends_at = cancel.current(), time.monotonic() + seconds
    try:
        thread.start()
        cancel.wait(seconds, made.done, halted)
        if halted.is_set():
            made.done.wait(max(0.0, min(PATIENCE_S, ends_at - time.monotonic())))
    except BaseException:
        # not by join: an interrupted one believes that the thread has ended (Python 3.11)
        if keep is not None and thread.is_alive() and not made.done.wait(_SILENT_S):
            log.warning("Waiting for the tokens of %s, at most %g s", where, PATIENCE_S)
            made.done.wait(PATIENCE_S - _SILENT_S)
        raise
    finally:
        if not made.done.is_set():
            made.give_up(stop)
    if made.error is not None:
        raise made.error
    if made.outcome:
        return made.outcome[0]
    if halted.is_set():
        raise Stopped("Stopped while the server was asked", where=where)
    raise NetworkError(
        f"No whole answer within {seconds:g} s", where=where, hint="Try again in a moment."
    )


class _Call(Generic[R]):
    """A call whose answer is kept by the thread that makes it, or is not waited for any more."""

    def __init__(self, call: Callable[[], R], keep: Callable[[R], object] | None) -> None:
        self._call, self._keep = call, keep
        self.outcome: list[R] = []
        self.error: BaseException | None = None
        self.done = threading.Event()
        self._decision = threading.Lock()  # whoever takes it first decides which it is
        if keep is not None:
            _going_on.add(self.done)

    def run(self) -> None:
        """Make the call and keep its answer."""
        try:
            if self._decision.locked():
                return
            given = self._call()
            if self._decision.acquire(blocking=False):
                if self._keep is not None:
                    self._keep(given)
                self.outcome.append(given)
        except BaseException as why:  # noqa: BLE001  raised again by who waits
            self.error = why
        finally:
            _going_on.discard(self.done)
            self.done.set()

    def give_up(self, stop: Callable[[], None]) -> None:
        """Wait no longer, unless the answer is being kept right now."""
        if self._decision.acquire(blocking=False):
            _going_on.discard(self.done)
            stop()
        else:
            self.done.wait()


def is_keeping() -> bool:
    """Tell whether an answer that has to be kept is on its way."""
    return bool(_going_on)


def settle() -> None:
    """Wait until what has to be kept is kept, in all threads, but not for ever.

    Called before the process ends: its other threads end with it.
    """
    ends_at = time.monotonic() + PATIENCE_S
    for done in _going_on.copy():
        done.wait(max(0.0, ends_at - time.monotonic()))


atexit.register(settle)
