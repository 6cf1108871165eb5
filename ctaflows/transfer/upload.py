"""The journey of a file from here to a storage: one story for every size.

A file goes up under a temporary name in the same directory, is compared there, and only then moved
to its own name. Nothing that changes the storage is repeated blindly.

Why not to the name itself: a PUT over a file deletes the old one first (Transfer.java, dCache
12.1), and one that breaks off, or whose checksum is wrong, leaves an entry that looks like a file:
a size, ONLINE, and the checksum of the part, or the one that the client has stated (seen with
dCache 11.2.5; #6455).
"""

from __future__ import annotations

import logging
import os
import stat
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

from ctaflows.atomic_files import local_error, local_errors
from ctaflows.errors import (
    AlreadyExists,
    ChecksumMismatch,
    CtaflowsError,
    IntegrityError,
    NetworkError,
    NoSpace,
    NotFound,
    ProtocolSurprise,
    Refused,
    SizeMismatch,
    SourceChanged,
    Stopped,
    StorageError,
    UsageError,
    concerns_all,
)
from ctaflows.model import Checksum, Entry, Transfer
from ctaflows.retry import Retries
from ctaflows.storage import checksum as sums
from ctaflows.storage import links
from ctaflows.transfer import progress
from ctaflows.transport.messages import had_no_effect
from ctaflows.transport.wishes import Call, Pause

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ctaflows.storage.answers import Written
    from ctaflows.storage.protocol import Storage
    from ctaflows.transfer.upload_journal import Journal
    from ctaflows.transport.wishes import Journey


#: Stands for an entry that was not looked at.
LOOK = Entry("", error="not looked at")


log = logging.getLogger("ctaflows.transfer")

#: dCache may know the checksum only some seconds after a PUT (dCache #7467, #7500; 9.2).
_CHECKSUM_TRIES = 5
#: What comes of a request that was given up is mostly there so soon, seconds.
_ARRIVES_S = 0.3
_IN_PLACE = "it is there already"
_SAME_SIZE = f"{_IN_PLACE}, of the same size and no older; the storage gave no checksum of it"
_UNVERIFIED = "the storage gave no checksum of what arrived, only its size"


class Pools:
    """What the uploads of one call know of the pools behind a storage.

    A dCache pool that is almost full takes an upload and then no byte of it; each one takes one of
    its threads, until nobody can read from it (seen with 11.2.5).

    Attributes
    ----------
    hang : NoSpace or None
        The error of an upload of which no byte was taken. As long as it is here no further upload
        is begun.
    """

    def __init__(self) -> None:
        self.hang: NoSpace | None = None


def upload(
    door: Storage,
    journal: Journal,
    local: str,
    remote: str,
    *,
    overwrite: bool = False,
    there: Entry | None = LOOK,
    pools: Pools | None = None,
) -> Journey[Transfer]:
    """Upload one file, unless the same is there.

    Parameters
    ----------
    door : Storage
        Where to.
    journal : Journal
        Gives the temporary names.
    local : str
        A regular file.
    remote : str
        Final path; one that ends in ``/`` is completed with the file's name. Parents are made.
    overwrite : bool
        Replace a file that is there and differs. A storage that can't rename always does, so that
        it takes no upload without.
    there : Entry or None, optional
        What a listing says of the target; left out, it is looked at.
    pools : Pools, optional
        Shared by the uploads of one call.

    Returns
    -------
    Transfer
        The record; ``skipped`` if the same file is there already.

    Raises
    ------
    AlreadyExists
        Another file is there, and ``overwrite`` is off; or a directory is.
    IntegrityError
        What arrived is not what was sent, or the file changed here meanwhile. Nothing is left
        behind, unless the storage can't rename.
    """
    started = time.monotonic()
    target = door.normalise(remote + Path(local).name if remote.endswith("/") else remote)
    if not door.can_rename and not overwrite:
        raise UsageError(
            f"The {door.title} replaces what is there, and can't be asked before",
            where=target,
            hint="Use --overwrite, or overwrite=True, if that is meant.",
        )
    with LocalSource(local, started) as source:
        if not door.can_rename:
            return (yield from _upload_in_place(door, source, target))
        is_listed = there is None or there.error is None
        entry = there if is_listed else (yield from _found(door, target))
        if entry is not None:
            done = yield from _standing(door, source, entry, is_listed, overwrite=overwrite)
            if done is not None:
                return done
        story = _Story(door, journal, source, target, pools or Pools(), overwrite, entry is None)
        return (yield from story.told())


