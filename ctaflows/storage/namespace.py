"""Moving files and directories at the door, as `mv` is used to."""

from __future__ import annotations

import functools
import heapq
import itertools
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ctaflows.errors import (
    AlreadyExists,
    CtaflowsError,
    NetworkError,
    NotFound,
    PartialFailure,
    StorageError,
    UsageError,
    concerns_all,
    error_text,
)
from ctaflows.model import Entry
from ctaflows.retry import Retries
from ctaflows.storage import links
from ctaflows.storage.protocol import unsupported
from ctaflows.storage.walk import unconfirmed, walk_batches
from ctaflows.thread_pool import run_concurrently

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from ctaflows.storage.protocol import Storage


def new_path(source: str, target: str, *, into: bool) -> str:
    """Return the new path of what is moved. Pure.

    Parameters
    ----------
    source, target : str
        Normalised paths.
    into : bool
        Is the target a directory to move into, so that the name is kept?

    Raises
    ------
    UsageError
        To itself, into itself, or the root.
    """
    if source == "/":
        raise UsageError("The root can't be moved")
    path = f"{target.rstrip('/')}/{source.rpartition('/')[2]}" if into else target
    if path == source:  # dCache 11.2.5 destroys a file that is moved onto itself with Overwrite: T
        raise UsageError("Source and target are the same", where=source)
    if path.startswith(source + "/"):
        raise UsageError("A directory can't be moved into itself", where=f"{source} to {path}")
    return path


def check_target(source: Entry, there: Entry | None, *, overwrite: bool) -> None:
    """Refuse to put something in the place of another thing. Pure.

    Directories are never replaced: a dCache door would delete all that is in them first
    (MoveHandler.java, Milton 2.7.3).

    Parameters
    ----------
    source : Entry
        What is to be moved.
    there : Entry or None
        What has its new path, if anything.
    overwrite : bool
        May it be replaced?
    """
    if there is None:
        return
    if there.is_dir or source.is_dir:
        raise AlreadyExists(
            "A directory is neither replaced nor put in a file's place",
            where=there.path,
            hint="Remove what is there first, or move it away.",
        )
    if not overwrite:
        raise AlreadyExists(
            "The target is there already", where=there.path, hint="Replace it with --overwrite."
        )


def move(door: Storage, entry: Entry, target: str, *, overwrite: bool = False) -> str:
    """Move a file or directory, into the target if that is a directory.

    Parameters
    ----------
    door : Storage
        Where they are.
    entry : Entry
        What to move.
    target : str
        As people write paths; one that ends in ``/`` must be a directory.
    overwrite : bool
        Replace a file that is there.

    Returns
    -------
    str
        The new path.

    Raises
    ------
    NotFound, AlreadyExists, UsageError
        There is no source, or no such directory; the place is taken; it would go into itself, or in
        its own place by way of a symbolic link.
    StorageError
        The source, or what would be replaced, is a symbolic link.
    """
    if not door.can_rename:
        raise unsupported(door, "move files", entry.path)
    path, there = _destination(door, entry, target)
    if entry.is_dir or entry.link is not None:
        links.refuse_link(door, entry.path, itself=entry)
    check_target(entry, there, overwrite=overwrite)
    if there is not None:
        links.refuse_link(door, path, itself=there)
    try:
        door.move(entry.path, path, overwrite=overwrite)
    except NetworkError:
        if not _has_moved(door, entry, path):
            raise
    except CtaflowsError as why:
        if why.status == 500:  # so dCache 11.2.5 answers about a link, see `links`
            links.refuse_link(door, entry.path, itself=entry)
        raise
    return path


