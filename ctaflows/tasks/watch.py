"""Tasks of a watch: a look at a night that may not be there yet, and what is remembered of it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ctaflows import cancel
from ctaflows.atomic_files import open_ours, read_ours
from ctaflows.dl1.night_watch import Memory
from ctaflows.errors import NotFound, UsageError
from ctaflows.tasks.dl1 import list_night
from ctaflows.tracking.task import get_logger, task
from ctaflows.transfer.part_file import local_error

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from ctaflows.dl1.night import Night
    from ctaflows.model import Entry, StrPath

#: Lies in the night's folder. The name is one of those of part files, which no mirror deletes.
MEMORY = ".watch-night.part.state"


@task(name="list-night-if-there", tags=["ctaflows"])
def list_night_if_there(
    date: str, *, version: str = "latest", profile: str | None = None
) -> Night | None:
    """List all files of a night, as `list_night`; None where there is no such night (yet).

    Parameters
    ----------
    date, version, profile
        As for `list_night`.
    """
    try:
        night: Night = list_night.fn(date, version=version, profile=profile)
    except NotFound:
        return None
    return night


def pause(seconds: float) -> None:
    """Wait, unless the work is asked to stop.

    Raises
    ------
    Stopped
        It is.
    """
    stop = threading.Event()
    with cancel.heard(stop):
        cancel.wait(seconds, stop)
    cancel.end_if(stop)


class Notebook:
    """What the looks at a night have shown, kept in the night's folder across runs.

    Parameters
    ----------
    folder : path
        The night's folder here.

    Attributes
    ----------
    memory : Memory
        All of it.
    """

    def __init__(self, folder: StrPath) -> None:
        self._folder = folder
        self.memory = recall(folder)

    def look(self, entries: Iterable[Entry], now: datetime) -> None:
        """Note one look at the night."""
        self.memory = self.memory.after(entries, now)
        if self.memory.sightings:
            remember(self.memory, self._folder)

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


def recall(folder: StrPath) -> Memory:
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
        return Memory()
    except (OSError, UsageError, ValueError) as why:
        _warn(file, str(why))
        return Memory()
    memory, is_whole = Memory.from_text(text)
    if not is_whole:
        _warn(file, "it is damaged")
    return memory


def _warn(file: Path, why: str) -> None:
    get_logger("watch").warning(
        "%s: %s; what it does not tell is looked at as if it were new", file, why
    )


def remember(memory: Memory, folder: StrPath) -> None:
    """Write down what the looks at a night have shown, in one step.

    Parameters
    ----------
    memory : Memory
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
