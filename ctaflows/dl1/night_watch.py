"""Watching a night: which night, what is new and complete, when to look again. Pure."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ctaflows.atomic_files import open_ours, read_ours
from ctaflows.dl1.names import LAST_NIGHT, night_date
from ctaflows.errors import UsageError
from ctaflows.model import Record, utc_time
from ctaflows.tracking.task import get_logger
from ctaflows.transfer.part_file import local_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ctaflows.model import Entry, StrPath


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
class WaitTimes:
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
class PollResult:
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

    def is_whole(self, is_incomplete: bool, now: datetime, patience: WaitTimes) -> bool:
        """Is the night complete, so that nothing more is to be expected?

        Parameters
        ----------
        is_incomplete : bool
            Is something missing, or not known, as `night.Gaps` tells?
        now : datetime
            The present, aware.
        patience : WaitTimes
            A night has no end of its own: only silence tells.
        """
        if self.last_change is None or self.ready or self.waiting or is_incomplete:
            return False
        return (now - self.last_change).total_seconds() >= patience.quiet_s


def poll(
    memory: WatchState, wanted: Sequence[Entry], now: datetime, patience: WaitTimes
) -> PollResult:
    """Say which of the wanted files are to be dealt with now.

    Parameters
    ----------
    memory : WatchState
        With the present look taken in.
    wanted : sequence of Entry
        Files of the present look.
    now : datetime
        The present, aware.
    patience : WaitTimes
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
    return PollResult(tuple(ready), tuple(waiting), n_done, max(changes, default=None))


@dataclass(frozen=True, slots=True)
class PollSchedule:
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


# -- what is remembered of a night's files ---------------------------------------------------------
#
# What was seen of a night's files at earlier looks, and is remembered for the next one. Pure.

_FORMAT = {"format": 1}
#: So many looks must show a file alike.
_LOOKS = 2


