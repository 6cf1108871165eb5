"""The retry policy: how often a failed operation is tried again, and after which pause.

There is one `Retries` for each operation. Downloads, which resume after the bytes received, count
their tries themselves and share `MAX_RETRY_AFTER_S`.

Whether a request is repeated is decided by `transport.client.Transport._with_retries`, and where
more than the one request is known by `storage.listing.Lister`, `storage.namespace.remove_one`,
`storage.range_reader.RangeReader.read`, `transfer.upload.upload`, `transfer.fetch.fetch` and
`auth.renewal.TokenProvider`.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from ctaflows.errors import RateLimited

if TYPE_CHECKING:
    from ctaflows.errors import CtaflowsError
    from ctaflows.settings import Settings

#: Longest pause that a server may ask for by Retry-After, seconds; a longer one is an error.
MAX_RETRY_AFTER_S = 600.0
_MAX_BACKOFF_S = 60.0


class Retries:
    """The failed tries of one operation, and the pauses between them.

    Parameters
    ----------
    settings : Settings
        After ``attempts`` failures in a row there is no further try; ``backoff_s`` is the first
        pause, which doubles up to 60 s; ``busy_s`` is the shortest after a 429.
    also : tuple of type
        Errors that are retried too, although they are not ``retryable``.

    Attributes
    ----------
    n_failed : int
        Number of failed tries so far.
    """

    def __init__(self, settings: Settings, *, also: tuple[type[CtaflowsError], ...] = ()) -> None:
        self._settings, self._also = settings, also
        self._n_in_a_row = 0
        self.n_failed = 0

    def pause_s(self, error: CtaflowsError, *, progress: bool = False) -> float | None:
        """Count a failed try, and return the pause before the next.

        Parameters
        ----------
        error : CtaflowsError
            Why it failed. Its hint is replaced where it asks for too long a pause.
        progress : bool
            Did the try make progress? Then the failures in a row are counted from it.

        Returns
        -------
        float or None
            Seconds, with a jitter of a quarter; never less than the server asked for, which gets a
            tenth more at most. None where there is to be no further try.
        """
        self.n_failed += 1
        self._n_in_a_row = 1 if progress else self._n_in_a_row + 1
        may_pass = error.retryable or isinstance(error, self._also)
        if not may_pass or self._n_in_a_row >= self._settings.attempts:
            return None
        asked = error.retry_after_s
        if asked is not None and asked > MAX_RETRY_AFTER_S:
            error.hint = (
                f"The server asks for a pause of {asked:.0f} s; the longest is "
                f"{MAX_RETRY_AFTER_S:.0f} s. Run the same command again after it."
            )
            return None
        return _pause_s(error, self._n_in_a_row, self._settings)

    def pause_or_raise(self, error: CtaflowsError, *, progress: bool = False) -> float:
        """Return the pause of `pause_s`, or raise the error where there is to be no further try."""
        pause = self.pause_s(error, progress=progress)
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
        base = max(base, settings.busy_s)
    return base * random.uniform(0.75, 1.25)
