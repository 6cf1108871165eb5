"""Watching a night: which night, what is new and complete, when to look again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ctaflows.dl1.names import LAST_NIGHT, night_date
from ctaflows.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctaflows.dl1.sightings import Memory
    from ctaflows.model import Entry

TONIGHT = "tonight"
#: A door is not asked more often than this.
MIN_INTERVAL_S = 1.0
#: Pauses differ by so much, lest many watches ask a door at the same moment.
_JITTER = 0.1


def night_of(text: str, now: datetime) -> str:
    """Read which night is meant.

    Parameters
    ----------
    text : str
        ``20241114``, ``2024-11-14``, ``last-night`` (of yesterday's evening) or ``tonight`` (the
        night that goes on, or in the afternoon the next one).
    now : datetime
        The present, aware.

    Returns
    -------
    str
        The evening's date, ``YYYYMMDD``.

    Raises
    ------
    UsageError
        It is none of these.
    """
    if text.strip().lower() == TONIGHT:
        return f"{now.astimezone(UTC) - timedelta(hours=12):%Y%m%d}"
    try:
        return night_date(text, now)
    except UsageError as why:
        hint = f"{why.hint or ''} Or say {LAST_NIGHT} or {TONIGHT}."
        raise UsageError(why.what, said=why.said, hint=hint.strip()) from None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait before something counts as finished.

    Attributes
    ----------
    settle_s : float
        A file is complete when it was not changed for so long.
    quiet_s : float
        A night is complete when nothing came or changed for so long.
    """

    settle_s: float
    quiet_s: float


@dataclass(frozen=True)
class Look:
    """What is to be done after a look.

    Attributes
    ----------
    ready : tuple of Entry
        Complete, and not dealt with yet.
    waiting : tuple of Entry
        Still growing, or seen for the first time.
    n_done : int
        Files that have been dealt with.
    last_change : datetime or None
        When the night changed last, as far as is known.
    """

    ready: tuple[Entry, ...] = ()
    waiting: tuple[Entry, ...] = ()
    n_done: int = 0
    last_change: datetime | None = None

    def is_whole(self, is_incomplete: bool, now: datetime, patience: Patience) -> bool:
        """Is the night complete, so that nothing more is to be expected?

        Parameters
        ----------
        is_incomplete : bool
            Is something missing, or not known, as `night.Gaps` tells?
        now : datetime
            The present, aware.
        patience : Patience
            A night has no end of its own: only silence tells.
        """
        if self.last_change is None or self.ready or self.waiting or is_incomplete:
            return False
        return (now - self.last_change).total_seconds() >= patience.quiet_s


def look_at(memory: Memory, wanted: Sequence[Entry], now: datetime, patience: Patience) -> Look:
    """Say which of the wanted files are to be dealt with now.

    Parameters
    ----------
    memory : Memory
        With the present look taken in.
    wanted : sequence of Entry
        Files of the present look.
    now : datetime
        The present, aware.
    patience : Patience
        How long a file must have been as it is.
    """
    ready: list[Entry] = []
    waiting: list[Entry] = []
    n_done = 0
    changes: list[datetime] = []
    for entry in wanted:
        seen = memory.sightings[entry.path]
        changes.append(seen.changed_at)
        if seen.is_done:
            n_done += 1
        else:
            (ready if seen.is_complete(now, patience.settle_s) else waiting).append(entry)
    return Look(tuple(ready), tuple(waiting), n_done, max(changes, default=None))


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often to look, and for how long.

    Attributes
    ----------
    interval_s : float
        From the end of a look to the next one.
    deadline_s : float
        From the first look to the last.
    polls : int or None
        How many looks at most; None means as many as it takes.

    Raises
    ------
    UsageError
        A door would be asked without a pause, or never.
    """

    interval_s: float
    deadline_s: float
    polls: int | None = None

    def __post_init__(self) -> None:
        # not (a >= b), since a value may be no number
        if not self.interval_s >= MIN_INTERVAL_S:
            raise UsageError(
                f"A door can't be looked at every {self.interval_s:g} s",
                hint=f"Some minutes are polite; {MIN_INTERVAL_S:g} s is the least.",
            )
        if not self.deadline_s >= 0:
            raise UsageError(f"A watch can't last {self.deadline_s:g} s")
        if self.polls is not None and self.polls < 1:
            raise UsageError(
                f"A watch can't look {self.polls} times",
                hint="Leave it out to look until the night is complete.",
            )

    def pause_s(
        self, n_looks: int, elapsed_s: float, chance: float, at_least_s: float = 0.0
    ) -> float | None:
        """Say how long to wait for the next look, or None if this was the last one.

        Parameters
        ----------
        n_looks : int
            Looks so far.
        elapsed_s : float
            Time since the first one.
        chance : float
            Any number from 0 to 1, by which pauses are made to differ.
        at_least_s : float
            What the door asked for, as by Retry-After.
        """
        if elapsed_s >= self.deadline_s or (self.polls is not None and n_looks >= self.polls):
            return None
        pause = self.interval_s * (1 - _JITTER + 2 * _JITTER * chance)
        return min(max(pause, at_least_s, MIN_INTERVAL_S), self.deadline_s - elapsed_s)
