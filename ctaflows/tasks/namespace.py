"""Operations on the name space: list, find, describe, count, make, move, remove."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from ctaflows.errors import CtaflowsError, NotFound, UsageError, error_text
from ctaflows.storage import namespace as _namespace
from ctaflows.storage.connect import connect
from ctaflows.storage.namespace import PathResult as PathResult
from ctaflows.storage.namespace import RemovalPlan as RemovalPlan
from ctaflows.storage.namespace import failure as failure
from ctaflows.storage.namespace import refuse_undescribed as refuse_undescribed
from ctaflows.storage.paths import selected as selected
from ctaflows.storage.search import Criteria, Tally, Usage
from ctaflows.storage.walk import unless_excluded, walk_batches
from ctaflows.tracking.task import task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from ctaflows.model import Entry

#: Directories of at most this many entries are sorted by name in a streamed listing; larger ones
#: keep the server's order, so that they need not be held in memory (5 MB).
SORT_UP_TO = 10_000


@task(name="list-dir", tags=["ctaflows"])
def list_dir(path: str, *, profile: str | None = None) -> list[Entry]:
    """List a directory.

    Parameters
    ----------
    path : str
        A remote directory; a file lists itself.
    profile : str, optional
        Settings to use.

    Returns
    -------
    list of Entry
        Sorted by name. An empty list may also mean that the door could not read the directory:
        dCache shows both alike.

    Raises
    ------
    NotFound
        There is nothing at the path.

    Examples
    --------
    >>> for entry in list_dir("cta/DL1/20241114"):  # doctest: +SKIP
    ...     print(entry.name, entry.size_bytes)
    """
    return sorted(connect(profile).list(path), key=lambda e: e.path)


def iter_dir(
    path: str,
    *,
    recursive: bool = False,
    sort_up_to: int = SORT_UP_TO,
    on_empty: Callable[[str], object] | None = None,
    profile: str | None = None,
) -> Iterator[Sequence[Entry]]:
    """Yield the entries of a directory in batches, while the listing arrives.

    Parameters
    ----------
    path : str
        A remote directory; a file lists itself.
    recursive : bool
        Also everything below it, each directory before what is in its sub-directories.
    sort_up_to : int
        Directories of at most this many entries are sorted by name; larger ones keep the server's
        order. With 0 entries come as they arrive.
    on_empty : callable, optional
        Called with the path of each directory in which nothing was shown: it is empty, or the door
        could not read it.
    profile : str, optional
        Settings to use.

    Yields
    ------
    sequence of Entry
        Not empty. An entry that the storage names without describing it has an ``error``.

    Raises
    ------
    NotFound
        There is nothing at the path.

    Examples
    --------
    >>> for batch in iter_dir("cta/DL1", recursive=True):  # doctest: +SKIP
    ...     print(batch[0].parent, len(batch))
    """
    enter = None if recursive else (lambda _: False)
    yield from walk_batches(connect(profile), path, sort=sort_up_to, enter=enter, on_empty=on_empty)


@task(name="find", tags=["ctaflows"])
def find(
    path: str,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    names: Sequence[str] = (),
    kind: Literal["file", "directory"] | None = "file",
    newer_than: datetime | None = None,
    older_than: datetime | None = None,
    min_size_bytes: int | None = None,
    max_size_bytes: int | None = None,
    profile: str | None = None,
) -> list[Entry]:
    """Find files below a directory; all conditions must hold.

    Parameters
    ----------
    path : str
        Where to begin.
    include, exclude : sequence of str
        Shell patterns such as ``*.h5`` or ``datacheck``, matched against the path below ``path``,
        the file's name, and each directory's name. Excluded directories are not listed.
    names : sequence of str
        Shell patterns of which the name itself must match one; none means all names.
    kind : {"file", "directory"} or None
        None finds both.
    newer_than, older_than : datetime, optional
        Bounds of the last change, aware, exclusive. An entry without a time matches neither.
    min_size_bytes, max_size_bytes : int, optional
        Bounds of the size, inclusive. An entry without a size, such as a directory, matches
        neither.
    profile : str, optional
        Settings to use.

    Returns
    -------
    list of Entry
        Each with size, time and the storage's checksums; names are sorted within each directory.
        An entry that the storage names without describing it is among them, with its ``error``,
        unless it is excluded: it may be what is searched, or a directory that holds it.

    Raises
    ------
    NotFound
        There is nothing at the path.

    Examples
    --------
    >>> find("cta/DL1/20241114", names=["dl1_LST-1.Run*.h5"], exclude=["datacheck"])
    ... # doctest: +SKIP
    """
    batches = iter_find(
        path,
        include=include,
        exclude=exclude,
        names=names,
        kind=kind,
        newer_than=newer_than,
        older_than=older_than,
        min_size_bytes=min_size_bytes,
        max_size_bytes=max_size_bytes,
        sort_up_to=sys.maxsize,
        profile=profile,
    )
    return [entry for batch in batches for entry in batch]


def iter_find(
    path: str,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    names: Sequence[str] = (),
    kind: Literal["file", "directory"] | None = "file",
    newer_than: datetime | None = None,
    older_than: datetime | None = None,
    min_size_bytes: int | None = None,
    max_size_bytes: int | None = None,
    sort_up_to: int = SORT_UP_TO,
    on_empty: Callable[[str], object] | None = None,
    profile: str | None = None,
) -> Iterator[Sequence[Entry]]:
    """Yield what `find` finds in batches, while the listings arrive.

    Parameters
    ----------
    path, include, exclude, names, kind, newer_than, older_than, min_size_bytes, max_size_bytes
        As for `find`.
    sort_up_to, on_empty, profile
        As for `iter_dir`.

    Yields
    ------
    sequence of Entry
        Not empty.
    """
    criteria = Criteria(
        tuple(names),
        tuple(include),
        tuple(exclude),
        None if kind is None else kind == "directory",
        newer_than,
        older_than,
        min_size_bytes,
        max_size_bytes,
    )
    door = connect(profile)
    base = door.normalise(path).rstrip("/") + "/"
    batches = walk_batches(
        door, path, sort=sort_up_to, enter=unless_excluded(exclude), on_empty=on_empty
    )
    for batch in batches:
        if found := [e for e in batch if criteria.accept(e, e.path.removeprefix(base))]:
            yield found


@task(name="stat", tags=["ctaflows"])
def stat(path: str, *, checksums: bool = True, profile: str | None = None) -> Entry:
    """Describe one file or directory: size, time, checksums, whether it is on disk.

    Parameters
    ----------
    path : str
        A remote path.
    checksums : bool
        Ask once more where the description of a file has no checksum: some servers, such as
        XRootD 5.5, tell it to HEAD alone.
    profile : str, optional
        Settings to use.

    Raises
    ------
    NotFound
        There is nothing at the path.
    """
    door = connect(profile)
    entry = door.stat(path)
    if checksums and not entry.is_dir and not entry.checksums:
        entry = replace(entry, checksums=door.checksums(path))
    return entry


@task(name="disk-usage", tags=["ctaflows"])
def disk_usage(
    path: str,
    *,
    depth: int | None = None,
    on_empty: Callable[[str], object] | None = None,
    on_undescribed: Callable[[Entry], object] | None = None,
    profile: str | None = None,
) -> list[Usage]:
    """Count bytes and files below each directory.

    Parameters
    ----------
    path : str
        Where to begin.
    depth : int, optional
        Levels of sub-directories that are counted apart; 0 gives the total alone, None all.
    on_empty : callable, optional
        As for `iter_dir`.
    on_undescribed : callable, optional
        Called with each entry that the storage names without describing it, perhaps a directory;
        without it these raise `PartialFailure`.
    profile : str, optional
        Settings to use.

    Returns
    -------
    list of Usage
        Sub-directories before the one that holds them, ``path`` itself last. What the door could
        not read counts as empty: it shows both alike.

    Raises
    ------
    NotFound
        There is nothing at the path.
    PartialFailure
        Some entries are not described; ``report`` has them.
    """
    door = connect(profile)
    tally = Tally(door.normalise(path), depth)
    unseen: list[Entry] = []
    for batch in walk_batches(door, path, on_empty=on_empty):
        tally.add(batch)
        for entry in batch:
            if entry.error is not None:
                (on_undescribed or unseen.append)(entry)
    refuse_undescribed(unseen)
    return tally.usages()


@task(name="make-dir", tags=["ctaflows"])
def make_dir(path: str, *, parents: bool = False, profile: str | None = None) -> str:
    """Make a directory.

    Parameters
    ----------
    path : str
        A remote path.
    parents : bool
        Make missing parents too; a directory that is there already is then no error.
    profile : str, optional
        Settings to use.

    Returns
    -------
    str
        The directory's path from the root.

    Raises
    ------
    AlreadyExists
        Something is there.
    NotFound
        The directory above is missing.
    """
    door = connect(profile)
    where = door.normalise(path)
    door.mkdir(where, parents=parents, exist_ok=parents)
    return where


@task(name="move", tags=["ctaflows"])
def move(
    source: str | Entry, target: str, *, overwrite: bool = False, profile: str | None = None
) -> str:
    """Move or rename a file or directory.

    Parameters
    ----------
    source : str or Entry
        What to move; an Entry spares a request.
    target : str
        Its new path, or a directory to move it into; one that ends in ``/`` must be there.
    overwrite : bool
        Replace a file that is there. Directories are never replaced.
    profile : str, optional
        Settings to use.

    Returns
    -------
    str
        The new path from the root.

    Raises
    ------
    NotFound, AlreadyExists
        There is no source or no such directory; the place is taken.
    UsageError
        A directory would be moved into itself.
    """
    door = connect(profile)
    entry = door.stat(source) if isinstance(source, str) else source
    return _namespace.move(door, entry, target, overwrite=overwrite)


def plan_removal(
    paths: Sequence[str], *, missing_ok: bool = False, profile: str | None = None
) -> RemovalPlan:
    """List all that goes when files and directories go; nothing is removed.

    Parameters
    ----------
    paths : sequence of str
        Remote paths, never the root.
    missing_ok : bool
        Pass over paths at which there is nothing.
    profile : str, optional
        Settings to use.

    Returns
    -------
    RemovalPlan
        For `remove`. What can't be removed is in ``kept``, with the reason: a symbolic link, what
        the storage can't describe, or one of several paths that can't be looked at.

    Raises
    ------
    UsageError
        The root is among the paths.
    CtaflowsError
        The only path can't be looked at.
    """
    door = connect(profile)
    entries: list[Entry] = []
    failed: list[PathResult] = []
    for path in paths:
        try:
            entries.append(door.stat(path))
        except CtaflowsError as why:
            if missing_ok and isinstance(why, NotFound):
                continue
            if len(paths) == 1:
                raise
            failed.append(PathResult(path, error=error_text(why)))
    plan = _namespace.plan_removal(door, entries)
    plan.kept[:0] = failed
    return plan


@task(name="remove", tags=["ctaflows"])
def remove(
    path: str | RemovalPlan,
    *,
    recursive: bool = False,
    missing_ok: bool = False,
    dry_run: bool = False,
    profile: str | None = None,
) -> list[PathResult]:
    """Remove a file, or with ``recursive`` a directory with all that is below it now.

    Nobody is asked: to look first, make a plan with `plan_removal` and remove that. Only what a
    listing has shown is removed: a directory into which something comes meanwhile stays, and is
    reported as failed.

    Parameters
    ----------
    path : str or RemovalPlan
        A remote path, never the root; or a plan, of which just what it lists is removed.
    recursive : bool
        Remove a directory, too. A plan does so where it lists directories.
    missing_ok : bool
        Whether it is right that there is nothing at the path.
    dry_run : bool
        Return what would be removed, and remove nothing.
    profile : str, optional
        Settings to use.

    Returns
    -------
    list of PathResult
        One for each file and directory that is gone.

    Raises
    ------
    UsageError
        The root, or a directory without ``recursive``.
    NotFound
        There is nothing at the path.
    PartialFailure
        Some of it is still there; ``report`` has what. The rest is gone.
    """
    door = connect(profile)
    if isinstance(path, RemovalPlan):
        plan = path
    else:
        entry = door.exists(path)
        if entry is None and missing_ok:
            return []
        if entry is None:
            raise NotFound("There is nothing at this path", where=door.normalise(path))
        if entry.is_dir and not recursive:
            raise UsageError(
                "That is a directory",
                where=entry.path,
                hint="Remove it with -r, or recursive=True.",
            )
        if not entry.is_dir and not dry_run:
            _namespace.remove_one(door, entry.path, is_dir=False)
            return [PathResult(entry.path)]
        plan = _namespace.plan_removal(door, [entry])
    if dry_run:
        return list(plan.all())
    results = [result for batch in iter_remove(plan, profile=profile) for result in batch]
    if failed := [result for result in results if not result.ok]:
        raise failure(failed, len(results), "removed")
    return results


def iter_remove(plan: RemovalPlan, *, profile: str | None = None) -> Iterator[Sequence[PathResult]]:
    """Remove what a plan lists, and yield the results in batches as they come.

    Parameters
    ----------
    plan : RemovalPlan
        From `plan_removal`.
    profile : str, optional
        Settings to use.

    Yields
    ------
    sequence of PathResult
        Each gone, or with the ``error`` for which it is not; the others are removed all the same.
    """
    yield from _namespace.remove_all(connect(profile), plan)