def _standing(
    door: Storage, source: LocalSource, there: Entry, is_listed: bool, *, overwrite: bool
) -> Journey[Transfer | None]:
    """Look at what is there: the same file is in place, another one is replaced or refused.

    Returns
    -------
    Transfer or None
        The record of the file if it is in place; None where it is to be replaced.
    """
    target = there.path
    if there.kind == "link":
        yield Call(partial(links.refuse_link, door, target, itself=there))
    if there.is_dir:
        raise AlreadyExists(
            "There is a directory of that name",
            where=target,
            hint=f"To upload into it, write {target}/ with a slash at the end.",
        )
    same = yield from _same(door, source, there, overwrite=overwrite)
    if same is not None:
        return same
    if not overwrite:
        raise AlreadyExists(
            "Another file is there", where=target, hint="Use --overwrite to replace it."
        )
    if there.link is not None or not is_listed:
        yield Call(partial(links.refuse_link, door, target, itself=there))
    return None


def _same(
    door: Storage, source: LocalSource, there: Entry, *, overwrite: bool
) -> Journey[Transfer | None]:
    """Return the record of the file there if it is this one, else None.

    Where the storage has no checksums, a file of this one's size that was not modified before it
    counts as it, unverified; with `overwrite` it is replaced.
    """
    if there.same_content_as(Entry(there.path, size_bytes=source.size_bytes)) is False:
        return None
    known = sums.best(there.checksums)
    if known is None:  # XRootD 5.5 tells checksums to HEAD alone
        _, found = yield from door.measuring(there.path, Retries(door.settings))
        known = sums.best(found)
    if known is not None:
        ours = yield from source.hashed(known.algorithm)
        return source.in_place(there.path, ours) if ours == known else None
    is_older = there.mtime is None or there.mtime.timestamp() < source.mtime_s
    is_this_one = there.size_bytes is not None and not is_older and not overwrite
    return source.in_place(there.path, None) if is_this_one else None


def _found(door: Storage, path: str) -> Journey[Entry | None]:
    """Return the entry of what is at a path; None where there is nothing."""
    try:
        return (yield from door.describing(path, Retries(door.settings)))
    except NotFound:
        return None


def _at(door: Storage, path: str) -> Journey[Entry | None]:
    """Return what HEAD says of a file; None where there is nothing."""
    try:
        size_bytes, checksums = yield from door.measuring(path, Retries(door.settings))
    except NotFound:
        return None
    return Entry(path, size_bytes=size_bytes, checksums=checksums)


