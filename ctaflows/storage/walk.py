"""All that is below a directory: listings of depth 1, some of them ahead of their turn.

Never `Depth: infinity`: a dCache door gives 3 levels for it and says nothing (dCache 12.1,
milton AbstractRequest.java:93).

Directories are given one after the other, each before what is in its sub-directories, so that the
order is that of the door (or of the names) however many are listed at once. What waits are the
paths of sub-directories on the way down, and a few thousand entries that helpers hold ahead of
their turn: the memory does not grow with the tree.
"""

from __future__ import annotations

import contextlib
import contextvars
import fnmatch
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Self

from ctaflows import cancel
from ctaflows.errors import ProtocolSurprise, Stopped
from ctaflows.storage.search import Criteria

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from typing import TypeAlias

    from ctaflows.model import Entry
    from ctaflows.storage.protocol import Storage

    _Batches: TypeAlias = Generator[Sequence[Entry], None, None]


#: A tree of nights has some ten levels; one without end is no tree.
_MAX_DEPTH = 64


def walk(
    storage: Storage,
    path: str,
    *,
    ordered: bool = False,
    enter: Callable[[Entry], bool] | None = None,
    on_empty: Callable[[str], object] | None = None,
) -> Iterator[Entry]:
    """Give all entries below a directory, each directory before what is in it.

    The consumer may list, transfer or stop meanwhile as it likes.

    Parameters
    ----------
    storage : Storage
        A door, or the download service.
    path : str
        Where to begin; a file gives itself.
    ordered : bool
        Sort the names within each directory, which is then held until it is complete; without it
        entries appear while the listing arrives, in the door's order.
    enter : Callable, optional
        Says whether what is below a directory is wanted; without it all is.
    on_empty : Callable, optional
        Is told the path of each directory in which nothing was shown, before the next entry comes.
        It may hold files all the same: a dCache door shows a directory that it can't list as an
        empty one (DcacheDirectoryResource.getChildren, dCache 12.1), so nothing may be deleted
        because of it.

    Yields
    ------
    Entry
        Files and directories, without ``path`` itself if that is a directory.

    Raises
    ------
    CtaflowsError
        A directory can't be listed; the listings that had begun are stopped.
    """
    sort = sys.maxsize if ordered else 0
    for batch in walk_batches(storage, path, sort=sort, enter=enter, on_empty=on_empty):
        yield from batch


def walk_batches(
    storage: Storage,
    path: str,
    *,
    sort: int = 0,
    enter: Callable[[Entry], bool] | None = None,
    on_empty: Callable[[str], object] | None = None,
) -> Iterator[Sequence[Entry]]:
    """Give what `walk` gives in lists, each as soon as it is there.

    Parameters
    ----------
    storage, path, enter, on_empty
        As for `walk`.
    sort : int
        Directories of at most so many entries are sorted by name; larger ones come in the door's
        order, so that they need not be held.
    """
    with ListingPrefetcher(storage, [storage.normalise(path)]) as ahead:
        while (where := ahead.next_path()) is not None:
            if where.count("/") > _MAX_DEPTH:
                raise ProtocolSurprise(
                    f"The tree is deeper than {_MAX_DEPTH} directories", where=where
                )
            below: list[str] = []
            is_empty = True
            with contextlib.closing(ahead.batches(where)) as batches:
                for batch in in_order(batches, sort):
                    is_empty = False
                    below += [e.path for e in batch if e.is_dir and (enter is None or enter(e))]
                    yield batch
            if is_empty and on_empty is not None:
                on_empty(where)
            ahead.push(below)


def in_order(batches: Iterable[Sequence[Entry]], most: int) -> Iterator[Sequence[Entry]]:
    """Sort the entries of one directory by name if they are no more than ``most``."""
    held: list[Entry] = []
    batches = iter(batches)
    for batch in batches:
        held += batch
        if len(held) > most:
            break
    else:
        if held:
            yield sorted(held, key=lambda e: e.path)
        return
    yield held
    yield from batches


