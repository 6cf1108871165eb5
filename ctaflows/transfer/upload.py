"""Upload: a temporary name in the same directory, compared, then moved. Never repeated blindly.

Why not to the name itself: a PUT over a file deletes the old one first (Transfer.java, dCache
12.1), and one that breaks off, or whose checksum is wrong, leaves an entry that looks like a file:
a size, ONLINE, and the checksum of the part, or the one that the client has stated (seen with
dCache 11.2.5; #6455).
"""

from __future__ import annotations

import enum
import logging
import os
import stat
import time
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import quote

from ctaflows import cancel
from ctaflows.atomic_files import local_error
from ctaflows.errors import (
    AlreadyExists,
    ChecksumMismatch,
    CtaflowsError,
    NetworkError,
    NotFound,
    ProtocolSurprise,
    Refused,
    SizeMismatch,
    Stopped,
    StorageError,
    UsageError,
)
from ctaflows.model import Entry, Transfer
from ctaflows.retry import Retries
from ctaflows.storage import checksum as sums
from ctaflows.storage import links
from ctaflows.transfer import progress
from ctaflows.transfer.upload_journal import kept

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from ctaflows.model import Checksum
    from ctaflows.storage.answers import Written
    from ctaflows.storage.protocol import Storage
    from ctaflows.transfer.upload_journal import Journal


class UnknownOutcome(enum.Enum):
    """Stands for an entry that was not looked at."""

    LOOK = enum.auto()


log = logging.getLogger("ctaflows.transfer")

#: dCache may know the checksum only some seconds after a PUT (dCache #7467, #7500; 9.2).
_CHECKSUM_TRIES = 5


def upload(
    door: Storage,
    local: Path,
    remote: str,
    *,
    overwrite: bool = False,
    there: Entry | Literal[UnknownOutcome.LOOK] | None = UnknownOutcome.LOOK,
    stop: threading.Event | None = None,
) -> Transfer:
    """Upload one file.

    Parameters
    ----------
    door : Storage
        Where to.
    local : Path
        A regular file.
    remote : str
        Final path; one that ends in ``/`` is completed with the file's name. Parents are made.
    overwrite : bool
        Replace a file that is there and differs. A storage that can't rename always does, so that
        it takes no upload without.
    there : Entry or None, optional
        What a listing says of the target; left out, it is looked at.
    stop : threading.Event, optional
        Ends the upload soon after it is set.

    Returns
    -------
    Transfer
        The proof; ``skipped`` if the same file is there already.

    Raises
    ------
    AlreadyExists
        Another file is there, and ``overwrite`` is off; or a directory is.
    IntegrityError
        What arrived is not what was sent. Nothing is left behind, unless the storage can't rename.
    """
    started = time.monotonic()
    target = door.normalise(remote + local.name if remote.endswith("/") else remote)
    if not door.can_rename:
        if not overwrite:
            raise UsageError(
                f"The {door.title} replaces what is there, and can't be asked before",
                where=target,
                hint="Use --overwrite, or overwrite=True, if that is meant.",
            )
        with LocalSource(local, stop or cancel.current()) as source, door.transfer_slots:
            return _upload_in_place(door, source, target, started)
    with LocalSource(local, stop or cancel.current()) as source, kept(door, stop) as journal:
        is_listed = True
        if there is UnknownOutcome.LOOK or (there is not None and there.error is not None):
            there, is_listed = door.exists(target), False
        return _upload(
            door, journal, source, target, there,
            is_listed=is_listed, overwrite=overwrite, started=started,
        )  # fmt: skip