class _Story:
    """The upload of a file that is not there, or is to be replaced.

    Parameters
    ----------
    door, journal, pools, overwrite
        As for `upload`.
    source : LocalSource
        The file.
    target : str
        Its normalised path there.
    is_new : bool
        Is nothing there?
    """

    __slots__ = (
        "_again", "_checksum", "_door", "_is_new", "_journal", "_overwrite", "_source", "_target",
        "_verified", "_written",
    )  # fmt: skip

    def __init__(
        self,
        door: Storage,
        journal: Journal,
        source: LocalSource,
        target: str,
        pools: Pools,
        overwrite: bool,
        is_new: bool,
    ) -> None:
        self._door, self._journal, self._source, self._target = door, journal, source, target
        self._overwrite, self._is_new = overwrite, is_new
        self._again = _Again(door, pools)
        self._written: Written
        self._checksum: Checksum
        self._verified = False

    def told(self) -> Journey[Transfer]:
        """Send, compare, name; return the record."""
        try:
            temporary = yield from self._arrived()
            if temporary is not None:
                why = yield from self._named(temporary)
                if why is None:
                    yield from _check_name(self._door, self._source, self._target)
                    return self._record()
                if not self._is_new:
                    raise why
                log.warning("%s; uploading it straight to its name", why)
                self._door.may_rename = False
            yield from self._straight()
        except AlreadyExists:  # another upload was quicker
            there = yield from _found(self._door, self._target)
            if there is None or there.is_dir:
                raise
            same = yield from _same(self._door, self._source, there, overwrite=False)
            if same is None:
                raise
            return same
        return self._record()

    def _arrived(self) -> Journey[str | None]:
        """Bring the bytes there, and compare them, under a temporary name.

        Returns
        -------
        str or None
            The temporary path; None where the token may not rename what it uploads.
        """
        door, source, journal = self._door, self._source, self._journal
        while True:
            temporary = journal.begin(self._target)
            try:
                if self._is_new and not (yield from door.renaming(temporary)):
                    journal.end(temporary)
                    return None
                self._written = written = yield from door.putting(
                    temporary, source.body(), mtime=source.mtime_s
                )
                source.refuse_change()
                compared = yield from _compared(door, source, temporary, written)
                self._checksum, self._verified = compared
                self._again.succeeded()
            except Exception as why:  # noqa: BLE001  raised where there is no further try
                self._again.noticed(why)
                yield from _removed(door, journal, temporary, why)
                if isinstance(why, Refused) and self._is_new and door.may_rename is False:
                    return None
                yield from self._again.after(why, temporary)
            else:
                return temporary

    def _named(self, temporary: str) -> Journey[Refused | None]:
        """Give the file its name, else remove it; return why it may not have it, None if it has."""
        try:
            yield from _moved(
                self._door, self._ours(temporary), self._target, overwrite=self._overwrite
            )
        except Exception as why:
            is_removed = yield from _removed(self._door, self._journal, temporary, why)
            if not is_removed and isinstance(why, Stopped):
                # the move on its way was given up: it may have been done
                there = yield from _at(self._door, self._target)
                ours = self._ours(self._target)
                if there is not None and there.same_content_as(ours, size_suffices=True):
                    self._journal.end(temporary)
                    return None
            if isinstance(why, Refused) and not concerns_all(why):
                return why
            raise
        self._journal.end(temporary)
        return None

    def _straight(self) -> Journey[None]:
        """Write the file under its own name, where nothing stands; compare what arrived.

        Who reads meanwhile sees a part of it: it is for tokens alone that may not rename.
        """
        door, source, target = self._door, self._source, self._target
        while True:
            try:
                self._written = yield from door.putting(
                    target, source.body(), mtime=source.mtime_s, only_new=True
                )
                break
            except Stopped:
                # nor would it be known whose a file is that is there now
                log.warning("Stopped: a part of the file may be left at the door, at %s", target)
                raise
            except (NotFound, NetworkError, StorageError) as why:
                self._again.noticed(why)
                there = yield from _at(door, target)
                if there is not None:  # of ours, or of another upload: nobody can tell
                    why.hint = "There is a file of that name now, perhaps a part of this one."
                    raise
                yield from self._again.after(why, target)
        try:
            source.refuse_change()
            compared = yield from _compared(door, source, target, self._written)
            self._checksum, self._verified = compared
        except IntegrityError:
            try:
                yield from door.deleting(target)
            except CtaflowsError as why:
                log.warning("A file that is not whole may be left at the door: %s", why)
            raise

    def _ours(self, path: str) -> Entry:
        return Entry(path, size_bytes=self._source.size_bytes, checksums=(self._checksum,))

    def _record(self) -> Transfer:
        source, keeps_time = self._source, self._written.keeps_time
        return source.record(
            self._target,
            self._checksum,
            verified=self._verified,
            retries=self._again.n,
            server=self._written.server,
            note=None if self._verified else _UNVERIFIED,
            moved_bytes=source.size_bytes,
            mtime=datetime.fromtimestamp(source.mtime_s, UTC) if keeps_time else None,
        )


