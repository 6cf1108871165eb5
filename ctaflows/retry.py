"""Repeating what failed: how often, after which pause, and when no more.

What repeats asks here, with one `Retries` for each piece of work; downloads, which go on with what
has come, count for themselves and share `MAX_RETRY_AFTER_S`.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from ctaflows.errors import RateLimited

if TYPE_CHECKING:
    from ctaflows.errors import CtaflowsError
    from ctaflows.settings import Settings

#: A server that asks for a longer pause, in seconds, is not waited for.
MAX_RETRY_AFTER_S = 600.0
_MAX_BACKOFF_S = 60.0


class Retries:
    """The tries of one piece of work: counts those that failed, and gives the pauses between them.

    Parameters
    ----------
    settings : Settings
        ``attempts`` tries in a row may fail; ``backoff_s`` is the first pause, which doubles;
        ``busy_s`` the least after a 429.
    also : tuple of type
        Errors that may pass here, although elsewhere they don't.

    Attributes
    ----------
    n_failed : int
        Tries that have failed so far.
    """

    def __init__(self, settings: Settings, *, also: tuple[type[CtaflowsError], ...] = ()) -> None:
        self._settings, self._also = settings, also
        self._n_in_a_row = 0
        self.n_failed = 0

    def pause_s(self, error: CtaflowsError, *, progress: bool = False) -> float | None:
        """Count a try that failed, and return the pause before the next; None means give up.

        Parameters
        ----------
        error : CtaflowsError
            What happened. Where it asks for too long a pause, its hint says so.
        progress : bool
            Did the try bring something? Then it is the first one in a row.
        """
        self.n_failed += 1
        self._n_in_a_row = 1 if progress else self._n_in_a_row + 1
        may_pass = error.retryable or isinstance(error, self._also)
        if not may_pass or self._n_in_a_row >= self._settings.attempts:
            return None
        asked = error.retry_after_s
        if asked is not None and asked > MAX_RETRY_AFTER_S:
            error.hint = (
                f"It asks for a pause of {asked:.0f} s, and {MAX_RETRY_AFTER_S:.0f} s are the "
                "longest that is waited. Run the same command again after it."
            )
            return None
        return _pause_s(error, self._n_in_a_row, self._settings)

    def pause_or_raise(self, error: CtaflowsError, *, progress: bool = False) -> float:
        """Return the pause before the next try, or raise the error where there is none."""
        pause = self.pause_s(error, progress=progress)
        if pause is None:
            raise error
        return pause


def _pause_s(error: CtaflowsError, attempt: int, settings: Settings) -> float:
    """Return seconds, with jitter: never less than a server has asked for."""
    asked = error.retry_after_s
    if asked is not None:
        return asked + random.uniform(0, 0.1 * asked)
    base: float = min(settings.backoff_s * 2 ** min(attempt - 1, 30), _MAX_BACKOFF_S)
    if isinstance(error, RateLimited):
        base = max(base, settings.busy_s)
    return base * random.uniform(0.75, 1.25)