def _upload(
    door: Storage,
    journal: Journal,
    source: LocalSource,
    target: str,
    there: Entry | None,
    *,
    is_listed: bool,
    overwrite: bool,
    started: float,
) -> Transfer:
    if there is not None:
        if there.kind == "link":
            links.refuse_link(door, target, itself=there)
        if there.is_dir:
            raise AlreadyExists(
                "There is a directory of that name",
                where=target,
                hint=f"To upload into it, write {target}/ with a slash at the end.",
            )
        ours = _agreeing(door, there, source)
        if ours is not None:
            return _in_place(source, target, ours, started)
        if not overwrite:
            raise AlreadyExists(
                "Another file is there", where=target, hint="Use --overwrite to replace it."
            )
        if there.link is not None or not is_listed:
            links.refuse_link(door, target, itself=there)
    with (
        door.transfer_slots,
        cancel.uncancellable(),
    ):  # the source's event ends the bytes alone
        return _upload_new(door, journal, source, target, overwrite=overwrite, started=started)


def _upload_new(
    door: Storage,
    journal: Journal,
    source: LocalSource,
    target: str,
    *,
    overwrite: bool,
    started: float,
) -> Transfer:
    temporary = journal.begin(target)
    try:
        server, retries, promised = _put(door, source, temporary)
        checksum, verified = _compare(door, source, temporary, promised)
        there = give_name(
            door, journal, source, temporary, target, checksum,
            overwrite=overwrite, started=started,
        )  # fmt: skip
        _check_name(door, source, target)
    except BaseException:
        clean(door, journal, temporary)
        raise
    return there or record(
        source, target, checksum, started, verified=verified, retries=retries, server=server
    )


def give_name(
    door: Storage,
    journal: Journal,
    source: LocalSource,
    temporary: str,
    target: str,
    checksum: Checksum,
    *,
    overwrite: bool,
    started: float,
    why: CtaflowsError | None = None,
) -> Transfer | None:
    """Give a file that went up its name, unless another upload of the same one was quicker.

    Parameters
    ----------
    why : CtaflowsError, optional
        What was said of a first move, see `find`.
    journal
        Has the temporary name.
    door, source, temporary, target, checksum, overwrite
        As for `move`.
    started : float
        As for `record`.

    Returns
    -------
    Transfer or None
        None where it got its name; the record of the file that is there where that is the same.

    Raises
    ------
    CtaflowsError
        It did not get its name, and may still be there under the temporary one. `AlreadyExists`:
        another file is there.
    """
    try:
        if why is None:
            move(door, source, temporary, target, checksum, overwrite=overwrite)
        else:
            find(door, source, temporary, target, checksum, why, overwrite=overwrite)
    except AlreadyExists:
        there = door.exists(target)
        ours = None if there is None or there.is_dir else _agreeing(door, there, source)
        if ours is None:
            raise
        clean(door, journal, temporary)
        return _in_place(source, target, ours, started)
    journal.end(temporary)
    return None


def _in_place(source: LocalSource, target: str, checksum: Checksum, started: float) -> Transfer:
    return source.proof(target, checksum, started, skipped=True, note="it is there already")


def record(
    source: LocalSource,
    target: str,
    checksum: Checksum,
    started: float,
    *,
    verified: bool,
    server: str | None,
    retries: int = 0,
) -> Transfer:
    """Make the record of a file that went up."""
    return source.proof(
        target,
        checksum,
        started,
        verified=verified,
        retries=retries,
        server=server,
        note=None if verified else "the storage gave no checksum of what arrived, only its size",
        moved_bytes=source.size_bytes,
    )


def _put(
    door: Storage, source: LocalSource, temporary: str
) -> tuple[str | None, int, tuple[Checksum, ...]]:
    """Write the bytes; after a fault look what is there, and begin anew under the same name."""
    retries, has_parents = Retries(door.settings), False
    while True:
        try:
            body = source.body()
            stop = None if isinstance(body, bytes) else source.stop
            with cancel.scope(source.stop):
                written = door.put(temporary, body, stop=stop)
            return written.server, retries.n_failed + has_parents, written.checksums
        except (NotFound, NetworkError, StorageError) as why:
            is_first = not (has_parents or retries.n_failed)
            # nginx 1.22, Apache 2.4, XRootD 5.5 and dCache 11.2.5 tell a file above by 409 or 500
            if is_first and why.status in (404, 409, 500):
                _refuse_file_above(door, temporary)
            # servers other than dCache make no parents; Apache 2.4 answers 409
            if is_first and why.status in (404, 409):
                door.mkdir(temporary.rpartition("/")[0], parents=True, exist_ok=True)
                has_parents = True
                continue
            pause = retries.pause_or_raise(why)
            log.warning("%s; uploading it again under a temporary name", why)
            _remove(door, temporary)
            source.stop.wait(pause)
            cancel.raise_if_cancelled(source.stop, temporary)