# -- once more -------------------------------------------------------------------------------------


class _Again:
    """Decides whether an upload that failed is tried again.

    Parameters
    ----------
    door, pools
        As for `_Story`.

    Attributes
    ----------
    n : int
        How often it was.
    """

    __slots__ = ("_door", "_had", "_hangs", "_pools", "_retries", "n")

    def __init__(self, door: Storage, pools: Pools) -> None:
        self._door, self._pools = door, pools
        self._retries: Retries | None = None
        self._had: list[str] = []
        self._hangs = False
        self.n = 0

    def noticed(self, why: Exception) -> None:
        """Let no others begin if a pool lets this one hang."""
        if isinstance(why, NoSpace) and why.status is None and self._pools.hang is None:
            self._pools.hang, self._hangs = why, True

    def succeeded(self) -> None:
        """Let others begin if it was this one that a pool let hang."""
        if self._hangs:
            self._pools.hang, self._hangs = None, False

    def after(self, why: Exception, path: str) -> Journey[None]:
        """Wait before the next try, or raise the error.

        Parameters
        ----------
        why : Exception
            The error.
        path : str
            Where the file was written to.
        """
        if not isinstance(why, CtaflowsError) or concerns_all(why):
            raise why
        is_first, self.n = self.n == 0, self.n + 1
        if isinstance(why, SizeMismatch | ChecksumMismatch):
            pause_s = self._once("mismatch", why)
        elif self._hangs and isinstance(why, NoSpace):
            pause_s = self._once("hang", why)
        elif (
            is_first and why.status in (404, 409, 500) and (yield from self._has_parents(why, path))
        ):
            return
        elif had_no_effect(why) and self._door.session.is_home(why.where or ""):
            raise why  # it was tried again
        else:
            self._retries = self._retries or Retries(self._door.settings)
            pause_s = self._retries.pause_or_raise(why)
        self._door.session.warn(why, pause_s)
        yield Pause(pause_s)

    def _once(self, reason: str, why: CtaflowsError) -> float:
        """Return the pause before a second try, seconds; raise the error where that failed, too."""
        if reason in self._had or self._door.settings.attempts == 1:
            raise why
        self._had.append(reason)
        return self._door.settings.backoff_s

    def _has_parents(self, why: CtaflowsError, path: str) -> Journey[bool]:
        """Make the directories above, if they may be why it failed; return whether they were."""
        # nginx 1.22, Apache 2.4, XRootD 5.5 and dCache 11.2.5 tell a file above by 409 or 500
        if why.status in (404, 409, 500):
            yield from _refuse_file_above(self._door, path)
        # servers other than dCache make no parents; Apache 2.4 answers 409
        if why.status not in (404, 409):
            return False
        above = path.rpartition("/")[0] or "/"
        yield from self._door.making(above, parents=True, exist_ok=True)
        return True


def _refuse_file_above(door: Storage, path: str) -> Journey[None]:
    """Raise if there is a file where a directory of this path would be."""
    above = path.rpartition("/")[0]
    while above:
        try:
            there = yield from _found(door, above)
        except CtaflowsError as why:
            if concerns_all(why):
                raise
            log.debug("%s can't be looked at: %s", above, why)
            return
        if there is not None and not there.is_dir:
            raise AlreadyExists(
                "There is a file where a directory would have to be",
                where=above,
                hint="Choose another path, or move the file away.",
            )
        if there is not None:
            return
        above = above.rpartition("/")[0]


# -- compared, named, removed ----------------------------------------------------------------------


