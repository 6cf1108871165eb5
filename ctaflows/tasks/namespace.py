"""Operations on the namespace: list, find, stat, disk usage, make, move, remove."""

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
from ctaflows.storage.namespace import unread_entries as unread_entries
from ctaflows.storage.paths import selected as selected
from ctaflows.storage.search import Criteria, Tally, Usage
from ctaflows.storage.walk import unconfirmed as _unconfirmed
from ctaflows.storage.walk import unless_excluded, walk_batches
from ctaflows.tracking.task import task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from ctaflows.model import Entry

#: Directories of at most this many entries are sorted by name in a streamed listing; larger ones
#: keep the server's order, since sorting needs all entries in memory (5 MB for so many).
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
        Sorted by name. A symbolic link has a ``link``, which says what it leads to; one to a file
        has the size, time and checksums of that file. An empty list may also mean that you may not
        read the directory: a dCache door lists such a directory as empty.

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
    follow: bool = False,
    sort_up_to: int = SORT_UP_TO,
    on_empty: Callable[[str], object] | None = None,
    on_link: Callable[[Entry], object] | None = None,
    profile: str | None = None,
) -> Iterator[Sequence[Entry]]:
    """Yield the entries of a directory in batches, as the listing arrives.

    Parameters
    ----------
    path : str
        A remote directory; a file lists itself.
    recursive : bool
        List everything below it too, each directory before its sub-directories.
    follow : bool
        With ``recursive``: list what symbolic links to directories lead to as well, below the path
        of the link. No directory is listed twice, by whatever path it is reached.
    sort_up_to : int
        Directories of at most this many entries are sorted by name, by default 10,000; larger ones
        keep the server's order. With 0 nothing is sorted.
    on_empty : callable, optional
        Called with the path of each directory whose listing is empty: a dCache door lists a
        directory that you may not read as empty, too; see `unconfirmed`.
    on_link : callable, optional
        With ``recursive``: called with the entry of each symbolic link to a directory that is not
        listed, of each that leads to nothing, and of each directory that is listed by another path
        instead.
    profile : str, optional
        Settings to use.

    Yields
    ------
    sequence of Entry
        At least one. A symbolic link has a ``link``. An entry that the storage lists without its
        properties has an ``error``.

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
    yield from walk_batches(
        connect(profile),
        path,
        sort=sort_up_to,
        enter=enter,
        follow=follow,
        on_empty=on_empty,
        on_link=on_link,
    )


def unconfirmed(
    paths: Sequence[str], *, profile: str | None = None
) -> dict[str, CtaflowsError | None]:
    """Return those of some directories with empty listings that may hold something after all.

    Parameters
    ----------
    paths : sequence of str
        Directories that were given to ``on_empty`` of `iter_dir`, `iter_find` or `disk_usage`. A
        request is sent for each.
    profile : str, optional
        Settings to use.

    Returns
    -------
    dict
        Path to the reason why the directory can't be read; None where the storage does not tell,
        or where nothing is at the path any more.
    """
    return _unconfirmed(connect(profile), paths)


def absolute(path: str, *, profile: str | None = None) -> str:
    """Return a remote path, or a URL at the storage, as entries and ``on_empty`` have it."""
    return connect(profile).normalise(path)


@task(name="find", tags=["ctaflows"])
def find(
    path: str,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    names: Sequence[str] = (),
    kind: Literal["file", "directory", "link"] | None = "file",
    newer_than: datetime | None = None,
    older_than: datetime | None = None,
    min_size_bytes: int | None = None,
    max_size_bytes: int | None = None,
    follow: bool = False,
    on_link: Callable[[Entry], object] | None = None,
    profile: str | None = None,
) -> list[Entry]:
    """Return the files below a directory that meet all conditions.

    Parameters
    ----------
    path : str
        The remote directory to search.
    include, exclude : sequence of str
        Shell patterns such as ``*.h5`` or ``datacheck``, matched against the path below ``path``,
        the file's name, and each directory's name. Excluded directories are not listed.
    names : sequence of str
        Shell patterns, one of which must match the name itself; by default all names do.
    kind : {"file", "directory", "link"} or None
        ``file`` finds files, and symbolic links to files, which can be read like them;
        ``directory`` directories; ``link`` symbolic links to anything. None finds all.
    newer_than, older_than : datetime, optional
        Bounds of the last modification, aware, exclusive. An entry without a time matches neither.
    min_size_bytes, max_size_bytes : int, optional
        Bounds of the size in bytes, inclusive. An entry without a size, such as a directory,
        matches neither.
    follow : bool
        Search what symbolic links to directories lead to as well, below the path of the link. No
        directory is searched twice, by whatever path it is reached.
    on_link : callable, optional
        Called with the entry of each symbolic link to a directory that is not searched, of each
        that leads to nothing, and of each directory that is searched by another path instead,
        unless it is excluded.
    profile : str, optional
        Settings to use.

    Returns
    -------
    list of Entry
        With size, time and the storage's checksums, sorted by name within each directory. An entry
        that the storage lists without its properties has an ``error``; it is returned unless it is
        excluded, since it may meet the conditions, or be a directory with files that do.

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
        follow=follow,
        sort_up_to=sys.maxsize,
        on_link=on_link,
        profile=profile,
    )
    return [entry for batch in batches for entry in batch]