def _destination(door: Storage, entry: Entry, target: str) -> tuple[str, Entry | None]:
    """Return the new path of what is moved, and what is there."""
    path = door.normalise(target)
    there = door.exists(path)
    if there is None and target.endswith("/"):
        raise NotFound(
            "There is no such directory", where=path, hint=f"Make it: ctaflows mkdir -p {path}"
        )
    if there is not None and target.endswith("/") and not there.is_dir:
        raise UsageError("That is no directory", where=path)
    into = there is not None and there.is_dir
    path = new_path(entry.path, path, into=into)
    _refuse_itself(entry, there)
    if into:
        there = door.exists(path)
        _refuse_itself(entry, there)
    return path, there


def _refuse_itself(entry: Entry, there: Entry | None) -> None:
    """Raise if two paths lead to one thing: dCache 11.2.5 destroys a file moved onto itself."""
    own = links.pnfsid(entry)
    if there is not None and own is not None and own == links.pnfsid(there):
        raise UsageError(
            "Source and target are the same, by way of a symbolic link",
            where=f"{entry.path} and {there.path}",
        )


def _has_moved(door: Storage, entry: Entry, path: str) -> bool:
    """Return whether a move whose answer was lost was done; it is never blindly repeated."""
    try:
        there = door.exists(path)
        if there is None or door.exists(entry.path) is not None:
            return False
        if entry.is_dir:
            return there.is_dir
        return there.same_content_as(entry, size_suffices=True) is True
    except CtaflowsError:
        return False


# -- results, path by path -------------------------------------------------------------------------
#
# What became of each of many paths in the name space.


_CLASS = re.compile(r"^[A-Z]\w+: ")  # as `errors.error_text` writes it


@dataclass(frozen=True, slots=True)
class PathResult:
    """Result of an operation on one path.

    Attributes
    ----------
    path : str
        A file or directory at the door.
    is_dir : bool
        Is it a directory, as far as is known?
    target : str or None
        Where it was moved to.
    error : str or None
        None on success, else ``ErrorClass: message``.
    """

    path: str
    is_dir: bool = False
    target: str | None = None
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Was it done?"""
        return self.error is None

    @property
    def reason(self) -> str:
        """``error`` for a line that begins with the path: without the class, and the path again."""
        text = _CLASS.sub("", self.error or "")
        where = re.compile(
            rf": (?:https?://[^/ ]+)?/*{re.escape(self.path.strip('/'))}/?(?= \(said|$)"
        )
        return where.sub("", text, count=1)

    # by hand: its JSON is another shape, with the type for `is_dir`
    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; ``target`` only where there can be one."""
        target = {} if self.target is None else {"target": self.target}
        kind = "directory" if self.is_dir else "file"
        return {"path": self.path, "type": kind, **target, "error": self.error}


def failure(failed: Sequence[PathResult], n_all: int, done: str) -> PartialFailure:
    """Return the error for the paths that failed.

    Parameters
    ----------
    failed : sequence of PathResult
        At least one.
    n_all : int
        How many there were in all.
    done : str
        What was not done to them, such as ``removed``.
    """
    first = failed[0]
    return PartialFailure(
        f"{len(failed)} of {n_all} were not {done}, the first: {first.path}: {first.reason}",
        report=tuple(failed),
    )


def undescribed(entries: Iterable[Entry]) -> list[PathResult]:
    """Return the entries that the storage names without describing them, as results."""
    return [PathResult(e.path, e.is_dir, error=e.error) for e in entries if e.error is not None]


def unread_entries(unread: Mapping[str, CtaflowsError | None]) -> list[Entry]:
    """Return the directories of `walk.unconfirmed` that can't be read as entries with an error."""
    return [Entry(path, is_dir=True, error=error_text(why)) for path, why in unread.items() if why]


def refuse_undescribed(entries: Iterable[Entry]) -> None:
    """Raise `PartialFailure` if the storage names one of the entries without describing it."""
    if unseen := undescribed(entries):
        raise undescribed_failure(unseen)