def _compared(
    door: Storage, source: LocalSource, path: str, written: Written
) -> Journey[tuple[Checksum, bool]]:
    """Compare what arrived with what was sent: by checksum, and without one at least by size.

    Returns
    -------
    checksum : Checksum
        Our own.
    verified : bool
        Is it the one that the storage tells?
    """
    known = sums.best(written.checksums)
    for attempt in range(_CHECKSUM_TRIES):
        if known is not None:
            break
        size_bytes, checksums = yield from door.measuring(path, Retries(door.settings))
        if size_bytes is None:  # Apache 2.4 gives no length to HEAD of an empty file
            there = yield from door.describing(path, Retries(door.settings))
            size_bytes = there.size_bytes
        if size_bytes != source.size_bytes:
            raise SizeMismatch(
                "Not all bytes arrived", where=path, said=f"{size_bytes} of {source.size_bytes}"
            )
        known = sums.best(checksums)
        if known is not None or attempt + 1 == _CHECKSUM_TRIES:
            break
        if not (yield from may_come_late(door, path)):
            break
        yield Pause(door.settings.backoff_s * 2**attempt)
    ours = yield from source.hashed(known.algorithm if known else "adler32")
    if known is not None and ours != known:
        raise ChecksumMismatch(
            "What arrived is not what was sent",
            where=path,
            said=f"{ours} sent, {known.value} arrived",
        )
    return ours, known is not None


def may_come_late(door: Storage, path: str) -> Journey[bool]:
    """Is this a door that keeps checksums? Only dCache tells a locality; asked once a door.

    See DcacheFileResource.java, dCache 12.1. Other servers compute a checksum when they are asked,
    or have none, so that waiting for one is of no use.
    """
    if door.tells_locality is None:
        there = yield from door.describing(path, Retries(door.settings))
        door.tells_locality = there.locality is not None
    return door.tells_locality


def _moved(door: Storage, ours: Entry, target: str, *, overwrite: bool) -> Journey[None]:
    """Move a file to its name; where the answer is lost, look before moving again.

    NotFound and AlreadyExists are looked at too: libcurl sends a request again where a kept
    connection was closed before the first byte of an answer, and the first one may have moved the
    file.

    Parameters
    ----------
    ours : Entry
        The file under its temporary name.
    door, target, overwrite
        As for `upload`.
    """
    retries, is_again = Retries(door.settings), False
    while True:
        try:
            return (yield from door.moving(ours.path, target, overwrite=overwrite))
        except (NetworkError, StorageError, NotFound, AlreadyExists) as why:
            is_lasting = isinstance(why, NotFound | AlreadyExists)
            if had_no_effect(why) or not (why.retryable or is_lasting):
                raise
            failure = why
        log.warning("%s; looking whether the file was moved", failure)
        if (yield from _at(door, ours.path)) is None:
            there = yield from _at(door, target)
            if there is None or not there.same_content_as(ours, size_suffices=True):
                raise failure
            return
        if isinstance(failure, AlreadyExists) or (is_lasting and is_again):
            raise failure
        if not is_lasting:
            yield Pause(retries.pause_or_raise(failure))
        is_again = True


def _check_name(door: Storage, source: LocalSource, target: str) -> Journey[None]:
    """Look whether the file got its name: servers differ in how they read an odd one."""
    if quote(target, errors="surrogateescape") == target:
        return
    there = yield from _found(door, target)
    ours = Entry(target, size_bytes=source.size_bytes)
    if there is None or not there.same_content_as(ours, size_suffices=True):
        raise ProtocolSurprise(
            "The server gave the file another name",
            where=target,
            hint="It does not understand a character of this name: choose another one.",
        )


def _removed(door: Storage, journal: Journal, temporary: str, why: Exception) -> Journey[bool]:
    """Leave nothing behind: a failed upload may stay in dCache's name space (#6455, #7862).

    The journal keeps what could not be removed; and what was not there after a PUT without an
    answer, since it may come yet.

    Parameters
    ----------
    why : Exception
        How the upload ended.
    door, journal, temporary
        What is removed.

    Returns
    -------
    bool
        Was it there, and is gone?
    """
    if isinstance(why, CtaflowsError):
        if concerns_all(why) and not isinstance(why, Stopped):
            return False  # nor would this be granted, and three 401s block the address
        if had_no_effect(why) and door.session.is_home(why.where or ""):
            journal.end(temporary)
            return False
    is_cut = isinstance(why, Stopped | NetworkError)
    for is_last in (False, True) if is_cut else (True,):
        try:
            yield from door.deleting(temporary)
        except CtaflowsError as left:
            # where it answers both by 400 the server has no such names (StoRM 1.8.1: %)
            has_no_name = {getattr(one, "status", None) for one in (left, why)} == {400}
            if has_no_name or (isinstance(left, NotFound) and not is_cut):
                journal.end(temporary)
                return False
            if not is_last:  # the server may be about to write it
                yield Pause(_ARRIVES_S)
            elif not isinstance(left, NotFound):
                log.warning("A temporary file may be left at the door: %s", left)
        else:
            journal.end(temporary)
            return True
    return False