def iter_find(
    path: str,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    names: Sequence[str] = (),
    kind: Literal["file", "directory", "link"] | None = "file",
    newer_than: datetime | None = None,
    older_than: datetime | None = None,
    min_size_bytes: int | None = None,
    max_size_bytes: int | None = None,
    follow: bool = False,
    sort_up_to: int = SORT_UP_TO,
    on_empty: Callable[[str], object] | None = None,
    on_link: Callable[[Entry], object] | None = None,
    profile: str | None = None,
) -> Iterator[Sequence[Entry]]:
    """Yield the entries that `find` returns in batches, as the listings arrive.

    Parameters
    ----------
    path, include, exclude, names, kind, newer_than, older_than, min_size_bytes, max_size_bytes, \
    follow, on_link
        As for `find`.
    sort_up_to, on_empty, profile
        As for `iter_dir`.

    Yields
    ------
    sequence of Entry
        At least one.
    """
    criteria = Criteria(
        tuple(names),
        tuple(include),
        tuple(exclude),
        kind,
        newer_than,
        older_than,
        min_size_bytes,
        max_size_bytes,
    )
    door = connect(profile)
    base = door.normalise(path).rstrip("/") + "/"
    batches = walk_batches(
        door,
        path,
        sort=sort_up_to,
        enter=unless_excluded(exclude),
        follow=follow,
        on_empty=on_empty,
        on_link=on_link,
    )
    for batch in batches:
        if found := [e for e in batch if criteria.accept(e, e.path.removeprefix(base))]:
            yield found