def _refuse_file_above(door: Storage, path: str) -> None:
    """Raise if there is a file where a directory of this path would be."""
    above = path.rpartition("/")[0]
    while above:
        try:
            there = door.exists(above)
        except CtaflowsError as why:
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


def _compare(
    door: Storage, source: LocalSource, temporary: str, promised: tuple[Checksum, ...]
) -> tuple[Checksum, bool]:
    """Compare what arrived with what was sent: by checksum, and without one at least by size."""
    known = sums.best(promised)
    for attempt in range(_CHECKSUM_TRIES):
        if known is not None:
            break
        size_bytes, digests_there = door.measure(temporary)
        if size_bytes is None:  # Apache 2.4 gives no length to HEAD of an empty file
            size_bytes = door.stat(temporary).size_bytes
        if size_bytes != source.size_bytes:
            raise SizeMismatch(
                "Not all bytes arrived",
                where=temporary,
                said=f"{size_bytes} of {source.size_bytes}",
            )
        known = sums.best(digests_there)
        if (
            known is not None
            or attempt + 1 == _CHECKSUM_TRIES
            or not may_come_late(door, temporary)
        ):
            break
        source.stop.wait(door.settings.backoff_s * 2**attempt)
    if known is None:
        return source.checksum("adler32"), False
    ours = source.checksum(known.algorithm)
    if ours != known:
        raise ChecksumMismatch(
            "What arrived is not what was sent",
            where=temporary,
            said=f"{ours} sent, {known.value} arrived",
        )
    return ours, True


def _check_name(door: Storage, source: LocalSource, target: str) -> None:
    """Look whether the file got its name: servers differ in how they read an odd one."""
    if quote(target, errors="surrogateescape") == target:
        return
    there = door.exists(target)
    if there is None or not there.same_content_as(
        Entry(target, size_bytes=source.size_bytes), size_suffices=True
    ):
        raise ProtocolSurprise(
            "The server gave the file another name",
            where=target,
            hint="It does not understand a character of this name: choose another one.",
        )


def may_come_late(door: Storage, path: str) -> bool:
    """Is this a door that keeps checksums? Only dCache tells a locality; asked once a door.

    See DcacheFileResource.java, dCache 12.1. Other servers compute a checksum when they are asked,
    or have none, so that waiting for one is of no use.
    """
    if door.tells_locality is None:
        door.tells_locality = door.stat(path).locality is not None
    return door.tells_locality


def clean(door: Storage, journal: Journal, temporary: str) -> None:
    """Leave nothing behind: a failed upload may stay in dCache's name space (#6455, #7862)."""
    if _remove(door, temporary):
        journal.end(temporary)


def _remove(door: Storage, temporary: str) -> bool:
    try:
        door.remove(temporary)
    except NotFound:
        pass
    except CtaflowsError as why:
        log.warning("A temporary file may be left at the door: %s", why)
        return False
    return True


def _agreeing(door: Storage, there: Entry, source: LocalSource) -> Checksum | None:
    """Give the checksum by which the file there is ours, or None."""
    if there.same_content_as(Entry(there.path, size_bytes=source.size_bytes)) is False:
        return None
    # XRootD 5.5 tells checksums to HEAD alone
    known = sums.best(there.checksums or door.checksums(there.path))
    if known is None:
        return None
    ours = source.checksum(known.algorithm)
    return ours if ours == known else None


