"""Symbolic links at a dCache door: found in listings, and refused where they would do harm.

dCache's name space has symbolic links (made over NFS), which WebDAV does not know. Seen with dCache
11.2.5, for ``/user/link -> /precious``:

- PROPFIND of depth 1 of ``/user`` shows the link as a file: the length of its text, no checksum,
  locality UNAVAILABLE, and an ETag that begins with the link's own pnfsid;
- PROPFIND of depth 0 of the link describes what it leads to;
- DELETE of a link to a directory removes all that is in the link's target, and then answers 500;
  the link stays. DELETE of a link to a file, and MOVE of a link, answer 500, and nothing is lost.

So it takes two descriptions to tell: that in the listing of the directory above, and that of the
path itself. Listings ask for the second where the first may be of a link, see `resolved`; whoever
reads a listing finds `Entry.link` set.
"""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from ctaflows import cancel
from ctaflows.errors import (
    CtaflowsError,
    FileOffline,
    NotFound,
    Refused,
    StorageError,
    UsageError,
    concerns_all,
    error_text,
)
from ctaflows.model import Entry
from ctaflows.thread_pool import run_concurrently

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: Why a symbolic link is kept.
NOT_BY_WEBDAV = "It is a symbolic link, which WebDAV can't safely remove, move or replace"
#: Length of the longest text of a link: PATH_MAX of Linux, whose NFS clients make them.
_MOST_BYTES = 4096
_HINT = "Ask the site, or remove it over NFS."


# -- in listings -----------------------------------------------------------------------------------


def resolved(
    listed: Sequence[Entry],
    describe: Callable[[str], Entry],
    at_once: int,
    stop: threading.Event,
) -> Sequence[Entry]:
    """Return the entries of a listing, with `Entry.link` set for symbolic links.

    A request is made only for what is listed like one: a file whose locality is UNAVAILABLE, which
    has no checksum, and is no longer than the text of a link can be.

    Parameters
    ----------
    listed : sequence of Entry
        Entries as the listing of their directory shows them.
    describe : Callable
        Returns the entry of a path, by a request for that path itself.
    at_once : int
        Greatest number of concurrent requests.
    stop : threading.Event
        Ends the work soon after it is set.

    Returns
    -------
    sequence of Entry
        In the same order. What can't be described by itself has an ``error``.

    Raises
    ------
    AuthError
        The token is not accepted.
    Stopped
        `stop` was set.
    """
    places = [n for n, entry in enumerate(listed) if _may_be_link(entry)]
    if not places:
        return listed

    def one(place: int) -> Entry:
        cancel.raise_if_cancelled(stop)
        return _resolved(listed[place], describe)

    with cancel.scope(stop):
        answers = run_concurrently(one, places, at_once, threading.Event())
    entries = list(listed)
    for place, entry in zip(places, answers, strict=True):
        entries[place] = entry
    return entries


def _may_be_link(listed: Entry) -> bool:
    is_lost = listed.locality == "UNAVAILABLE" and not listed.checksums
    return is_lost and (listed.size_bytes or 0) <= _MOST_BYTES


def _resolved(listed: Entry, describe: Callable[[str], Entry]) -> Entry:
    try:
        itself = describe(listed.path)
    except NotFound:
        return Entry(listed.path, mtime=listed.mtime, etag=listed.etag, link="nothing")
    except CtaflowsError as why:
        if concerns_all(why):
            raise
        return Entry(listed.path, error=f"perhaps a symbolic link, {error_text(why)}")
    if not _is_link(listed, itself):
        return listed
    if itself.is_dir:
        return Entry(listed.path, mtime=itself.mtime, etag=itself.etag, link="directory")
    return replace(itself, path=listed.path, link="file")


def _is_link(listed: Entry, itself: Entry) -> bool:
    """Return whether a listing and the answer for the path itself describe two things."""
    ids = pnfsid(listed), pnfsid(itself)
    return listed.is_dir != itself.is_dir or (None not in ids and ids[0] != ids[1])


def pnfsid(entry: Entry) -> str | None:
    """Return the pnfsid, the id in dCache's name space, of a file or directory.

    It is that of the target where the entry describes a symbolic link's target. None for what is at
    another server: there the ETag does not begin with one.
    """
    found = _PNFSID.match(entry.etag or "")
    return found[1] if found else None


#: The begin of dCache's ETag: a pnfsid, of 36 digits or of 24 in old name spaces, and ``_``.
_PNFSID = re.compile(r'(?:W/)?"([0-9A-Z]{4,36})_')


def words(entry: Entry) -> str:
    """Return what a symbolic link is as a text, such as ``a symbolic link to a directory``."""
    return f"a symbolic link to {'nothing' if entry.link == 'nothing' else f'a {entry.link}'}"


# -- where they would do harm ----------------------------------------------------------------------


def refuse_as_file(entry: Entry) -> None:
    """Raise if an entry is a directory, or a symbolic link that leads to no file.

    Raises
    ------
    UsageError
        It is a directory, or a symbolic link to one.
    NotFound
        It is a symbolic link to nothing.
    """
    if entry.link == "nothing":
        raise NotFound("It is a symbolic link that leads to nothing", where=entry.path)
    if entry.is_dir or entry.link == "directory":
        raise UsageError("That is a directory", where=entry.path)


class Lists(Protocol):
    """What lists directories: any `protocol.Storage`."""

    def list(self, path: str) -> Iterable[Entry]:
        """Return the entries of a directory."""


def refuse_link(
    door: Lists, path: str, *, itself: Entry | None = None, must_be_known: bool = False
) -> None:
    """Raise if what is to be removed, moved or replaced is a symbolic link.

    The directory above is listed, since the answer for the path itself can't tell, unless the entry
    is from such a listing and has a ``link``. It is not where the entry has no pnfsid: at servers
    other than dCache such a listing does not tell.

    What leads to nothing has no answer of its own: who replaces nothing does not ask, and dCache
    12.0.1 replaces such a link by what is moved to its path (seen).

    Parameters
    ----------
    door : Lists
        Where it is.
    path : str
        Normalised path.
    itself : Entry, optional
        As the answer for its path, or the listing above, describes it.
    must_be_known : bool
        Raise, too, where that can't be told, since the directory above can't be listed, or does not
        show or describe it.

    Raises
    ------
    StorageError
        It is a link, or that can't be told.
    """
    link = StorageError(NOT_BY_WEBDAV, where=path, hint=_HINT)
    if itself is not None and itself.link is not None:
        raise link
    if itself is not None and pnfsid(itself) is None and not must_be_known:
        return
    above = path.rpartition("/")[0] or "/"
    said: str | None = "it is not shown"
    try:
        listed = next((entry for entry in door.list(above) if entry.path == path), None)
    except (FileOffline, Refused, StorageError, NotFound) as why:
        listed, said = None, error_text(why)
    if listed is not None:
        said = listed.error
        differs = itself is not None and said is None and _is_link(listed, itself)
        if listed.link is not None or differs:
            raise link
    if must_be_known and said is not None:
        raise StorageError(
            "Whether this is a directory or a symbolic link to one can't be told",
            where=path,
            said=f"listing {above}: {said}",
            hint="Remove what is in it by its own path: nothing is deleted through a link.",
        )