@task(name="stat", tags=["ctaflows"])
def stat(path: str, *, checksums: bool = True, profile: str | None = None) -> Entry:
    """Return the properties of a file or directory: size, time, checksums, locality.

    Parameters
    ----------
    path : str
        A remote path.
    checksums : bool
        Send a further request where a file's properties have no checksum: some servers, such as
        XRootD 5.5, report it only in the response to HEAD.
    profile : str, optional
        Settings to use.

    Returns
    -------
    Entry
        ``locality`` tells whether dCache has the file on disk (``ONLINE``) or on tape
        (``NEARLINE``).

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
    follow: bool = False,
    on_empty: Callable[[str], object] | None = None,
    on_link: Callable[[Entry], object] | None = None,
    on_undescribed: Callable[[Entry], object] | None = None,
    profile: str | None = None,
) -> list[Usage]:
    """Return the number of files and their total size below each directory.

    Parameters
    ----------
    path : str
        A remote directory.
    depth : int, optional
        Levels of sub-directories with totals of their own; 0 returns the total of ``path`` only.
        By default all levels have.
    follow : bool
        Count what symbolic links to directories lead to as well. No directory is counted twice, by
        whatever path it is reached. A link to a file always counts as that file.
    on_empty, on_link : callable, optional
        As for `iter_dir`.
    on_undescribed : callable, optional
        Called with each entry that the storage lists without its properties, which may be a
        directory. By default such entries raise `PartialFailure`.
    profile : str, optional
        Settings to use.

    Returns
    -------
    list of Usage
        Each directory after its sub-directories, ``path`` itself last; sizes in bytes. A directory
        that you may not read counts as empty, since a dCache door lists it as empty; see
        `unconfirmed`.

    Raises
    ------
    NotFound
        There is nothing at the path.
    PartialFailure
        The storage lists some entries without their properties; its ``report`` has these.
    """
    door = connect(profile)
    tally = Tally(door.normalise(path), depth)
    unseen: list[Entry] = []
    for batch in walk_batches(door, path, follow=follow, on_empty=on_empty, on_link=on_link):
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
        Make missing parents too, and accept a directory that exists already.
    profile : str, optional
        Settings to use.

    Returns
    -------
    str
        The absolute path of the directory.

    Raises
    ------
    AlreadyExists
        Something is at that path; with ``parents``, a file.
    NotFound
        The parent directory does not exist.
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
        The file or directory to move; an Entry saves a request.
    target : str
        Its new path, or a directory to move it into; a path that ends in ``/`` must be an existing
        directory.
    overwrite : bool
        Replace a file at the new path. Directories are never replaced.
    profile : str, optional
        Settings to use.

    Returns
    -------
    str
        The new absolute path.

    Raises
    ------
    NotFound
        The source or the target directory does not exist.
    AlreadyExists
        Something is at the new path.
    UsageError
        The target is the source itself or below it, or the source is the root.
    StorageError
        The source, or what would be replaced, is a symbolic link.
    """
    door = connect(profile)
    entry = door.stat(source) if isinstance(source, str) else source
    return _namespace.move(door, entry, target, overwrite=overwrite)


def plan_removal(
    paths: Sequence[str], *, missing_ok: bool = False, profile: str | None = None
) -> RemovalPlan:
    """Return the plan of a removal: all files and directories below the paths; nothing is removed.

    Parameters
    ----------
    paths : sequence of str
        Remote paths, never the root.
    missing_ok : bool
        Ignore paths that do not exist.
    profile : str, optional
        Settings to use.

    Returns
    -------
    RemovalPlan
        For `remove`. What can't be removed is in ``kept``, with the reason: symbolic links,
        directories that may lie behind one (see `remove`) or can't be read, entries that the
        storage lists without their properties, and, of several paths, those that could not be
        looked up.

    Raises
    ------
    UsageError
        The root is among the paths.
    CtaflowsError
        The only path could not be looked up.
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
    """Remove a file, or with ``recursive`` a directory with everything below it.

    There is no confirmation: to look first, make a plan with `plan_removal`, and pass that. Only
    what was listed is removed: a directory to which files are added meanwhile, or that can't be
    read, stays, and is reported as failed.

    At a dCache door symbolic links stay. StoRM lists a link to a directory as a directory; there,
    one with files below it stays if none of them can be read, see
    `ctaflows.storage.namespace.keep_behind_links`. nginx, Apache and XRootD follow links, and
    nothing tells: what a link to a directory leads to is removed with the tree.

    Parameters
    ----------
    path : str or RemovalPlan
        A remote path, never the root; or a plan, of which all files and directories are removed.
    recursive : bool
        Allow a directory. A plan needs no such permission.
    missing_ok : bool
        Do not raise `NotFound` for a path that does not exist.
    dry_run : bool
        Remove nothing, and return what would be removed.
    profile : str, optional
        Settings to use.

    Returns
    -------
    list of PathResult
        One for each file and directory that was removed. With ``dry_run`` also those that can't
        be, with an ``error``.

    Raises
    ------
    UsageError
        The path is the root, or a directory without ``recursive``.
    NotFound
        There is nothing at the path.
    PartialFailure
        Some files or directories could not be removed; its ``report`` has these. The others are
        removed.
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
    """Remove the files and directories of a plan, and yield the results in batches.

    Parameters
    ----------
    plan : RemovalPlan
        From `plan_removal`.
    profile : str, optional
        Settings to use.

    Yields
    ------
    sequence of PathResult
        The result for each file and directory: it is removed, unless ``error`` says why not. A
        failure does not end the removal of the others.
    """
    yield from _namespace.remove_all(connect(profile), plan)
