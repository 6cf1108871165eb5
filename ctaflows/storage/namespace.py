"""Moving files and directories at the door, as `mv` is used to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctaflows.errors import AlreadyExists, CtaflowsError, NetworkError, NotFound, UsageError
from ctaflows.storage import links

if TYPE_CHECKING:
    from ctaflows.model import Entry
    from ctaflows.storage.webdav import Door


def new_path(source: str, target: str, *, into: bool) -> str:
    """Say where a path ends up. Pure.

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
    if path == source:
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


def move(door: Door, source: str, target: str, *, overwrite: bool = False) -> tuple[Entry, str]:
    """Move a file or directory, into the target if that is a directory.

    Parameters
    ----------
    door : Door
        Where they are.
    source, target : str
        As people write paths; a target that ends in ``/`` must be a directory.
    overwrite : bool
        Replace a file that is there.

    Returns
    -------
    Entry, str
        What was moved, and its new path.

    Raises
    ------
    NotFound, AlreadyExists, UsageError
        There is no source, or no such directory; the place is taken; it would go into itself.
    StorageError
        The source is a symbolic link to a directory.
    """
    entry = door.stat(source)
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
    if entry.is_dir:
        links.refuse_linked_directory(door, entry, must_be_listed=False)
    check_target(entry, door.exists(path) if into else there, overwrite=overwrite)
    try:
        door.move(entry.path, path, overwrite=overwrite)
    except NetworkError:
        if not _has_moved(door, entry, path):
            raise
    return entry, path


def _has_moved(door: Door, entry: Entry, path: str) -> bool:
    """Look whether a move was done whose answer was lost; it is never just repeated."""
    try:
        there = door.exists(path)
        return (
            door.exists(entry.path) is None
            and there is not None
            and (there.is_dir, there.size_bytes) == (entry.is_dir, entry.size_bytes)
        )
    except CtaflowsError:
        return False