# -- without a rename ------------------------------------------------------------------------------
#
# The platform's download service has no MOVE, so that a reader can see a file that is not whole
# yet, and no DELETE, so that one which failed stays until it is uploaded again.

_AGAIN = "The service can't remove a file: upload it again, the name is the same."


def _upload_in_place(door: Storage, source: LocalSource, target: str, started: float) -> Transfer:
    """Write a file under its own name, and compare what is there with what was sent."""
    retries = Retries(door.settings)
    while True:  # each upload replaces the whole file
        try:
            written = door.put(target, source)
            break
        except CtaflowsError as why:
            pause = retries.pause_or_raise(why)
            log.warning("%s; uploading it again under the same name", why)
            source.stop.wait(pause)
            cancel.raise_if_cancelled(source.stop, target)
    checksum, verified, note = _compare_in_place(door, source, written)
    return source.proof(
        written.path,
        checksum,
        started,
        verified=verified,
        moved_bytes=source.size_bytes,
        retries=retries.n_failed,
        server=written.server,
        note=note,
    )


def _compare_in_place(
    door: Storage, source: LocalSource, written: Written
) -> tuple[Checksum, bool, str | None]:
    """Compare size and, where the storage tells it, checksum of what is there now."""
    if written.size_bytes not in (None, source.size_bytes):
        raise SizeMismatch(
            "Not all bytes arrived",
            where=written.path,
            said=f"{written.size_bytes} of {source.size_bytes} written",
            hint=_AGAIN,
        )
    try:
        there = door.stat(written.path)
    except Refused as why:
        return source.checksum("sha256"), False, f"it can't be looked at: {why}"
    if there.size_bytes != source.size_bytes:
        raise SizeMismatch(
            "Not all bytes are there",
            where=written.path,
            said=f"{there.size_bytes} of {source.size_bytes}",
            hint=_AGAIN,
        )
    known = sums.best(there.checksums)
    if known is None:
        return source.checksum("sha256"), False, "the storage told only its size"
    ours = source.checksum(known.algorithm)
    if ours != known:
        raise ChecksumMismatch(
            "What is there is not what was sent",
            where=written.path,
            said=f"{ours} sent, {known.value} there",
            hint=_AGAIN,
        )
    return ours, True, None


# -- the final rename ------------------------------------------------------------------------------
#
# The last step of an upload: the file gets its name, once, whatever is heard of it.


def move(
    door: Storage,
    source: LocalSource,
    temporary: str,
    target: str,
    checksum: Checksum,
    *,
    overwrite: bool,
) -> None:
    """Give the file its final name; where the answer is lost, look before moving again.

    NotFound and AlreadyExists are looked at too: libcurl sends a request again where a kept
    connection was closed before the first byte of an answer, and the first one may have moved the
    file.
    """
    try:
        door.move(temporary, target, overwrite=overwrite)
    except (NetworkError, StorageError, NotFound, AlreadyExists) as why:
        if not why.retryable and not isinstance(why, NotFound | AlreadyExists):
            raise
        log.warning("%s; looking whether the file was moved", why)
        find(door, source, temporary, target, checksum, why, overwrite=overwrite)


def find(
    door: Storage,
    source: LocalSource,
    temporary: str,
    target: str,
    checksum: Checksum,
    why: CtaflowsError,
    *,
    overwrite: bool,
) -> None:
    """Look whether a file was moved, and if it is still where it was, move it.

    Parameters
    ----------
    why : CtaflowsError
        What was said of the first move; raised where the file is nowhere. It is not moved again
        where that says that another file is there.
    door, source, temporary, target, checksum, overwrite
        What was to be moved, and where to.
    """
    if door.exists(temporary) is not None:
        if isinstance(why, AlreadyExists):
            raise why
        door.move(temporary, target, overwrite=overwrite)
        return
    there = door.exists(target)
    ours = Entry(target, size_bytes=source.size_bytes, checksums=(checksum,))
    if there is None or not there.same_content_as(ours, size_suffices=True):
        raise why


