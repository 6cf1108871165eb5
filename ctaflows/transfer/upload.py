"""Upload: a temporary name in the same directory, compared, then moved. Never repeated blindly."""

from __future__ import annotations

import enum
import logging
import time
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from ctaflows import cancel
from ctaflows.errors import (
    AlreadyExists,
    ChecksumMismatch,
    CtaflowsError,
    NetworkError,
    NotFound,
    ProtocolSurprise,
    SizeMismatch,
    StorageError,
)
from ctaflows.storage import checksum as sums
from ctaflows.storage import links
from ctaflows.storage.webdav import digests
from ctaflows.transfer.moving import find, move
from ctaflows.transfer.source import LocalSource
from ctaflows.transfer.upload_journal import kept

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from ctaflows.model import Checksum, Entry, Transfer
    from ctaflows.storage.webdav import Door
    from ctaflows.transfer.upload_journal import Journal


class Unknown(enum.Enum):
    """Stands for an entry that was not looked at."""

    LOOK = enum.auto()


log = logging.getLogger("ctaflows.transfer")

#: dCache may know the checksum only some seconds after a PUT (dCache #7467).
_CHECKSUM_TRIES = 5


def upload(
    door: Door,
    local: Path,
    remote: str,
    *,
    overwrite: bool = False,
    there: Entry | Literal[Unknown.LOOK] | None = Unknown.LOOK,
    stop: threading.Event | None = None,
) -> Transfer:
    """Upload one file.

    Parameters
    ----------
    door : Door
        Where to.
    local : Path
        A regular file.
    remote : str
        Final path; one that ends in ``/`` is completed with the file's name. Parents are made.
    overwrite : bool
        Replace a file that is there and differs.
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
        What arrived is not what was sent. Nothing is left behind.
    """
    started = time.monotonic()
    target = door.normalise(remote + local.name if remote.endswith("/") else remote)
    with LocalSource(local, stop or cancel.current()) as source, kept(door, stop) as journal:
        if there is Unknown.LOOK:
            there = door.exists(target)
        elif there is not None and links.may_hide_files(there):
            links.refuse_link(door, there)
            there = door.exists(target)
        return _upload(door, journal, source, target, there, overwrite=overwrite, started=started)


def _upload(
    door: Door,
    journal: Journal,
    source: LocalSource,
    target: str,
    there: Entry | None,
    *,
    overwrite: bool,
    started: float,
) -> Transfer:
    if there is not None:
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
    with door.transfer_slots, cancel.shielded():  # `source.stop` ends the bytes, and only these
        return _upload_new(door, journal, source, target, overwrite=overwrite, started=started)


def _upload_new(
    door: Door,
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
    door: Door,
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
        What was said of a first move, see `moving.find`.
    journal
        Has the temporary name.
    door, source, temporary, target, checksum, overwrite
        As for `moving.move`.
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
    door: Door, source: LocalSource, temporary: str
) -> tuple[str | None, int, tuple[Checksum, ...]]:
    """Write the bytes; after a fault look what is there, and begin anew under the same name."""
    for attempt in range(1, door.settings.attempts + 1):
        try:
            body = source.body()
            stop = None if isinstance(body, bytes) else source.stop
            with cancel.within(source.stop):
                answer = door.put(temporary, body, stop=stop)
            return answer.headers.get("server"), attempt - 1, digests(answer.headers)
        except (NotFound, ProtocolSurprise) as why:  # servers other than dCache make no parents
            if why.status not in (404, 409) or attempt > 1:  # Apache 2.4 says 409
                raise
            door.mkdir(temporary.rpartition("/")[0], parents=True, exist_ok=True)
        except (NetworkError, StorageError) as why:
            if not why.retryable or attempt == door.settings.attempts:
                raise
            log.warning("%s; uploading it again under a temporary name", why)
            _remove(door, temporary)
            source.stop.wait(why.retry_after_s or door.settings.backoff_s * 2**attempt)
            cancel.end_if(source.stop, temporary)
    raise StorageError("The upload did not come about", where=temporary)


def _compare(
    door: Door, source: LocalSource, temporary: str, promised: tuple[Checksum, ...]
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


def _check_name(door: Door, source: LocalSource, target: str) -> None:
    """Look whether the file got its name: servers differ in how they read an odd one."""
    if quote(target) == target:
        return
    there = door.exists(target)
    if there is None or there.size_bytes != source.size_bytes:
        raise ProtocolSurprise(
            "The server gave the file another name",
            where=target,
            hint="It does not understand a character of this name: choose another one.",
        )


def may_come_late(door: Door, path: str) -> bool:
    """Is this a door that keeps checksums? Only dCache tells a locality; asked once a door."""
    if door.tells_locality is None:
        door.tells_locality = door.stat(path).locality is not None
    return door.tells_locality


def clean(door: Door, journal: Journal, temporary: str) -> None:
    """Leave nothing behind: a failed upload may stay in dCache's name space (#6455, #7862)."""
    if _remove(door, temporary):
        journal.end(temporary)


def _remove(door: Door, temporary: str) -> bool:
    try:
        door.remove(temporary)
    except NotFound:
        pass
    except CtaflowsError as why:
        log.warning("A temporary file may be left at the door: %s", why)
        return False
    return True


def _agreeing(door: Door, there: Entry, source: LocalSource) -> Checksum | None:
    """Give the checksum by which the file there is ours, or None."""
    if there.size_bytes != source.size_bytes:
        return None
    # XRootD 5.5 tells checksums to HEAD alone
    known = sums.best(there.checksums or door.checksums(there.path))
    if known is None:
        return None
    ours = source.checksum(known.algorithm)
    return ours if ours == known else None
