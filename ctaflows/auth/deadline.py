"""A total time for a call that talks to a server.

A timeout of the HTTP library is one for each read: a server that drips a byte now and then is never
late. Here the whole call has one end.
"""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING, TypeVar

from ctaflows.errors import NetworkError

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")


def within(seconds: float, call: Callable[[], R], *, where: str, stop: Callable[[], None]) -> R:
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

    Raises
    ------
    NetworkError
        It was not over in time; what the server did is not known.
    """
    outcome: list[R] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as why:  # noqa: BLE001  raised again by the caller
            errors.append(why)

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(run,), daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if outcome:
        return outcome[0]
    stop()
    raise NetworkError(
        f"No whole answer within {seconds:g} s", where=where, hint="Try again in a moment."
    )