# -- the local file --------------------------------------------------------------------------------
#
# A file here that is to be uploaded; its checksum is taken while it is read.

_BLOCK_BYTES = 1 << 20
_FLAGS = os.O_RDONLY | os.O_CLOEXEC
#: Up to this size a file is read at once.
SMALL_BYTES = 1 << 18


class LocalSource:
    """A regular file here.

    Parameters
    ----------
    local : Path
        The file.
    stop : threading.Event
        Ends the reading soon after it is set.

    Attributes
    ----------
    size_bytes : int
        Its size when it was looked at.
    sent_bytes : int
        So much was read of it for the upload.

    Raises
    ------
    NotFound, UsageError
        No such file; one that can't be read, or no regular one.
    """

    def __init__(self, local: Path, stop: threading.Event) -> None:
        self.local = local
        self.stop = stop
        self.sent_bytes = 0
        self._sums: dict[str, Checksum] = {}
        self._hasher = sums.Hasher("adler32")
        self._descriptor: int | None = None
        try:
            about = os.stat(local)  # noqa: PTH116  the cheapest
            if not stat.S_ISREG(about.st_mode):
                raise IsADirectoryError(0, "it is no regular file")
            self.size_bytes = about.st_size
            self._descriptor = os.open(local, _FLAGS)  # a file object costs as much again
        except FileNotFoundError:
            raise NotFound("There is no such file here", where=str(local)) from None
        except OSError as why:
            hint = "Only regular files are uploaded; for a directory use -r."
            raise local_error(why, local, "The file can't be read", hint=hint) from why

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def body(self) -> bytes | LocalSource:
        """Give what a PUT is to send: the bytes of a small file, else this."""
        if self.size_bytes > SMALL_BYTES:
            return self
        self.rewind()
        blocks = [self.read(SMALL_BYTES)]
        while blocks[-1] and self.sent_bytes < self.size_bytes:
            blocks.append(self.read(SMALL_BYTES))
        return b"".join(blocks)

    def rewind(self) -> None:
        """Begin anew."""
        assert self._descriptor is not None  # noqa: S101
        if not self.sent_bytes:
            return
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        progress.current().advance(-self.sent_bytes)
        self.sent_bytes = 0
        # what dCache stores by default (its User Guide, WebDAV)
        self._hasher = sums.Hasher("adler32")

    def read(self, n_bytes: int) -> bytes:
        """Give the next bytes, never more in all than the file had when it was looked at."""
        assert self._descriptor is not None  # noqa: S101
        if self.stop.is_set():
            raise Stopped("Stopped; nothing is left behind", where=str(self.local))
        block = os.read(self._descriptor, min(n_bytes, self.size_bytes - self.sent_bytes))
        self._hasher.update(block)
        self.sent_bytes += len(block)
        progress.current().advance(len(block))
        progress.rate_limiter().consume(len(block))
        if self.sent_bytes == self.size_bytes:
            self._sums["adler32"] = self._hasher.checksum()
        return block

    def checksum(self, algorithm: str) -> Checksum:
        """Give the file's checksum, computed once."""
        if algorithm not in self._sums:
            self._sums[algorithm] = sums.of_file(self.local, algorithm)
        return self._sums[algorithm]

    def proof(
        self,
        path: str,
        checksum: Checksum | None,
        started: float,
        *,
        verified: bool = True,
        skipped: bool = False,
        moved_bytes: int = 0,
        retries: int = 0,
        server: str | None = None,
        note: str | None = None,
    ) -> Transfer:
        """Make the record of this upload."""
        return Transfer(
            path=path,
            local=str(self.local),
            size_bytes=self.size_bytes,
            moved_bytes=moved_bytes,
            seconds=time.monotonic() - started,
            checksum=checksum,
            verified=verified,
            skipped=skipped,
            retries=retries,
            server=server,
            note=note,
        )
