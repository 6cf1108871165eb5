"""Tasks on the name space: what is there, and where."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ctaflows.errors import NotFound, UsageError
from ctaflows.storage import namespace as _namespace
from ctaflows.storage.connect import connect
from ctaflows.storage.namespace import RemovalResult, failure, undescribed, undescribed_failure
from ctaflows.storage.search import Tally, Usage
from ctaflows.storage.walk import files_below, walk_batches
from ctaflows.tracking.task import task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctaflows.model import Entry


@task(name="list-dir", tags=["ctaflows"])
def list_dir(path: str, *, profile: str | None = None) -> list[Entry]:
    """List a directory.

    Parameters
    ----------
    path : str
        A directory at the door; a file lists itself.
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


@task(name="find", tags=["ctaflows"])
def find(
    path: str,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    profile: str | None = None,
) -> list[Entry]:
    """Find files below a directory.

    Parameters
    ----------
    path : str
        Where to begin.
    include, exclude : sequence of str
        Shell patterns such as ``*.h5`` or ``datacheck``, matched against the path below ``path``,
        the file's name, and each directory's name.
    profile : str, optional
        Settings to use.

    Returns
    -------
    list of Entry
        Files only, each with size, time and the storage's checksums.
    """
    return list(files_below(connect(profile), path, include, exclude))


@task(name="stat", tags=["ctaflows"])
def stat(path: str, *, profile: str | None = None) -> Entry:
    """Describe one file or directory: size, time, checksums, whether it is on disk.

    Parameters
    ----------
    path : str
        A path at the door.
    profile : str, optional
        Settings to use.

    Raises
    ------
    NotFound
        There is nothing at the path.
    """
    door = connect(profile)
    entry = door.stat(path)
    if not entry.is_dir and not entry.checksums:
        entry = replace(entry, checksums=door.checksums(path))
    return entry


@task(name="disk-usage", tags=["ctaflows"])
def disk_usage(path: str, *, depth: int | None = None, profile: str | None = None) -> list[Usage]:
    """Tell how many bytes and files are below each directory.

    Parameters
    ----------
    path : str
        Where to begin.
    depth : int, optional
        Levels of sub-directories that are told apart; 0 gives the total alone, None all.
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
        The door names what it can't describe, perhaps directories; ``report`` tells what.
    """
    door = connect(profile)
    tally = Tally(door.normalise(path), depth)
    unseen: list[RemovalResult] = []
    for batch in walk_batches(door, path):
        tally.add(batch)
        unseen += undescribed(batch)
    if unseen:
        raise undescribed_failure(unseen)
    return tally.usages()


@task(name="make-dir", tags=["ctaflows"])
def make_dir(path: str, *, parents: bool = False, profile: str | None = None) -> str:
    """Make a directory.

    Parameters
    ----------
    path : str
        A path at the door.
    parents : bool
        Make missing parents too; a directory that is there already is then no error.
    profile : str, optional
        Settings to use.

    Returns
    -------
    str
        The directory's path from the door's root.

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
def move(source: str, target: str, *, overwrite: bool = False, profile: str | None = None) -> str:
    """Move or rename a file or directory.

    Parameters
    ----------
    source : str
        What to move.
    target : str
        Its new path, or a directory to move it into; one that ends in ``/`` must be there.
    overwrite : bool
        Replace a file that is there. Directories are never replaced.
    profile : str, optional
        Settings to use.

    Returns
    -------
    str
        The new path from the door's root.

    Raises
    ------
    NotFound, AlreadyExists
        There is no source or no such directory; the place is taken.
    UsageError
        A directory would be moved into itself.
    """
    return _namespace.move(connect(profile), source, target, overwrite=overwrite)[1]


@task(name="remove", tags=["ctaflows"])
def remove(
    path: str, *, recursive: bool = False, missing_ok: bool = False, profile: str | None = None
) -> list[RemovalResult]:
    """Remove a file, or with ``recursive`` a directory with all that is below it now.

    Nobody is asked. Only what a listing shows is removed: a directory into which something comes
    meanwhile stays, and is told as failed.

    Parameters
    ----------
    path : str
        A path at the door, never its root.
    recursive : bool
        Is a directory meant?
    missing_ok : bool
        Is it right if nothing is there?
    profile : str, optional
        Settings to use.

    Returns
    -------
    list of RemovalResult
        One for each file and directory that is gone.

    Raises
    ------
    UsageError
        The root, or a directory without ``recursive``.
    NotFound
        There is nothing at the path.
    PartialFailure
        Some of it is still there; ``report`` tells what. The rest is gone.
    """
    door = connect(profile)
    entry = door.exists(path)
    if entry is None:
        if missing_ok:
            return []
        raise NotFound("There is nothing at this path", where=door.normalise(path))
    if entry.is_dir and not recursive:
        raise UsageError("That is a directory", where=entry.path, hint="Say recursive=True.")
    doomed = _namespace.plan_removal(door, [entry])
    outcomes = [o for batch in _namespace.remove_all(door, doomed) for o in batch]
    if failed := [o for o in outcomes if not o.ok]:
        raise failure(failed, len(outcomes), "removed")
    return outcomes