def undescribed_failure(unseen: Sequence[PathResult]) -> PartialFailure:
    """Return the error for a listing with entries that are not described.

    Parameters
    ----------
    unseen : sequence of PathResult
        From `undescribed`, at least one.
    """
    first = unseen[0]
    several = (
        f"{len(unseen)} entries are there, but the storage can't describe or list them, the first: "
    )
    one = "An entry is there, but the storage can't describe or list it: "
    return PartialFailure(
        f"{one if len(unseen) == 1 else several}{first.path}: {first.error}",
        report=tuple(unseen),
        hint="Try again later; if it lasts, ask the site.",
    )


# -- removing --------------------------------------------------------------------------------------
#
# Removing a tree: what was listed and shown, not what came later.
#
# A dCache door would remove a whole tree on one DELETE, but without a listing that anybody saw,
# silent about what it could not read, and in one request that may outlast a connection. So files
# are removed one by one, several at once, then their directories from the deepest up, each only
# while it is empty, which a listing that shows nothing does not prove: see
# `WebDAVStorage.confirm_empty`. What a listing names without describing it is left alone, and so
# are symbolic links, and what may lie behind one: see `keep_behind_links`.

_AT_A_TIME = 1000
#: From so many files on, their directory is listed.
_LIST_FROM = 8
#: Files of a directory that are asked for, one after the other until one is read: others may be
#: links themselves, or have names that the server can't read.
_ASKED_FOR = 3
_PLAIN_NAME = re.compile(r"[A-Za-z0-9._+-]+")
#: Why a directory is kept where links are listed as directories.
MAYBE_BEHIND_LINK = (
    "It may be, or lie behind, a symbolic link, since its files can't be read: "
    "nothing in it is removed"
)


@dataclass(slots=True)
class RemovalPlan:
    """A plan of what is to be removed.

    Attributes
    ----------
    files, dirs : list of str
        Normalised paths; a directory comes before those in it.
    size_bytes : int
        Sum of the files' sizes that are known.
    n_empty : int
        Directories that are empty already.
    kept : list of PathResult
        What can't be removed, with the reason.
    """

    files: list[str] = field(default_factory=list)
    dirs: list[str] = field(default_factory=list)
    size_bytes: int = 0
    n_empty: int = 0
    kept: list[PathResult] = field(default_factory=list)
    _bytes_in: Counter[str] = field(default_factory=Counter, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.files) + len(self.dirs) + len(self.kept)

    def add(self, entries: Iterable[Entry]) -> None:
        """Add entries that were found."""
        for entry in entries:
            why = None if entry.error is None else f"it can't be described: {entry.error}"
            why = why if entry.link is None else links.NOT_BY_WEBDAV
            if why is not None:
                self.kept.append(PathResult(entry.path, error=why))
                continue
            (self.dirs if entry.is_dir else self.files).append(entry.path)
            self.size_bytes += entry.size_bytes or 0
            self._bytes_in[_above(entry.path)] += entry.size_bytes or 0

    def keep(self, dirs: Iterable[str], why: str) -> None:
        """Keep some directories, with all that is below them."""
        tops = set(dirs)
        self.kept += [PathResult(path, is_dir=True, error=why) for path in sorted(tops)]
        goes = functools.cache(lambda path: not any(p in tops for p in _up_to_root(path)))
        self.files = [path for path in self.files if goes(_above(path))]
        self.dirs = [path for path in self.dirs if goes(path)]
        self.size_bytes -= sum(self._bytes_in.pop(p) for p in [*self._bytes_in] if not goes(p))

    def all(self) -> Iterator[PathResult]:
        """Yield all in the order in which they are removed, after those that are kept."""
        yield from self.kept
        yield from (PathResult(path) for path in self.files)
        yield from (PathResult(path, is_dir=True) for path in reversed(self.dirs))


