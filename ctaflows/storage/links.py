"""Symbolic links at a dCache door: how they are told from files, and kept from being removed.

dCache's name space has symbolic links (made over NFS), which WebDAV does not know. Seen with dCache
11.2.5, for ``/user/link -> /precious``:

- PROPFIND of depth 1 of ``/user`` shows the link as a file: the length of its text, no checksum,
  locality UNAVAILABLE, and an ETag that begins with the link's own pnfsid;
- PROPFIND of depth 0 of the link describes what it leads to;
- DELETE of a link to a directory removes all that is in the link's target, and then answers 500;
  the link stays. DELETE of a link to a file, and MOVE of a link, answer 500, and nothing is lost.

So what may be a link is asked for by itself before it is removed, replaced or moved.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ctaflows.errors import ListingUnreadable, NotFound, Refused, StorageError, error_text

if TYPE_CHECKING:
    from ctaflows.model import Entry
    from ctaflows.storage.webdav import WebDAVStorage


def may_be_link(listed: Entry) -> bool:
    """Tell whether what a listing shows as a file may be a symbolic link."""
    return not listed.is_dir and listed.locality == "UNAVAILABLE" and not listed.checksums


def may_hide_files(listed: Entry) -> bool:
    """Tell whether there may be files below an entry that no listing of a tree shows."""
    return listed.error is not None or may_be_link(listed)


def is_link(listed: Entry, itself: Entry) -> bool:
    """Tell whether a directory's listing and the answer for the path itself are of two things."""
    if listed.is_dir != itself.is_dir:
        return True
    ids = _pnfsid(listed), _pnfsid(itself)
    return listed.locality is not None and None not in ids and ids[0] != ids[1]


def refuse_link(door: WebDAVStorage, listed: Entry) -> None:
    """Raise if what a listing shows is a symbolic link; costs one request for what may be one.

    Parameters
    ----------
    door : WebDAVStorage
        Where it is.
    listed : Entry
        As the listing of its directory shows it.

    Raises
    ------
    StorageError
        It is a link, or so it seems: what is listed is not found by its path.
    """
    if not may_be_link(listed):
        return
    try:
        itself = door.stat(listed.path)
    except NotFound:  # a link to what is not there
        raise _refusal(listed.path) from None
    if is_link(listed, itself):
        raise _refusal(listed.path)


def refuse_listed_link(door: WebDAVStorage, path: str) -> None:
    """Raise if the directory above shows a path as a symbolic link; costs a listing of it.

    Parameters
    ----------
    door : WebDAVStorage
        Where it is.
    path : str
        Normalised path.

    Raises
    ------
    StorageError
        It is a link.
    """
    with contextlib.suppress(Refused, NotFound, ListingUnreadable):
        for entry in door.list(path.rpartition("/")[0] or "/"):
            if entry.path == path:
                refuse_link(door, entry)


def refuse_linked_directory(door: WebDAVStorage, directory: Entry, *, must_be_listed: bool) -> None:
    """Raise if a directory that was asked for by its path is a symbolic link to one.

    Only the listing of the directory above tells.

    Parameters
    ----------
    door : WebDAVStorage
        Where it is.
    directory : Entry
        As the answer for its path describes it.
    must_be_listed : bool
        Raise, too, where the directory above can't be listed, or does not show it.

    Raises
    ------
    StorageError
        It is a link, or that can't be told.
    """
    said = "it is not shown"
    try:
        listed = next((e for e in door.list(directory.parent) if e.path == directory.path), None)
    except (Refused, StorageError) as why:
        listed, said = None, error_text(why)
    if listed is not None and listed.error is None:
        if is_link(listed, directory):
            raise _refusal(directory.path)
    elif must_be_listed:
        raise StorageError(
            "Whether this is a directory or a symbolic link to one can't be told",
            where=directory.path,
            said=f"listing {directory.parent}: {listed.error if listed else said}",
            hint="Remove what is in it by its own path: nothing is deleted through a link.",
        )


def _refusal(path: str) -> StorageError:
    return StorageError(
        "It is a symbolic link, which WebDAV can't remove, move or replace",
        where=path,
        hint="Ask the site, or remove it over NFS.",
    )


def _pnfsid(entry: Entry) -> str | None:
    """Give the file's id in dCache's name space: the part of its ETag before the ``_``."""
    tag = (entry.etag or "").removeprefix("W/").strip('"')
    return tag.partition("_")[0] if "_" in tag else None
