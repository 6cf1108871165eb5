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
import fnmatch
import sys
from typing import TYPE_CHECKING

from ctaflows.errors import ProtocolSurprise
from ctaflows.storage.ahead import Ahead
from ctaflows.storage.paths import selected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ctaflows.model import Entry
    from ctaflows.storage.protocol import Storage


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
    with Ahead(storage, [storage.normalise(path)]) as ahead:
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
    for entry in walk(storage, path, ordered=True, enter=unless_excluded(exclude)):
        name = entry.path.removeprefix(base)
        if not entry.is_dir and is_wanted(entry, name, include, exclude):
            yield entry


def is_wanted(
    entry: Entry, name: str, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> bool:
    """Tell whether a file that was found is one of those asked for, see `paths.selected`.

    What the storage can't describe may be a directory that holds such files, so that it is passed
    over only where it is excluded.

    Parameters
    ----------
    entry : Entry
        What was found; no directory.
    name : str
        Its path relative to the directory asked for.
    include, exclude : sequence of str
        As for `paths.selected`.
    """
    return selected(name, () if entry.error is not None else include, exclude)


def unless_excluded(exclude: Sequence[str]) -> Callable[[Entry], bool]:
    """Make the `enter` that spares listings of directories of whose files none is wanted.

    A pattern that fits a directory's own name fits all that is below it, see `paths.selected`; one
    that fits its path does not.
    """
    return lambda entry: not any(fnmatch.fnmatchcase(entry.name, p) for p in exclude)
