"""Watch of a night: which files are new and complete, when to list it again, the state in between.

A look is one listing of the night on the storage.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ctaflows.atomic_files import append_ours, local_errors, read_ours, replaced
from ctaflows.dl1.names import LAST_NIGHT, night_date
from ctaflows.errors import CtaflowsError, UsageError
from ctaflows.model import Entry, Record, utc_time
from ctaflows.tracking.task import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ctaflows.model import StrPath


TONIGHT = "tonight"
#: Shortest time between two looks, in seconds.
MIN_INTERVAL_S = 1.0
#: Pauses vary by this fraction, so that many watches do not ask a door at the same moment.
_JITTER = 0.1


def night_of(text: str, now: datetime) -> str:
    """Return the date of a night that is given as a date or in words.

    Parameters
    ----------
    text : str
        ``20241114``, ``2024-11-14``, ``last-night`` (of yesterday's evening) or ``tonight`` (the
        present night; from 12:00 UTC on, the next one).
    now : datetime
        The present time, aware.

    Returns
    -------
    str
        Date of the evening, ``YYYYMMDD``.

    Raises
    ------
    UsageError
        The text is none of these.
    """
    if text.strip().lower() == TONIGHT:
        return f"{now.astimezone(UTC) - timedelta(hours=12):%Y%m%d}"
    try:
        return night_date(text, now)
    except UsageError as why:
        hint = f"{why.hint or ''} Or say {LAST_NIGHT} or {TONIGHT}."
        raise UsageError(why.what, said=why.said, hint=hint.strip()) from None


@dataclass(frozen=True, slots=True)
class WaitTimes:
    """Times without a change after which files and nights count as complete.

    Attributes
    ----------
    settle_s : float
        Time for a file, in seconds.
    quiet_s : float
        Time for a night, in seconds: no file was added or changed.
    """

    settle_s: float
    quiet_s: float


@dataclass(frozen=True)
class PollResult:
    """The wanted files of a night after a look, by what is to be done with them.

    Attributes
    ----------
    ready : tuple of Entry
        Files that are complete and have not been processed yet.
    waiting : tuple of Entry
        Files that are still growing, or were listed for the first time.
    n_done : int
        Number of files that have been processed.
    last_change : datetime or None
        Time of the last known change of a wanted file; None where there are no files.
    """

    ready: tuple[Entry, ...] = ()
    waiting: tuple[Entry, ...] = ()
    n_done: int = 0
    last_change: datetime | None = None

    def is_whole(self, is_incomplete: bool, now: datetime, patience: WaitTimes) -> bool:
        """Whether the night is complete, so that no more files are expected.

        Nothing on the storage marks the end of a night: it is complete once no files are missing or
        unfinished, and nothing has changed for ``quiet_s`` seconds.

        Parameters
        ----------
        is_incomplete : bool
            Whether files are missing or unknown, as in `night.Gaps`.
        now : datetime
            The present time, aware.
        patience : WaitTimes
            Its ``quiet_s`` is used.
        """
        if self.last_change is None or self.ready or self.waiting or is_incomplete:
            return False
        return (now - self.last_change).total_seconds() >= patience.quiet_s


def poll(
    memory: WatchState, wanted: Sequence[Entry], now: datetime, patience: WaitTimes
) -> PollResult:
    """Return the wanted files by what is to be done with them after a look.

    Parameters
    ----------
    memory : WatchState
        The state after the look.
    wanted : sequence of Entry
        The wanted files, as listed in the look.
    now : datetime
        The present time, aware.
    patience : WaitTimes
        Its ``settle_s`` is used.
    """
    ready: list[Entry] = []
    waiting: list[Entry] = []
    n_done = 0
    changes: list[datetime] = []
    for entry in wanted:
        history = memory.sightings[entry.path]
        changes.append(history.changed_at)
        if history.is_done:
            n_done += 1
        else:
            is_ready = entry.error is None and history.is_complete(now, patience.settle_s)
            (ready if is_ready else waiting).append(entry)
    return PollResult(tuple(ready), tuple(waiting), n_done, max(changes, default=None))


@dataclass(frozen=True, slots=True)
class PollSchedule:
    """Interval and number of looks at a night.

    Attributes
    ----------
    interval_s : float
        Time from the end of a look to the next one, in seconds; at least 1.
    deadline_s : float
        Longest time from the first look to the last, in seconds.
    polls : int or None
        Largest number of looks; None (the default) for no limit.

    Raises
    ------
    UsageError
        The interval is too short, the deadline negative, or the number of looks less than 1.
    """

    interval_s: float
    deadline_s: float
    polls: int | None = None

    def __post_init__(self) -> None:
        # not (a >= b) rather than a < b, since a value may be NaN
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
        """Return the time until the next look in seconds, or None if this was the last one.

        Parameters
        ----------
        n_looks : int
            Number of looks so far.
        elapsed_s : float
            Time since the first look, in seconds.
        chance : float
            A random number from 0 to 1, by which the pause varies by up to 10 %.
        at_least_s : float, optional
            Time that the door asked to wait, such as by Retry-After, in seconds (default: 0).
        """
        if elapsed_s >= self.deadline_s or (self.polls is not None and n_looks >= self.polls):
            return None
        pause = self.interval_s * (1 - _JITTER + 2 * _JITTER * chance)
        return min(max(pause, at_least_s, MIN_INTERVAL_S), self.deadline_s - elapsed_s)


# -- state of a watch ------------------------------------------------------------------------------

_FORMAT = {"format": 1}
#: A file is complete only after this many looks without a change.
_LOOKS = 2


@dataclass(frozen=True, slots=True)
class FileHistory(Record):
    """The present state of one file on the storage, and since when it has it.

    Attributes
    ----------
    size_bytes, mtime, etag : int or None, datetime or None, str or None
        Properties of the file at the last look.
    since : datetime
        Time of the first look with these properties.
    n_looks : int
        Number of looks with these properties.
    is_done : bool
        Whether the file was processed in this state.
    """

    size_bytes: int | None
    mtime: datetime | None
    etag: str | None
    since: datetime
    n_looks: int = 1
    is_done: bool = False

    @property
    def changed_at(self) -> datetime:
        """Time of the last change; not after ``since``, in case the door's clock is ahead."""
        return self.since if self.mtime is None else min(self.mtime, self.since)

    def is_of(self, entry: Entry) -> bool:
        """Whether the file is as it was before, as far as can be told."""
        then = Entry(entry.path, size_bytes=self.size_bytes, mtime=self.mtime, etag=self.etag)
        if then.same_file_as(entry) is False:
            return False
        # a time that is told for the first time may be after the first look
        return self.mtime is not None or entry.mtime is None or entry.mtime <= self.since

    def once_more(self, entry: Entry) -> Self:
        """Return the history after a look that shows the file unchanged.

        What was not told before may be told now.
        """
        mtime, etag = self.mtime or entry.mtime, self.etag or entry.etag
        return replace(self, mtime=mtime, etag=etag, n_looks=self.n_looks + 1)

    def is_complete(self, now: datetime, settle_s: float) -> bool:
        """Whether the file is complete.

        It is if it was the same at two looks, and its last change is at least ``settle_s`` seconds
        ago. A file without a size is still being uploaded.
        """
        is_old = (now - self.changed_at).total_seconds() >= settle_s
        return self.size_bytes is not None and self.n_looks >= _LOOKS and is_old

    # overrides that of Record to check each value: the file may have been edited or damaged
    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Return the history in the output of `to_dict`.

        Raises
        ------
        ValueError, TypeError, KeyError, AttributeError
            The values are not valid.
        """
        size, etag, n_looks = values["size_bytes"], values["etag"], values["n_looks"]
        since = utc_time(values["since"])
        if since is None or not (etag is None or isinstance(etag, str)):
            raise ValueError("not a file's history")
        return cls(
            size_bytes=None if size is None else _count(size),
            mtime=utc_time(values["mtime"]),
            etag=etag,
            since=since,
            n_looks=_count(n_looks),
            is_done=values["is_done"] is True,
        )


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("not a count")
    return value


@dataclass(frozen=True)
class WatchState:
    """The state of a watch: all files of the night in the looks so far.

    Attributes
    ----------
    sightings : mapping of str to FileHistory
        Histories by remote path. A file that is no longer listed keeps its last one: a door may
        list a directory that it can't read as an empty one.
    """

    sightings: Mapping[str, FileHistory] = field(default_factory=dict)

    def after(self, entries: Iterable[Entry], now: datetime) -> WatchState:
        """Return the state after another look at the night."""
        histories = dict(self.sightings)
        for entry in entries:
            known = histories.get(entry.path)
            if known is not None and entry.error is not None:
                continue  # it is there; such a look shows nothing else
            if known is not None and known.is_of(entry):
                histories[entry.path] = known.once_more(entry)
            else:
                histories[entry.path] = FileHistory(entry.size_bytes, entry.mtime, entry.etag, now)
        return WatchState(histories)

    def having_done(self, paths: Iterable[str]) -> WatchState:
        """Return the state after these files were processed, as they were at their last look."""
        done = {path: replace(self.sightings[path], is_done=True) for path in paths}
        return WatchState({**self.sightings, **done})

    def to_text(self) -> str:
        """Return the state as lines of JSON: one with the format, and one for each file."""
        return json.dumps(_FORMAT) + "\n" + self.lines(self.sightings)

    def lines(self, paths: Iterable[str]) -> str:
        """Return the lines of some files, to be appended to an earlier text."""
        return "".join(
            json.dumps({"path": path, **self.sightings[path].to_dict()}) + "\n" for path in paths
        )

    @classmethod
    def from_text(cls, text: str) -> tuple[Self, bool]:
        """Return the state in a text, and whether all of the text could be read.

        Of several lines for a file the last one counts. Damaged lines are ignored: their files are
        treated as new.
        """
        first, *lines = text.split("\n")
        if first != json.dumps(_FORMAT):
            return cls(), False
        is_intact = bool(lines) and not lines[-1]
        histories: dict[str, FileHistory] = {}
        for line in filter(None, lines):
            try:
                values = json.loads(line)
                path, history = values["path"], FileHistory.from_dict(values)
                if not isinstance(path, str):
                    raise TypeError("no path")
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
                is_intact = False
            else:
                histories[path] = history
        return cls(histories), is_intact


# -- file with the state ---------------------------------------------------------------------------

#: Name of the file in the night's folder: like that of a part file, which no mirror deletes.
MEMORY = ".watch-night.part.state"


_UNKEPT = "The state of the night can't be written"


class WatchStateFile:
    """The state of a watch, kept in the night's folder from one flow run to the next.

    Parameters
    ----------
    folder : path
        The night's local folder.

    Attributes
    ----------
    memory : WatchState
        The state.
    """

    def __init__(self, folder: StrPath) -> None:
        self._folder = folder
        self.memory = read_state(folder)

    def look(self, entries: Iterable[Entry], now: datetime) -> None:
        """Update the state after a look at the night, and write it.

        Raises
        ------
        NoSpace, UsageError
            It can't be written.
        """
        self.memory = self.memory.after(entries, now)
        if self.memory.sightings:
            write_state(self.memory, self._folder)

    def done(self, paths: Iterable[str]) -> None:
        """Update the state after these files were processed, and append them to the file.

        Raises
        ------
        NoSpace, UsageError
            The file can't be written.
        """
        done = list(paths)
        self.memory = self.memory.having_done(done)
        file = Path(self._folder) / MEMORY
        with local_errors(file, _UNKEPT):
            append_ours(file, self.memory.lines(done).encode("ascii"))

    def done_below(self, path: str) -> list[str]:
        """Return the remote paths of processed files below a remote directory."""
        base = path.rstrip("/") + "/"
        histories = self.memory.sightings.items()
        return [file for file, known in histories if known.is_done and file.startswith(base)]


def read_state(folder: StrPath) -> WatchState:
    """Return the state of a watch from the night's folder, as far as it can be read.

    What can't be read is logged as a warning.

    Parameters
    ----------
    folder : path
        The night's local folder.
    """
    file = Path(folder) / MEMORY
    try:
        text = read_ours(file).decode("ascii")
    except FileNotFoundError:
        return WatchState()
    except (OSError, CtaflowsError, ValueError) as why:
        _warn(file, str(why))
        return WatchState()
    memory, is_intact = WatchState.from_text(text)
    if not is_intact:
        _warn(file, "it is damaged")
    return memory


def _warn(file: Path, why: str) -> None:
    get_logger("watch").warning("%s: %s; files that it does not list are treated as new", file, why)


def write_state(memory: WatchState, folder: StrPath) -> None:
    """Write the state of a watch into the night's folder, atomically.

    Parameters
    ----------
    memory : WatchState
        The state.
    folder : path
        The night's local folder; it is created if need be.

    Raises
    ------
    NoSpace, UsageError
        It can't be written; the old file is unchanged.
    """
    file = Path(folder) / MEMORY
    with replaced(file, _UNKEPT, is_ours=True) as stream:
        stream.write(memory.to_text().encode("ascii"))
