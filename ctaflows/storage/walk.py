"""Walking a remote tree by listings of depth 1, some of which are prefetched.

`Depth: infinity` is not used: a dCache door returns three levels for it, without any sign that
there are more (AbstractRequest.java:93, Milton 2.7.3; seen with 11.2.5).

Entries are yielded directory by directory, each before its sub-directories, and what symbolic links
lead to, if they are followed, after all else, so that their order is
that of the listings (or of the names) however many directories are listed at once. The walk holds
the paths of sub-directories to come, and the entries of prefetched directories, which are limited:
its memory does not grow with the number of files.
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
from ctaflows.errors import CtaflowsError, NotFound, ProtocolSurprise, Stopped, concerns_all
from ctaflows.storage.links import pnfsid
from ctaflows.storage.search import Criteria
from ctaflows.thread_pool import run_concurrently, started

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from typing import TypeAlias

    from ctaflows.model import Entry
    from ctaflows.storage.protocol import Storage

    #: Whether symbolic links to directories are followed, or which of them are.
    Follow: TypeAlias = bool | Callable[[Entry], bool]
    _Batches: TypeAlias = Generator[Sequence[Entry], None, None]


#: Greatest number of slashes in a directory's path, against endless trees; nights have some ten.
_MAX_DEPTH = 64


def walk(
    storage: Storage,
    path: str,
    *,
    ordered: bool = False,
    enter: Callable[[Entry], bool] | None = None,
    follow: Follow = False,
    on_empty: Callable[[str], object] | None = None,
    on_link: Callable[[Entry], object] | None = None,
) -> Iterator[Entry]:
    """Yield all entries below a directory, each directory before its contents.

    The caller may list directories and transfer files between two entries, or stop the iteration.

    Parameters
    ----------
    storage : Storage
        A WebDAV storage, or the download service.
    path : str
        Directory to begin with; for a file the one entry is the file itself.
    ordered : bool
        Sort the entries of each directory by name, after its listing is complete; by default they
        are yielded as the listing arrives, in the server's order.
    enter : Callable, optional
        Takes a directory's entry, and returns whether to list it; by default all are.
    follow : bool or Callable
        List what symbolic links to directories lead to, too, below the path of the link; or a
        function that takes a link's entry, and returns whether to. Links are entered after all
        directories that are reached without them, and no directory is listed twice, by whatever
        path it is reached: directories are told apart by their pnfsid.
    on_empty : Callable, optional
        Called with the path of each directory whose listing is empty, before the next entry is
        yielded. Such a directory need not be empty: a dCache door answers so for one that it can't
        list (DcacheDirectoryResource.getChildren, dCache 12.1; seen with 11.2.5). So nothing may be
        deleted because of it, unless `unconfirmed` leaves it out.
    on_link : Callable, optional
        Called with each symbolic link to a directory that is neither entered nor listed by another
        path, with each that leads to nothing, and with each directory that is listed by another
        path instead, where links are followed; unless `enter` refuses them.

    Yields
    ------
    Entry
        Files, directories and symbolic links, without `path` itself if that is a directory.

    Raises
    ------
    CtaflowsError
        A directory can't be listed; no further one is.
    """
    sort = sys.maxsize if ordered else 0
    for batch in walk_batches(
        storage, path, sort=sort, enter=enter, follow=follow, on_empty=on_empty, on_link=on_link
    ):
        yield from batch


def walk_batches(
    storage: Storage,
    path: str,
    *,
    sort: int = 0,
    enter: Callable[[Entry], bool] | None = None,
    follow: Follow = False,
    on_empty: Callable[[str], object] | None = None,
    on_link: Callable[[Entry], object] | None = None,
) -> Iterator[Sequence[Entry]]:
    """Yield what `walk` does, in lists as they arrive.

    Parameters
    ----------
    storage, path, enter, follow, on_empty, on_link
        As for `walk`.
    sort : int
        Directories of at most this number of entries are sorted by name; larger ones are yielded in
        the server's order, without waiting for the end of the listing. 0 sorts none.
    """
    root = storage.normalise(path)
    links = _Links(storage, root, follow, on_link or (lambda _: None))
    with ListingPrefetcher(storage, [root]) as prefetcher:
        while (where := prefetcher.next_path()) is not None:
            if where.count("/") > _MAX_DEPTH:
                raise ProtocolSurprise(
                    f"The tree is deeper than {_MAX_DEPTH} directories", where=where
                )
            below: list[str] = []
            is_empty = True
            with contextlib.closing(prefetcher.batches(where)) as batches:
                for batch in in_order(batches, sort):
                    is_empty = False
                    for entry in [e for e in batch if e.is_dir or e.link not in (None, "file")]:
                        if enter is None or enter(entry):
                            below += links.to_list(entry)
                    yield batch
            if is_empty and on_empty is not None:
                on_empty(where)
            prefetcher.push(below)
            if prefetcher.is_done:
                prefetcher.push(links.to_follow())


class _Links:
    """The symbolic links of a walk, and the ids of the directories that it lists."""

    def __init__(
        self, storage: Storage, root: str, follow: Follow, on_link: Callable[[Entry], object]
    ) -> None:
        self._storage, self._root = storage, root
        self._follow = follow if callable(follow) else (lambda _: follow)
        self._on_link = on_link
        self._waiting: list[Entry] = []
        self._listed: set[str | None] = set()
        self._has_followed = False

    def to_list(self, entry: Entry) -> list[str]:
        """Return the path of a directory if it is to be listed now; keep a link for later."""
        if not entry.is_dir:
            self._waiting.append(entry)
            return []
        # without links no directory is reached twice
        if self._is_new(entry) or not self._has_followed:
            return [entry.path]
        self._on_link(entry)
        return []

    def to_follow(self) -> list[str]:
        """Return the paths of the links to be followed, after all else is listed."""
        waiting, self._waiting = self._waiting, []
        if waiting and not self._has_followed:
            self._is_new(self._storage.stat(self._root))
        followed = []
        for entry in waiting:
            own = pnfsid(entry)
            if entry.link == "nothing" or own is None:
                self._on_link(entry)
            elif own in self._listed:
                continue  # what it leads to is listed by another path
            elif self._follow(entry):
                self._listed.add(own)
                followed.append(entry.path)
            else:
                self._on_link(entry)
        self._has_followed = self._has_followed or bool(followed)
        return followed

    def _is_new(self, entry: Entry) -> bool:
        """Return whether a directory is not listed yet, as far as can be told, and note it."""
        own = pnfsid(entry)
        is_new = own is None or own not in self._listed
        self._listed.add(own)
        return is_new


def unconfirmed(storage: Storage, paths: Sequence[str]) -> dict[str, CtaflowsError | None]:
    """Return those of some directories with empty listings that may hold something after all.

    There is at most one request for each.

    Parameters
    ----------
    storage : Storage
        Where they are.
    paths : sequence of str
        What `walk` has given to `on_empty`.

    Returns
    -------
    dict
        Path to the reason why the directory can't be read; None where the storage does not tell,
        or where nothing is at the path any more.
    """

    def look(path: str) -> tuple[bool, CtaflowsError | None]:
        try:
            return storage.confirm_empty(path), None
        except NotFound:
            return False, None
        except CtaflowsError as why:
            if concerns_all(why):
                raise
            return False, why

    found = run_concurrently(look, paths, storage.settings.listings, threading.Event())
    told = zip(paths, found, strict=True)
    return {path: why for path, (is_empty, why) in told if not is_empty}


def in_order(batches: Iterable[Sequence[Entry]], most: int) -> Iterator[Sequence[Entry]]:
    """Yield the entries of one directory, sorted by name where there are at most `most`."""
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
    storage: Storage,
    path: str,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    follow: Follow = False,
    on_empty: Callable[[str], object] | None = None,
    on_link: Callable[[Entry], object] | None = None,
) -> Iterator[Entry]:
    """Yield the files below a directory that match patterns, sorted by name in each directory.

    Parameters
    ----------
    storage : Storage
        A WebDAV storage, or the download service.
    path : str
        Directory to begin with.
    include, exclude : sequence of str
        Patterns for the path relative to `path`, see `paths.selected`. Directories whose name
        matches `exclude` are not listed.
    follow, on_empty, on_link
        As for `walk`.
    """
    base = storage.normalise(path).rstrip("/") + "/"
    criteria = Criteria(include=tuple(include), exclude=tuple(exclude), kind="file")
    enter = unless_excluded(exclude)
    for entry in walk(
        storage,
        path,
        ordered=True,
        enter=enter,
        follow=follow,
        on_empty=on_empty,
        on_link=on_link,
    ):
        if criteria.accept(entry, entry.path.removeprefix(base)):
            yield entry


def unless_excluded(exclude: Sequence[str]) -> Callable[[Entry], bool]:
    """Return a function for `enter` of `walk` that is False for directories whose name is excluded.

    A pattern that matches a directory's name excludes all that is below it, see `paths.selected`;
    one that matches its relative path need not.
    """
    return lambda entry: not any(fnmatch.fnmatchcase(entry.name, p) for p in exclude)


# -- prefetching listings --------------------------------------------------------------------------
#
# Directories of a walk are listed by threads before their turn.

#: Prefetching pauses at this number of entries that are not yet yielded, some 5 MB.
HELD_ENTRIES = 10_000
#: Longest wait for the threads at the end of a walk, seconds. One that can't be woken, such as
#: while it connects to a server that does not answer, ends by itself.
_GRACE_S = 1.0
#: Interval at which a waiting thread wakes up, seconds: only then does it get the exception by
#: which Prefect cancels a thread.
_WAKE_S = 0.5


class _Prefetched:
    """The listing of a directory by a thread of the `ListingPrefetcher`."""

    __slots__ = ("batches", "error", "is_done", "n_entries")

    def __init__(self) -> None:
        self.batches: deque[Sequence[Entry]] = deque()
        self.n_entries = 0
        self.is_done = False
        self.error: Exception | None = None


class ListingPrefetcher:
    """The directories of a walk still to be listed, some of which are listed by threads meanwhile.

    Used as a context manager; the threads are stopped at the end of the block.

    Parameters
    ----------
    storage : Storage
        Where they are; ``settings.listings`` is the greatest number of threads.
    paths : sequence of str
        Normalised paths of the first directories.
    """

    def __init__(self, storage: Storage, paths: Sequence[str]) -> None:
        self._storage = storage
        self._stack = list(reversed(paths))
        self._prefetched: dict[str, _Prefetched] = {}
        self._n_held = 0
        self._has_failed = False
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._link = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._link.enter_context(cancel.link_child(self._stop))
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the threads, and wait a short time for their end."""
        self._link.close()
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        deadline = time.monotonic() + _GRACE_S
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def next_path(self) -> str | None:
        """Remove and return the next directory; None after the last one.

        Raises
        ------
        Stopped
            The work of this context was cancelled.
        """
        cancel.raise_if_cancelled(self._stop)
        with self._changed:
            return self._stack.pop() if self._stack else None

    @property
    def is_done(self) -> bool:
        """Is there no further directory, as far as is known?"""
        with self._changed:
            return not self._stack

    def push(self, paths: Sequence[str]) -> None:
        """Add directories, in order, before all that wait, and start threads for them."""
        with self._changed:
            self._stack.extend(reversed(paths))
            self._changed.notify_all()
            n_waiting = len(self._stack)
        # one for each permit: the caller itself may wait for one of them
        n_useful = min(n_waiting, self._storage.settings.listings) if n_waiting > 1 else 0
        while len(self._threads) < n_useful:
            thread = threading.Thread(
                target=contextvars.copy_context().run,
                args=(self._prefetch,),
                name="ctaflows-listing",
                daemon=True,
            )
            if not started(thread):  # each directory is listed in its turn
                break
            self._threads.append(thread)

    def batches(self, path: str) -> _Batches:
        """Yield the entries of the directory from `next_path` in lists, as they arrive.

        Raises
        ------
        CtaflowsError
            It can't be listed, or the work of this context was cancelled.
        """
        with self._changed:
            listing = self._prefetched.get(path)
        if listing is None:
            yield from _batches(self._storage, path, self._stop)
            return
        while True:
            with self._changed:
                while not (listing.batches or listing.is_done):
                    cancel.raise_if_cancelled(self._stop)
                    self._changed.wait(_WAKE_S)
                ready, listing.batches = listing.batches, deque()
                self._n_held -= listing.n_entries
                listing.n_entries = 0
                if not ready:
                    del self._prefetched[path]
                    self._n_held -= 1
                self._changed.notify_all()
            if not ready:
                break
            yield from ready
        if listing.error is not None:
            raise listing.error

    def _prefetch(self) -> None:
        while (taken := self._take()) is not None:
            path, listing = taken
            try:
                batches = _batches(self._storage, path, self._stop)
                with cancel.scope(self._stop), contextlib.closing(batches):
                    for batch in batches:
                        self._hold(listing, batch)
            except Exception as why:  # noqa: BLE001  raised by `batches` of this directory
                listing.error = why
                self._has_failed = True  # the walk ends at this directory: none is prefetched
            with self._changed:
                listing.is_done = True
                self._changed.notify_all()

    def _take(self) -> tuple[str, _Prefetched] | None:
        """Return the next directory to prefetch, waiting for one; None where the walk ends."""
        with self._changed:
            while not (self._stop.is_set() or self._has_failed):
                path = None
                if self._n_held < HELD_ENTRIES:
                    waiting = reversed(self._stack)
                    path = next((p for p in waiting if p not in self._prefetched), None)
                if path is not None:
                    self._n_held += 1  # an empty directory counts, too
                    self._prefetched[path] = listing = _Prefetched()
                    return path, listing
                self._changed.wait()
        return None

    def _hold(self, listing: _Prefetched, batch: Sequence[Entry]) -> None:
        """Keep a batch for `batches`, and wait while this directory has too many entries."""
        with self._changed:
            listing.batches.append(batch)
            listing.n_entries += len(batch)
            self._n_held += len(batch)
            self._changed.notify_all()
            while listing.n_entries >= HELD_ENTRIES and not self._stop.is_set():
                self._changed.wait()
        if self._stop.is_set():
            raise Stopped("The walk has ended")


def _batches(storage: Storage, path: str, stop: threading.Event) -> _Batches:
    list_batches = getattr(storage, "batches", None)
    if list_batches is None:
        yield list(storage.list(path))
    else:
        yield from list_batches(path, stop=stop)