# -- without a rename ------------------------------------------------------------------------------
#
# The platform's download service has no MOVE, so that a reader can see a file that is not whole
# yet, and no DELETE, so that one which failed stays until it is uploaded again.

_AGAIN = "The service can't remove a file: upload it again, the name is the same."


def _upload_in_place(door: Storage, source: LocalSource, target: str) -> Journey[Transfer]:
    """Write a file under its own name, and compare what is there with what was sent."""
    retries = Retries(door.settings)
    while True:  # each upload replaces the whole file
        try:
            written = yield from door.putting(target, source.body())
            break
        except CtaflowsError as why:
            if had_no_effect(why):
                raise  # it was tried again
            pause_s = retries.pause_or_raise(why)
            log.warning("%s; uploading it again under the same name", why)
            yield Pause(pause_s)
    source.refuse_change()
    checksum, verified, note = yield from _compared_in_place(door, source, written)
    return source.record(
        written.path,
        checksum,
        verified=verified,
        moved_bytes=source.size_bytes,
        retries=retries.n_failed,
        server=written.server,
        note=note,
    )


def _compared_in_place(
    door: Storage, source: LocalSource, written: Written
) -> Journey[tuple[Checksum, bool, str | None]]:
    """Compare size and, where the storage tells it, checksum of what is there now."""
    if written.size_bytes not in (None, source.size_bytes):
        raise SizeMismatch(
            "Not all bytes arrived",
            where=written.path,
            said=f"{written.size_bytes} of {source.size_bytes} written",
            hint=_AGAIN,
        )
    try:
        there = yield from door.describing(written.path, Retries(door.settings))
    except Refused as why:
        return (yield from source.hashed("sha256")), False, f"it can't be looked at: {why}"
    if there.size_bytes != source.size_bytes:
        raise SizeMismatch(
            "Not all bytes are there",
            where=written.path,
            said=f"{there.size_bytes} of {source.size_bytes}",
            hint=_AGAIN,
        )
    known = sums.best(there.checksums)
    if known is None:
        return (yield from source.hashed("sha256")), False, "the storage told only its size"
    ours = yield from source.hashed(known.algorithm)
    if ours != known:
        raise ChecksumMismatch(
            "What is there is not what was sent",
            where=written.path,
            said=f"{ours} sent, {known.value} there",
            hint=_AGAIN,
        )
    return ours, True, None


# -- the local file --------------------------------------------------------------------------------

#: A pipe is not waited for; it is refused.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
#: Up to this size a file is read at once.
SMALL_BYTES = 1 << 18


