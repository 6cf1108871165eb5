"""The retry policy: for how long a failed operation is tried again, and after which pause.

There is one `Retries` for each operation, such as a request, or the transfer of a file with all its
requests. It has two budgets: time for what may pass by itself, such as a service that restarts; a
count for answers that are wrong, such as the page of a proxy in place of a file.
"""

from __future__ import annotations

import math
import random
import time
from typing import TYPE_CHECKING

from ctaflows.errors import NotTheFile, RateLimited, Truncated

if TYPE_CHECKING:
    from ctaflows.errors import CtaflowsError
    from ctaflows.settings import Settings

#: A service of dCache that restarts takes 20 to 40 s (seen with 11.2.5): longer pauses would lose
#: more time than they spare.
_MAX_BACKOFF_S = 20.0
#: A door that counts requests by the second (dCache 12.1: 250 of a client) takes more a second
#: later; one that has blocked an address after three 401s does so for 20 s (webdav.limits.*).
_FIRST_BUSY_S = 1.0
#: So many wrong answers in a row are the server's last word.
_MAX_WRONG = 3


class Retries:
    """The failed tries of one operation, and the pauses between them.

    Parameters
    ----------
    settings : Settings
        There is no further try after ``retry_s`` seconds without progress, nor after ``attempts``
        failures in a row where that is set; ``backoff_s`` is the first pause, which doubles up to
        20 s; after a 429 the first is a second, and ``busy_s`` the longest.
    also : tuple of type
        Errors that are retried too, although they are not ``retryable``.

    Attributes
    ----------
    n_failed : int
        Number of failed tries so far.
    moved_at : float
        Time of the last progress of those that `of_one` made, see `time.monotonic`.
    """

    def __init__(self, settings: Settings, *, also: tuple[type[CtaflowsError], ...] = ()) -> None:
        self._settings, self._also = settings, also
        self._whole: Retries | None = None
        self.moved_at = -math.inf
        self._n_in_a_row = self._n_wrong = 0
        self._since: float | None = None  # of the first failure in a row
        self.n_failed = 0

    def of_one(self) -> Retries:
        """Return budgets for one of several requests at once, whose failures are in no row.

        They are counted here too, and progress of any gives each of them its time anew.
        """
        one = Retries(self._settings, also=self._also)
        one._whole = self
        return one

    def pause_s(
        self,
        error: CtaflowsError,
        *,
        progress: bool = False,
        since: float | None = None,
        within_s: float | None = None,
    ) -> float | None:
        """Count a failed try, and return the pause before the next.

        The time that a try takes is not limited here: what has waited long for an answer may have
        been about to get it.

        Parameters
        ----------
        error : CtaflowsError
            Why it failed. Its hint is replaced where it asks for too long a pause.
        progress : bool
            Did the try make progress? Then both budgets begin anew.
        since : float, optional
            When other operations had begun to fail for the same reason, see `time.monotonic`: the
            budget of time counts from then.
        within_s : float, optional
            A shorter time than ``retry_s``.

        Returns
        -------
        float or None
            Seconds, with a jitter of a quarter; never less than the server asked for, which gets a
            tenth more at most. None where there is to be no further try.
        """
        now = time.monotonic()
        self.n_failed += 1
        if self._whole is not None:
            self._whole.n_failed += 1
        if progress or self._since is None:
            self._n_in_a_row = self._n_wrong = 0
            self._since = now
        if progress:
            self._moved(now)
        if since is not None:
            self._since = min(self._since, since)
        self._n_in_a_row += 1
        self._n_wrong += isinstance(error, NotTheFile | Truncated)
        if not (error.retryable or isinstance(error, self._also)) or self._n_wrong > _MAX_WRONG:
            return None
        attempts = self._settings.attempts
        if attempts is not None and self._n_in_a_row >= attempts:
            return None
        pause = _pause_s(error, self._n_in_a_row, self._settings)
        moved_at = -math.inf if self._whole is None else self._whole.moved_at
        budget_s = self._settings.retry_s
        budget_s = budget_s if within_s is None else min(budget_s, within_s)
        left_s = max(self._since, moved_at) + budget_s - now
        if pause <= left_s:
            return pause
        if error.retry_after_s is not None:
            error.hint = (
                f"The server asks for a pause of {error.retry_after_s:.0f} s, longer than retry_s "
                f"({self._settings.retry_s:.0f} s) allows. Run the same command again after it."
            )
        return None

    def succeeded(self) -> None:
        """Begin both budgets anew after a success, such as of another request of the operation."""
        self._since = None
        self._moved(time.monotonic())

    def _moved(self, now: float) -> None:
        if self._whole is not None:
            self._whole.moved_at = now

    def pause_or_raise(
        self,
        error: CtaflowsError,
        *,
        progress: bool = False,
        since: float | None = None,
        within_s: float | None = None,
    ) -> float:
        """Return the pause of `pause_s`, or raise the error where there is to be no further try."""
        pause = self.pause_s(error, progress=progress, since=since, within_s=within_s)
        if pause is None:
            raise error
        return pause


def asked_pause_s(error: CtaflowsError, settings: Settings) -> float | None:
    """Return the pause that a server asked for, in seconds; None where it asked for none.

    A second is added (less where ``busy_s`` is less), since dCache 12.0.1 rounds down: during the
    last second of a block it says ``Retry-After: 0``, and refuses what comes at once.
    """
    asked = error.retry_after_s
    return None if asked is None else asked + min(1.0, settings.busy_s)


def _pause_s(error: CtaflowsError, attempt: int, settings: Settings) -> float:
    """Return the pause before a try, in seconds with jitter."""
    asked = asked_pause_s(error, settings)
    if asked is not None:
        return asked + random.uniform(0, 0.1 * asked)
    base: float = min(settings.backoff_s * 2 ** min(attempt - 1, 30), _MAX_BACKOFF_S)
    if isinstance(error, RateLimited):
        base = min(_FIRST_BUSY_S * 2 ** min(attempt - 1, 30), settings.busy_s)
    return base * random.uniform(0.75, 1.25)