def files_below(
    storage: Storage, path: str, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> Iterator[Entry]:
    """Give the wanted files below a directory, names sorted within each directory.

    Parameters
    ----------
    storage : Storage
        A door, or the download service.
    path : str
        Where to begin.
    include, exclude : sequence of str
        See `paths.selected`; the path below ``path`` counts. Directories that are left out are not
        listed at all.
    """
    base = storage.normalise(path).rstrip("/") + "/"
    criteria = Criteria(include=tuple(include), exclude=tuple(exclude), is_dir=False)
    for entry in walk(storage, path, ordered=True, enter=unless_excluded(exclude)):
        if criteria.accept(entry, entry.path.removeprefix(base)):
            yield entry


def unless_excluded(exclude: Sequence[str]) -> Callable[[Entry], bool]:
    """Make the `enter` that spares listings of directories of whose files none is wanted.

    A pattern that fits a directory's own name fits all that is below it, see `paths.selected`; one
    that fits its path does not.
    """
    return lambda entry: not any(fnmatch.fnmatchcase(entry.name, p) for p in exclude)


# -- listing ahead ---------------------------------------------------------------------------------
#
# Directories that are listed before their turn, by helpers that end when they are told to.

#: What helpers hold at most of directories whose turn has not come: some 5 MB.
HELD_ENTRIES = 10_000
#: So long helpers are waited for when the walk ends, in seconds. One that can't be woken, as while
#: it connects to a silent door, ends by itself.
_GRACE_S = 1.0
#: A waiting thread wakes up so often, in seconds: an exception that Prefect sends to a thread which
#: is to be cancelled reaches it only then.
_WAKE_S = 0.5


class _Begun:
    """A directory that a helper lists."""

    __slots__ = ("batches", "error", "is_done", "n_entries")

    def __init__(self) -> None:
        self.batches: deque[Sequence[Entry]] = deque()
        self.n_entries = 0
        self.is_done = False
        self.error: Exception | None = None


class ListingPrefetcher:
    """The directories of a walk that are still to be given, the next one on top.

    Parameters
    ----------
    storage : Storage
        Where they are.
    paths : sequence of str
        Normalised paths to begin with.
    """

    def __init__(self, storage: Storage, paths: Sequence[str]) -> None:
        self._storage = storage
        self._stack = list(reversed(paths))
        self._begun: dict[str, _Begun] = {}
        self._n_held = 0
        self._has_failed = False
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._helpers: list[threading.Thread] = []
        self._link = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._link.enter_context(cancel.link_child(self._stop))
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the helpers and let them go."""
        self._link.close()
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        deadline = time.monotonic() + _GRACE_S
        for helper in self._helpers:
            if helper is not threading.current_thread():
                helper.join(max(0.0, deadline - time.monotonic()))

    def next_path(self) -> str | None:
        """Take the directory whose turn it is; None after the last one."""
        cancel.raise_if_cancelled(self._stop)
        with self._changed:
            return self._stack.pop() if self._stack else None

    def push(self, paths: Sequence[str]) -> None:
        """Let these come next, before all that wait."""
        with self._changed:
            self._stack.extend(reversed(paths))
            self._changed.notify_all()
            n_waiting = len(self._stack)
        # as many as there are slots: the consumer may wait for one of them
        n_useful = min(n_waiting, self._storage.settings.listings) if n_waiting > 1 else 0
        while len(self._helpers) < n_useful:
            self._helpers.append(
                threading.Thread(
                    target=contextvars.copy_context().run,
                    args=(self._help,),
                    name="ctaflows-listing",
                    daemon=True,
                )
            )
            self._helpers[-1].start()

    def batches(self, path: str) -> _Batches:
        """Give the entries of the directory whose turn it is, as they arrive."""
        with self._changed:
            begun = self._begun.get(path)
        if begun is None:
            yield from _batches(self._storage, path, self._stop)
            return
        while True:
            with self._changed:
                while not (begun.batches or begun.is_done):
                    cancel.raise_if_cancelled(self._stop)
                    self._changed.wait(_WAKE_S)
                ready, begun.batches = begun.batches, deque()
                self._n_held -= begun.n_entries
                begun.n_entries = 0
                if not ready:
                    del self._begun[path]
                    self._n_held -= 1
                self._changed.notify_all()
            if not ready:
                break
            yield from ready
        if begun.error is not None:
            raise begun.error

    def _help(self) -> None:
        while (taken := self._take()) is not None:
            path, begun = taken
            try:
                batches = _batches(self._storage, path, self._stop)
                with cancel.scope(self._stop), contextlib.closing(batches):
                    for batch in batches:
                        self._hold(begun, batch)
            except Exception as why:  # noqa: BLE001  raised when its turn comes
                begun.error = why
                self._has_failed = True  # the walk will end here: what comes later is of no use
            with self._changed:
                begun.is_done = True
                self._changed.notify_all()

    def _take(self) -> tuple[str, _Begun] | None:
        """Begin with the next directory that nobody has begun with; None when the walk ends."""
        with self._changed:
            while not (self._stop.is_set() or self._has_failed):
                path = None
                if self._n_held < HELD_ENTRIES:
                    path = next((p for p in reversed(self._stack) if p not in self._begun), None)
                if path is not None:
                    self._n_held += 1  # an empty directory counts, too
                    self._begun[path] = begun = _Begun()
                    return path, begun
                self._changed.wait()
        return None

    def _hold(self, begun: _Begun, batch: Sequence[Entry]) -> None:
        """Keep a batch until its turn comes, and wait if that is too much."""
        with self._changed:
            begun.batches.append(batch)
            begun.n_entries += len(batch)
            self._n_held += len(batch)
            self._changed.notify_all()
            while begun.n_entries >= HELD_ENTRIES and not self._stop.is_set():
                self._changed.wait()
        if self._stop.is_set():
            raise Stopped("The walk has ended")


def _batches(storage: Storage, path: str, stop: threading.Event) -> _Batches:
    give = getattr(storage, "batches", None)
    if give is None:
        yield list(storage.list(path))  # a listing that comes in one piece
    else:
        yield from give(path, stop=stop)