@dataclass(frozen=True, slots=True)
class FileHistory(Record):
    """What was seen of one file at the door.

    Attributes
    ----------
    size_bytes, mtime, etag
        As the door told them at the last look.
    since : datetime
        The first look at which it was like this.
    n_looks : int
        At how many looks it was like this.
    is_done : bool
        Has it been dealt with, as it is?
    """

    size_bytes: int | None
    mtime: datetime | None
    etag: str | None
    since: datetime
    n_looks: int = 1
    is_done: bool = False

    @property
    def changed_at(self) -> datetime:
        """The last change; a door whose clock is ahead is not believed."""
        return self.since if self.mtime is None else min(self.mtime, self.since)

    def is_of(self, entry: Entry) -> bool:
        """Is the file still as it was?"""
        then = (self.size_bytes, self.mtime, self.etag)
        return then == (entry.size_bytes, entry.mtime, entry.etag)

    def is_complete(self, now: datetime, settle_s: float) -> bool:
        """Is the file no longer written to?

        Its size was the same at two looks, and its last change is ``settle_s`` seconds ago. A file
        without a size is still being uploaded.
        """
        is_old = (now - self.changed_at).total_seconds() >= settle_s
        return self.size_bytes is not None and self.n_looks >= _LOOKS and is_old

    # by hand: a person may have written the file, and what is wrong there must not be believed
    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Make it from what `to_dict` gave.

        Raises
        ------
        ValueError, TypeError, KeyError, AttributeError
            The values are not of that kind.
        """
        size, etag, n_looks = values["size_bytes"], values["etag"], values["n_looks"]
        since = utc_time(values["since"])
        if since is None or not (etag is None or isinstance(etag, str)):
            raise ValueError("no sighting")
        return cls(
            size_bytes=None if size is None else _whole(size),
            mtime=utc_time(values["mtime"]),
            etag=etag,
            since=since,
            n_looks=_whole(n_looks),
            is_done=values["is_done"] is True,
        )


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("no number of things")
    return value


@dataclass(frozen=True)
class WatchState:
    """What all looks at a night have shown so far.

    Attributes
    ----------
    sightings : mapping of str to FileHistory
        Path at the door to what was seen of the file. A file that is not shown any more keeps its
        last sighting: a door may show a directory that it can't read as an empty one.
    """

    sightings: Mapping[str, FileHistory] = field(default_factory=dict)

    def after(self, entries: Iterable[Entry], now: datetime) -> WatchState:
        """Take in one look at the night."""
        seen = dict(self.sightings)
        for entry in entries:
            known = seen.get(entry.path)
            if known is not None and known.is_of(entry):
                seen[entry.path] = replace(known, n_looks=known.n_looks + 1)
            else:
                seen[entry.path] = FileHistory(entry.size_bytes, entry.mtime, entry.etag, now)
        return WatchState(seen)

    def having_done(self, paths: Iterable[str]) -> WatchState:
        """Take in that files were dealt with, as they were at the last look that showed them."""
        done = {path: replace(self.sightings[path], is_done=True) for path in paths}
        return WatchState({**self.sightings, **done})

    def to_text(self) -> str:
        """Write all of it down: a line that names the format, and one for each file."""
        return json.dumps(_FORMAT) + "\n" + self.lines(self.sightings)

    def lines(self, paths: Iterable[str]) -> str:
        """Write down what is known of some files, to be put after an earlier text."""
        return "".join(
            json.dumps({"path": path, **self.sightings[path].to_dict()}) + "\n" for path in paths
        )

    @classmethod
    def from_text(cls, text: str) -> tuple[Self, bool]:
        """Read what was written down, and say whether all of it could be read.

        The last line of a file counts. What is damaged is forgotten: such a file is looked at as
        if it were new.
        """
        first, *lines = text.split("\n")
        if first != json.dumps(_FORMAT):
            return cls(), False
        is_whole = bool(lines) and not lines[-1]
        seen: dict[str, FileHistory] = {}
        for line in filter(None, lines):
            try:
                values = json.loads(line)
                path, about = values["path"], FileHistory.from_dict(values)
                if not isinstance(path, str):
                    raise TypeError("no path")
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
                is_whole = False
            else:
                seen[path] = about
        return cls(seen), is_whole


# -- the file of what is remembered ----------------------------------------------------------------
#
# Tasks of a watch: a look at a night that may not be there yet, and what is remembered of it.

#: Lies in the night's folder. The name is one of those of part files, which no mirror deletes.
MEMORY = ".watch-night.part.state"


class WatchStateFile:
    """What the looks at a night have shown, kept in the night's folder across runs.

    Parameters
    ----------
    folder : path
        The night's folder here.

    Attributes
    ----------
    memory : WatchState
        All of it.
    """

    def __init__(self, folder: StrPath) -> None:
        self._folder = folder
        self.memory = read_state(folder)

    def look(self, entries: Iterable[Entry], now: datetime) -> None:
        """Note one look at the night."""
        self.memory = self.memory.after(entries, now)
        if self.memory.sightings:
            write_state(self.memory, self._folder)

    def done(self, paths: Iterable[str]) -> None:
        """Note that files were dealt with, since the last look."""
        done = list(paths)
        self.memory = self.memory.having_done(done)
        file = Path(self._folder) / MEMORY
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            with os.fdopen(
                open_ours(file, flags, may_be_linked=True), "a", encoding="ascii"
            ) as stream:
                stream.write(self.memory.lines(done))
        except OSError as why:
            raise local_error(why, file) from why

    def done_below(self, path: str) -> list[str]:
        """Give the files below a directory at the door that have been dealt with."""
        base = path.rstrip("/") + "/"
        seen = self.memory.sightings
        return [file for file, about in seen.items() if about.is_done and file.startswith(base)]


def read_state(folder: StrPath) -> WatchState:
    """Read what earlier looks at a night have shown, as far as it can be read.

    Parameters
    ----------
    folder : path
        The night's folder here.
    """
    file = Path(folder) / MEMORY
    try:
        text = read_ours(file).decode("ascii")
    except FileNotFoundError:
        return WatchState()
    except (OSError, UsageError, ValueError) as why:
        _warn(file, str(why))
        return WatchState()
    memory, is_whole = WatchState.from_text(text)
    if not is_whole:
        _warn(file, "it is damaged")
    return memory


def _warn(file: Path, why: str) -> None:
    get_logger("watch").warning(
        "%s: %s; what it does not tell is looked at as if it were new", file, why
    )


def write_state(memory: WatchState, folder: StrPath) -> None:
    """Write down what the looks at a night have shown, in one step.

    Parameters
    ----------
    memory : WatchState
        All of it.
    folder : path
        The night's folder here; it is made if need be.

    Raises
    ------
    NoSpace, UsageError
        It can't be written; what stood there stands.
    """
    file = Path(folder) / MEMORY
    temporary = file.with_name(f"{file.name}.{os.getpid()}.{time.monotonic_ns()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="ascii") as stream:
            stream.write(memory.to_text())
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except OSError as why:
        raise local_error(why, file) from why
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
