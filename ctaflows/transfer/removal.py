"""Removing a tree: what was listed and shown, not what came later.

A dCache door would remove a whole tree on one DELETE, but without a listing that anybody saw,
silent about what it could not read, and in one request that may outlast a connection. So files are
removed one by one, several at once, then their directories from the deepest up, each only while it
shows nothing. What a listing names without describing it is left alone, and so are symbolic links.
"""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ctaflows.errors import CtaflowsError, NotFound, StorageError, UsageError, error_text
from ctaflows.storage import links
from ctaflows.storage.outcome import Outcome
from ctaflows.storage.walk import walk_batches
from ctaflows.transfer.crew import at_once
from ctaflows.transport import pause_s

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ctaflows.model import Entry
    from ctaflows.storage.webdav import Door

_AT_A_TIME = 1000


@dataclass(slots=True)
class Doomed:
    """What is to be removed.

    Attributes
    ----------
    files, dirs : list of str
        Normalised paths; a directory comes before those in it.
    size_bytes : int
        Sum of the files' sizes that are known.
    n_empty : int
        Directories that show nothing: they are empty, or not readable.
    kept : list of Outcome
        What can't be removed, with the reason.
    suspects : dict of str to Entry
        Those of the files that may be symbolic links.
    """

    files: list[str] = field(default_factory=list)
    dirs: list[str] = field(default_factory=list)
    size_bytes: int = 0
    n_empty: int = 0
    kept: list[Outcome] = field(default_factory=list)
    suspects: dict[str, Entry] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.files) + len(self.dirs) + len(self.kept)

    def add(self, entries: Iterable[Entry]) -> None:
        """Take in what was found."""
        for entry in entries:
            if entry.error is not None:
                self.kept.append(Outcome(entry.path, error=f"it can't be described: {entry.error}"))
                continue
            if links.may_be_link(entry):
                self.suspects[entry.path] = entry
            (self.dirs if entry.is_dir else self.files).append(entry.path)
            self.size_bytes += entry.size_bytes or 0

    def all(self) -> Iterator[Outcome]:
        """Give them in the order in which they are removed, after those that are kept."""
        yield from self.kept
        yield from (Outcome(path) for path in self.files)
        yield from (Outcome(path, is_dir=True) for path in reversed(self.dirs))


def doom(door: Door, entries: Sequence[Entry]) -> Doomed:
    """List all that goes when these go; nothing is removed yet.

    Parameters
    ----------
    door : Door
        Where they are.
    entries : sequence of Entry
        Files and directories; what lies below another one is counted once.

    Raises
    ------
    UsageError
        One of them is the root.
    """
    doomed = Doomed()
    if any(entry.path == "/" for entry in entries):
        raise UsageError("The root can't be removed")
    trees = {entry.path + "/" for entry in entries if entry.is_dir}

    def is_below_another(entry: Entry) -> bool:
        parts = entry.path.split("/")[:-1]
        return any("/".join(parts[: n + 1]) + "/" in trees for n in range(1, len(parts)))

    def found_empty(_path: str) -> None:
        doomed.n_empty += 1

    for entry in dict.fromkeys(entries):
        if is_below_another(entry):
            continue
        if entry.is_dir:
            try:
                links.refuse_linked_directory(door, entry, must_be_listed=True)
            except CtaflowsError as why:
                doomed.kept.append(Outcome(entry.path, is_dir=True, error=error_text(why)))
                continue
        doomed.add([entry])
        if entry.is_dir:
            for batch in walk_batches(door, entry.path, on_empty=found_empty):
                doomed.add(batch)
    return doomed


def remove_all(door: Door, doomed: Doomed) -> Iterator[Sequence[Outcome]]:
    """Remove what was listed, on past what fails, and give the outcomes as they come.

    Files first, ``transfers`` at once; then directories, those at the same depth at once.

    Parameters
    ----------
    door : Door
        Its ``transfer_slots`` bound how many requests go at once.
    doomed : Doomed
        From `doom`.
    """
    stop = threading.Event()

    def one(outcome: Outcome) -> Outcome:
        try:
            with door.transfer_slots:
                if outcome.path in doomed.suspects:
                    links.refuse_link(door, doomed.suspects[outcome.path])
                remove_one(door, outcome.path, is_dir=outcome.is_dir, stop=stop)
        except CtaflowsError as why:
            return Outcome(outcome.path, outcome.is_dir, error=error_text(why))
        return outcome

    if doomed.kept:
        yield doomed.kept
    for chunk in _in_turn(doomed):
        yield at_once(one, chunk, door.settings.transfers, stop)


def remove_one(door: Door, path: str, *, is_dir: bool, stop: threading.Event | None = None) -> None:
    """Remove a file, or a directory that shows nothing; gone already is as good.

    Parameters
    ----------
    door : Door
        Where it is.
    path : str
        Normalised path.
    is_dir : bool
        What it is.
    stop : threading.Event, optional
        Ends the pauses between tries.

    Raises
    ------
    StorageError
        Something is in the directory still.
    """
    attempt = 1
    while True:
        try:
            if is_dir and any(True for _ in door.list(path)):
                raise StorageError(
                    "The directory is not empty",
                    where=path,
                    hint="Something in it was not removed, or came since it was listed.",
                )
            door.delete(path, is_dir=is_dir)
        except NotFound:
            return
        except CtaflowsError as why:
            if why.status == 500 and not is_dir:  # so dCache answers about a link to a file
                links.refuse_listed_link(door, path)
            pause = pause_s(why, attempt, door.settings)
            if pause is None:
                raise
            (stop or threading.Event()).wait(pause)
            attempt += 1
        else:
            return


def _in_turn(doomed: Doomed) -> Iterator[list[Outcome]]:
    """Give pieces of which each may be removed in any order."""
    files = (Outcome(path) for path in doomed.files)
    while chunk := list(itertools.islice(files, _AT_A_TIME)):
        yield chunk
    deepest_first = sorted(doomed.dirs, key=lambda path: path.count("/"), reverse=True)
    for _, level in itertools.groupby(deepest_first, key=lambda path: path.count("/")):
        yield [Outcome(path, is_dir=True) for path in level]
