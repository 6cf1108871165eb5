"""The kind of a listing's entry: a file, a directory, a symbolic link, or unknown.

Unknown is not absent: what can't be seen is there, and nothing may be deleted, replaced or called
complete because of it.

dCache's name space has symbolic links (made over NFS), which WebDAV does not know. Seen with dCache
11.2.5, for ``/user/link -> /precious``:

- PROPFIND of depth 1 of ``/user`` shows the link as a file: the length of its text, no checksum,
  locality UNAVAILABLE, and an ETag that begins with the link's own pnfsid;
- PROPFIND of depth 0 of the link describes what it leads to;
- DELETE of a link to a directory removes all that is in the link's target, and then answers 500;
  the link stays. DELETE of a link to a file, and MOVE of a link, answer 500, and nothing is lost.

So it takes two descriptions to tell: that in the listing of the directory above, and that of the
path itself.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from ctaflows.errors import NotFound, Refused, StorageError, error_text

if TYPE_CHECKING:
    from ctaflows.model import Entry
    from ctaflows.storage.protocol import Storage


class Kind(enum.Enum):
    """Kind of an entry. All exist: there is no entry for what is absent."""

    FILE = enum.auto()
    DIRECTORY = enum.auto()
    LINK = enum.auto()
    #: Not described (RFC 4918 §14.24), or perhaps a link: there may be files below it.
    UNKNOWN = enum.auto()


def kind_of(listed: Entry) -> Kind:
    """Return what an entry is, as far as the listing of its directory alone tells."""
    if listed.error is not None:
        return Kind.UNKNOWN
    if listed.is_dir:
        return Kind.DIRECTORY
    may_be_link = listed.locality == "UNAVAILABLE" and not listed.checksums
    return Kind.UNKNOWN if may_be_link else Kind.FILE


def kind_of_both(listed: Entry | None, itself: Entry | None) -> Kind:
    """Return what an entry is, by both its descriptions.

    Parameters
    ----------
    listed : Entry or None
        As the listing of its directory shows it; None where that does not show it, or can't be had.
    itself : Entry or None
        As the answer for its path describes it; None where there is nothing.
    """
    if listed is None or listed.error is not None:
        return Kind.UNKNOWN
    if itself is None or listed.is_dir != itself.is_dir:
        return Kind.LINK
    ids = _pnfsid(listed), _pnfsid(itself)
    if listed.locality is not None and None not in ids and ids[0] != ids[1]:
        return Kind.LINK
    return Kind.DIRECTORY if itself.is_dir else Kind.FILE


def refuse_link(
    door: Storage,
    path: str,
    *,
    listed: Entry | None = None,
    itself: Entry | None = None,
    must_be_known: bool = False,
) -> None:
    """Raise if what is to be removed, moved or replaced is a symbolic link.

    Parameters
    ----------
    door : Storage
        Where it is.
    path : str
        Normalised path.
    listed : Entry, optional
        As the listing of its directory shows it. Left out, that is listed. Given, a request is made
        only for what may be a link.
    itself : Entry, optional
        As the answer for its path describes it.
    must_be_known : bool
        Raise, too, where that can't be told, since the directory above can't be listed, or does not
        show or describe it.

    Raises
    ------
    StorageError
        It is a link, or that can't be told.
    """
    said = "it is not shown"
    if listed is None:
        try:
            above = door.list(path.rpartition("/")[0] or "/")
            listed = next((entry for entry in above if entry.path == path), None)
        except (Refused, StorageError, NotFound) as why:
            said = error_text(why)
    if listed is not None and listed.error is not None:
        said = listed.error
    kind = Kind.UNKNOWN if listed is None else kind_of(listed)
    if listed is not None and listed.error is None and (itself or kind is Kind.UNKNOWN):
        kind = kind_of_both(listed, itself or door.exists(path))
    if kind is Kind.LINK:
        raise StorageError(
            "It is a symbolic link, which WebDAV can't remove, move or replace",
            where=path,
            hint="Ask the site, or remove it over NFS.",
        )
    if kind is Kind.UNKNOWN and must_be_known:
        raise StorageError(
            "Whether this is a directory or a symbolic link to one can't be told",
            where=path,
            said=f"listing {path.rpartition('/')[0] or '/'}: {said}",
            hint="Remove what is in it by its own path: nothing is deleted through a link.",
        )


def _pnfsid(entry: Entry) -> str | None:
    """Return the pnfsid, the id in dCache's name space: the part of the ETag before the ``_``."""
    tag = (entry.etag or "").removeprefix("W/").strip('"')
    return tag.partition("_")[0] if "_" in tag else None