def _above(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _up_to_root(path: str) -> Iterator[str]:
    """Yield a directory and those above it, without the root."""
    while path != "/":
        yield path
        path = _above(path)


def keep_behind_links(door: Storage, doomed: RemovalPlan, tops: Collection[str]) -> None:
    """Keep what may lie behind a symbolic link, where links are listed as directories.

    A file that is read shows that no directory above it is a link. A directory with files below it,
    none of which is read, is kept with all that is below; one with none at all is not: nothing but
    empty directories could be lost.

    Parameters
    ----------
    door : Storage
        Where they are; no request is made unless it `hides_links`.
    doomed : RemovalPlan
        What is to be removed.
    tops : collection of str
        Directories that were walked; of files elsewhere each was named by itself.
    """
    if not door.hides_links():
        return
    files_in: dict[str, list[str]] = {}
    for path in doomed.files:
        files_in.setdefault(_above(path), []).append(path)
    walked: dict[str, list[str]] = {}  # a directory with files: itself, and those above it
    for path in files_in:
        above = list(_up_to_root(path))
        if (depth := next((n for n, p in enumerate(above) if p in tops), None)) is not None:
            walked[path] = above[: depth + 1]

    def is_read(path: str) -> bool:
        def is_odd(file: str) -> bool:
            return _PLAIN_NAME.fullmatch(file.rpartition("/")[2]) is None

        plain_first = heapq.nsmallest(_ASKED_FOR, files_in[path], key=is_odd)
        return any(door.is_read_directly(file) for file in plain_first)

    answers = run_concurrently(is_read, list(walked), door.settings.listings, threading.Event())
    read = {p for path, yes in zip(walked, answers, strict=True) if yes for p in walked[path]}
    unread = {p for above in walked.values() for p in above} - read
    if unread:
        doomed.keep((path for path in unread if _above(path) not in unread), MAYBE_BEHIND_LINK)


def plan_removal(door: Storage, entries: Sequence[Entry]) -> RemovalPlan:
    """List all that goes when these go; nothing is removed yet.

    Parameters
    ----------
    door : Storage
        Where they are.
    entries : sequence of Entry
        Files and directories; what lies below another one is counted once.

    Raises
    ------
    UsageError
        One of them is the root, or the storage can't remove anything.
    """
    doomed = RemovalPlan()
    _refuse_removal(door, entries)
    trees = {entry.path + "/" for entry in entries if entry.is_dir}

    def is_below_another(entry: Entry) -> bool:
        parts = entry.path.split("/")[:-1]
        return any("/".join(parts[: n + 1]) + "/" in trees for n in range(1, len(parts)))

    shown_empty: list[str] = []
    for entry in dict.fromkeys(entries):
        if is_below_another(entry):
            continue
        if entry.is_dir:
            try:
                links.refuse_link(door, entry.path, itself=entry, must_be_known=True)
            except CtaflowsError as why:
                doomed.kept.append(PathResult(entry.path, is_dir=True, error=error_text(why)))
                continue
        doomed.add([entry])
        if entry.is_dir:
            for batch in walk_batches(door, entry.path, on_empty=shown_empty.append):
                doomed.add(batch)
    keep_behind_links(door, doomed, {path.rstrip("/") for path in trees})
    if doomed.kept:
        removable = set(doomed.dirs)
        shown_empty = [path for path in shown_empty if path in removable]
    unread = unconfirmed(door, shown_empty)
    doomed.n_empty = len(shown_empty) - len(unread)
    kept = undescribed(unread_entries(unread))
    doomed.kept += kept
    are_kept = {result.path for result in kept}
    doomed.dirs = [path for path in doomed.dirs if path not in are_kept]
    return doomed


def _refuse_removal(door: Storage, entries: Sequence[Entry]) -> None:
    if any(entry.path == "/" for entry in entries):
        raise UsageError("The root can't be removed")
    if entries and not door.can_remove:
        raise unsupported(door, "remove files", entries[0].path)


def remove_all(door: Storage, doomed: RemovalPlan) -> Iterator[Sequence[PathResult]]:
    """Remove what was listed, on past what fails, and give the outcomes as they come.

    Files first, ``transfers`` at once; then directories, those at the same depth at once.

    Parameters
    ----------
    door : Storage
        Its ``transfer_slots`` bound how many requests go at once.
    doomed : RemovalPlan
        From `plan_removal`.
    """
    stop = threading.Event()
    still_files = _StillFiles(door)

    def one(outcome: PathResult) -> PathResult:
        try:
            with door.transfer_slots:
                if not outcome.is_dir:
                    still_files.refuse_directory(outcome.path)
                remove_one(door, outcome.path, is_dir=outcome.is_dir, stop=stop)
        except CtaflowsError as why:
            return PathResult(outcome.path, outcome.is_dir, error=error_text(why))
        return outcome

    if doomed.kept:
        yield doomed.kept
    for chunk in _in_turn(doomed):
        still_files.look(outcome.path for outcome in chunk if not outcome.is_dir)
        yield run_concurrently(one, chunk, door.settings.transfers, stop)


class _StillFiles:
    """Makes sure that what was planned as a file did not become a directory meanwhile.

    Or a symbolic link to one: a DELETE would remove all that is in it. A directory of many such
    files is listed once, before the first of them is removed. Others are asked for one by one, and
    so is what is not listed as a file, or whose directory can't be listed.

    Parameters
    ----------
    door : Storage
        Where they are.
    """

    def __init__(self, door: Storage) -> None:
        self._door = door
        self._listed: set[str] = set()
        self._files: set[str] = set()

    def look(self, paths: Iterable[str]) -> None:
        """List the directories of many of these files."""
        counted = Counter(path.rpartition("/")[0] or "/" for path in paths)
        for parent, n_files in counted.items():
            if n_files >= _LIST_FROM and parent not in self._listed:
                self._listed.add(parent)
                try:
                    listed = self._door.list(parent)
                    self._files |= {e.path for e in listed if e.kind == "file" and e.link is None}
                except CtaflowsError as why:
                    if concerns_all(why):
                        raise

    def refuse_directory(self, path: str) -> None:
        """Raise if there is a directory now."""
        if path in self._files:
            return
        there = self._door.exists(path)
        if there is not None and there.is_dir:
            raise StorageError(
                "It is a directory now, and was a file when it was listed",
                where=path,
                hint="List it again, and remove it with -r.",
            )


def remove_one(
    door: Storage, path: str, *, is_dir: bool, stop: threading.Event | None = None
) -> None:
    """Remove a file, or an empty directory; gone already is as good.

    Parameters
    ----------
    door : Storage
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
    Refused
        It may not be removed, or a directory not be read.
    """
    retries = Retries(door.settings)
    while True:
        try:
            if is_dir and any(True for _ in door.list(path)):
                raise StorageError(
                    "The directory is not empty",
                    where=path,
                    hint="Something in it was not removed, or came since it was listed.",
                )
            if is_dir:  # the DELETE would remove all that is in it
                door.confirm_empty(path)
            door.delete(path, is_dir=is_dir)
        except NotFound:
            return
        except CtaflowsError as why:
            # so dCache 11.2.5 answers about a link to a file, see `links`
            if why.status == 500 and not is_dir:
                links.refuse_link(door, path)
            (stop or threading.Event()).wait(retries.pause_or_raise(why))
        else:
            return


def _in_turn(doomed: RemovalPlan) -> Iterator[list[PathResult]]:
    """Yield batches; the paths of one may be removed in any order."""
    files = (PathResult(path) for path in doomed.files)
    while chunk := list(itertools.islice(files, _AT_A_TIME)):
        yield chunk
    deepest_first = sorted(doomed.dirs, key=lambda path: path.count("/"), reverse=True)
    for _, level in itertools.groupby(deepest_first, key=lambda path: path.count("/")):
        yield [PathResult(path, is_dir=True) for path in level]