class LocalSource:
    """A regular file here that is to be uploaded; its adler32 is taken while it is read.

    Parameters
    ----------
    local : str
        The file.
    started : float, optional
        When its upload began, see `time.monotonic`; by default now.

    Attributes
    ----------
    size_bytes : int
        Its size when it was opened.
    mtime_s : int
        The time of its last modification then, seconds since 1970.

    Raises
    ------
    NotFound, UsageError
        No such file; one that can't be read, or no regular one.
    """

    def __init__(self, local: str, started: float | None = None) -> None:
        self.local = local
        self._started = time.monotonic() if started is None else started
        self._n_sent = 0
        self._body: bytes | None = None
        self._adler32 = 1
        self._sums: dict[str, Checksum] = {}
        self._descriptor = -1
        try:
            self._descriptor = os.open(local, _FLAGS)
            self._about = about = os.fstat(self._descriptor)
        except FileNotFoundError:
            raise NotFound("There is no such file here", where=local) from None
        except OSError as why:
            self.close()
            raise local_error(why, local, "The file can't be read", hint=None) from why
        if not stat.S_ISREG(about.st_mode):
            self.close()
            raise UsageError(
                "Only regular files are uploaded", where=local, hint="For a directory use -r."
            )
        self.size_bytes, self.mtime_s = about.st_size, int(about.st_mtime)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def body(self) -> bytes | LocalSource:
        """Return what a PUT is to send: the bytes of a small file, else this."""
        if self.size_bytes > SMALL_BYTES or progress.rate_limiter().is_limited:
            return self
        if self._body is None:
            with _read_errors(self.local):
                self._body = os.pread(self._descriptor, self.size_bytes + 1, 0)
            if len(self._body) != self.size_bytes:
                raise self._changed()
            self._sums["adler32"] = _adler32(sums.adler32(self._body))
        else:
            progress.current().advance(-self.size_bytes)
        progress.current().advance(self.size_bytes)
        return self._body

    def rewind(self) -> None:
        """Begin anew."""
        progress.current().advance(-self._n_sent)
        self._n_sent, self._adler32 = 0, 1

    def read(self, n_bytes: int) -> bytes:
        """Return the next bytes, never more in all than the file had when it was opened."""
        n_left = self.size_bytes - self._n_sent
        with _read_errors(self.local):
            block = os.pread(self._descriptor, min(n_bytes, n_left), self._n_sent)
        if not block and n_left:
            raise self._changed()
        self._adler32 = sums.adler32(block, self._adler32)
        self._n_sent += len(block)
        progress.current().advance(len(block))
        if self._n_sent == self.size_bytes:  # what dCache stores by default (its User Guide)
            self._sums["adler32"] = _adler32(self._adler32)
        return block

    def refuse_change(self) -> None:
        """Raise if the file has another size or time than when it was opened."""
        now, then = os.fstat(self._descriptor), self._about
        if now.st_mtime_ns != then.st_mtime_ns or now.st_size != then.st_size:
            raise self._changed()

    def _changed(self) -> SourceChanged:
        return SourceChanged(
            "The file here changed while it was uploaded",
            where=self.local,
            hint="Upload it again when nobody writes to it any more.",
        )

    def hashed(self, algorithm: str) -> Journey[Checksum]:
        """Return the file's checksum, computed once; of a large file in a thread."""
        known = self._sums.get(algorithm)
        if known is None:
            if self.size_bytes > SMALL_BYTES:
                known = yield Call(_sum_of, self.local, algorithm)
            else:
                known = _sum_of(self.local, algorithm)
            self._sums[algorithm] = known
        return known

    def in_place(self, path: str, checksum: Checksum | None) -> Transfer:
        """Return the record of a file that is there already; unverified without a checksum."""
        note = _IN_PLACE if checksum else _SAME_SIZE
        return self.record(path, checksum, verified=checksum is not None, skipped=True, note=note)

    def record(
        self,
        path: str,
        checksum: Checksum | None,
        *,
        verified: bool,
        skipped: bool = False,
        moved_bytes: int = 0,
        retries: int = 0,
        mtime: datetime | None = None,
        server: str | None = None,
        note: str | None = None,
    ) -> Transfer:
        """Return the record of this upload."""
        return Transfer(
            path=path,
            local=self.local,
            size_bytes=self.size_bytes,
            moved_bytes=moved_bytes,
            seconds=time.monotonic() - self._started,
            checksum=checksum,
            verified=verified,
            skipped=skipped,
            retries=retries,
            mtime=mtime,
            server=server,
            note=note,
        )


def _read_errors(local: str) -> AbstractContextManager[None]:
    return local_errors(local, "The file can't be read", hint=None)


def _sum_of(local: str, algorithm: str) -> Checksum:
    with _read_errors(local):
        return sums.of_file(Path(local), algorithm)


def _adler32(value: int) -> Checksum:
    return Checksum("adler32", f"{value:08x}")
