"""Upload: a temporary name in the same directory, compared, then moved. Never repeated blindly."""

from __future__ import annotations

import logging
import os
import secrets
import stat
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ctaflows.errors import (
    AlreadyExists,
    ChecksumMismatch,
    CtaflowsError,
    NetworkError,
    NotFound,
    ProtocolSurprise,
    SizeMismatch,
    StorageError,
    UsageError,
    error_text,
)
from ctaflows.model import Report, Transfer
from ctaflows.storage import checksum as sums
from ctaflows.storage.door import digests
from ctaflows.transfer import progress
from ctaflows.transfer.crew import Stopped, at_once

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ctaflows.model import Checksum, Entry
    from ctaflows.storage.door import Door

log = logging.getLogger("ctaflows.transfer")

_BLOCK_BYTES = 1 << 20
#: dCache may know the checksum only some seconds after a PUT (dCache #7467).
_CHECKSUM_TRIES = 5


def upload(
    door: Door,
    local: Path,
    remote: str,
    *,
    overwrite: bool = False,
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
    source = _Source(local, stop or threading.Event())
    target = door.normalise(remote + local.name if remote.endswith("/") else remote)
    there = door.exists(target)
    if there is not None:
        if there.is_dir:
            raise AlreadyExists(
                "There is a directory of that name",
                where=target,
                hint=f"To upload into it, write {target}/ with a slash at the end.",
            )
        ours = _agreeing(there, source)
        if ours is not None:
            return source.proof(target, ours, started, skipped=True, note="it is there already")
        if not overwrite:
            raise AlreadyExists(
                "Another file is there", where=target, hint="Use --overwrite to replace it."
            )
    with door.transfer_slots:
        return _upload_new(door, source, target, overwrite=overwrite, started=started)


def upload_alone(door: Door, local: Path, remote: str, *, overwrite: bool = False) -> Transfer:
    """Upload one file as `upload` does, and tell the listener of it."""
    progress.current().expect(1, _size(local))
    done = upload(door, local, remote, overwrite=overwrite)
    progress.current().finished(done)
    return done


def upload_many(
    door: Door, pairs: Sequence[tuple[Path, str]], *, overwrite: bool = False
) -> Report:
    """Upload many files at once.

    Parameters
    ----------
    door : Door
        Where to.
    pairs : sequence of (Path, str)
        File here and its path at the door.
    overwrite : bool
        As for `upload`.

    Returns
    -------
    Report
        In the order of the pairs, failed ones with their error.
    """
    started, stop = time.monotonic(), threading.Event()
    progress.current().expect(len(pairs), sum(_size(local) for local, _ in pairs))

    def one(pair: tuple[Path, str]) -> Transfer:
        local, remote = pair
        try:
            done = upload(door, local, remote, overwrite=overwrite, stop=stop)
        except CtaflowsError as why:
            done = Transfer(remote, str(local), _size(local), error=error_text(why))
        progress.current().finished(done)
        return done

    transfers = at_once(one, pairs, door.settings.transfers, stop)
    return Report(tuple(transfers), time.monotonic() - started)


def files_of(folder: Path, remote: str) -> list[tuple[Path, str]]:
    """Say where the files of a folder go: below ``remote``, in a directory of the folder's name.

    Parameters
    ----------
    folder : Path
        A folder here. Links to other folders are not followed.
    remote : str
        A directory at the door.
    """
    base = f"{remote.rstrip('/')}/{folder.resolve().name}"

    def unreadable(why: OSError) -> None:
        raise UsageError(
            "A folder can't be read",
            where=str(why.filename),
            said=why.strerror,
            hint="Nothing was uploaded. Leave the folder out, or get the right to read it.",
        ) from None

    walk = os.walk(folder, onerror=unreadable)
    found = [Path(where) / name for where, _, names in walk for name in names]
    return [(f, f"{base}/{f.relative_to(folder).as_posix()}") for f in sorted(found)]


def _size(local: Path) -> int:
    try:
        return local.stat().st_size
    except OSError:
        return 0


def _upload_new(
    door: Door, source: _Source, target: str, *, overwrite: bool, started: float
) -> Transfer:
    folder, _, name = target.rpartition("/")
    temporary = f"{folder}/.{name[:200]}.{secrets.token_hex(4)}.part"
    try:
        server, retries, promised = _put(door, source, temporary)
        checksum, verified = _compare(door, source, temporary, promised)
        _move(door, temporary, target, checksum, overwrite=overwrite)
        _check_name(door, source, target)
    except BaseException:
        _clean(door, temporary)
        raise
    note = None if verified else "the storage gave no checksum of what arrived, only its size"
    return source.proof(
        target,
        checksum,
        started,
        verified=verified,
        retries=retries,
        server=server,
        note=note,
        moved_bytes=source.size_bytes,
    )


def _put(
    door: Door, source: _Source, temporary: str
) -> tuple[str | None, int, tuple[Checksum, ...]]:
    """Write the bytes; after a fault look what is there, and begin anew under the same name."""
    for attempt in range(1, door.settings.attempts + 1):
        try:
            answer = door.put(temporary, source.blocks(), source.size_bytes)
            return answer.headers.get("server"), attempt - 1, digests(answer.headers)
        except NotFound:  # servers other than dCache make no parents
            door.mkdir(temporary.rpartition("/")[0], parents=True, exist_ok=True)
        except (NetworkError, StorageError) as why:
            if not why.retryable or attempt == door.settings.attempts:
                raise
            log.warning("%s; uploading it again under a temporary name", why)
            progress.current().advance(-source.sent_bytes)
            _clean(door, temporary)
            threading.Event().wait(why.retry_after_s or door.settings.backoff_s * 2**attempt)
    raise StorageError("The upload did not come about", where=temporary)


def _compare(
    door: Door, source: _Source, temporary: str, promised: tuple[Checksum, ...]
) -> tuple[Checksum, bool]:
    """Compare size and checksum of what arrived with what was sent."""
    there = door.stat(temporary)
    if there.size_bytes != source.size_bytes:
        raise SizeMismatch(
            "Not all bytes arrived",
            where=temporary,
            said=f"{there.size_bytes} of {source.size_bytes}",
        )
    known = sums.best(there.checksums or promised)
    for attempt in range(_CHECKSUM_TRIES):
        if known is not None:
            break
        known = sums.best(door.checksums(temporary))
        if known is None and attempt + 1 < _CHECKSUM_TRIES and _may_come_late(there):
            threading.Event().wait(door.settings.backoff_s * 2**attempt)
        elif known is None:
            return source.checksum("sha256"), False
    if known is None:
        return source.checksum("sha256"), False
    ours = source.checksum(known.algorithm)
    if ours != known:
        raise ChecksumMismatch(
            "What arrived is not what was sent",
            where=temporary,
            said=f"{ours} sent, {known.value} arrived",
        )
    return ours, True


def _move(door: Door, temporary: str, target: str, checksum: Checksum, *, overwrite: bool) -> None:
    """Give the file its final name; where the answer is lost, look before moving again."""
    try:
        door.move(temporary, target, overwrite=overwrite)
    except (NetworkError, StorageError) as why:
        if not why.retryable:
            raise
        log.warning("%s; looking whether the file was moved", why)
        if door.exists(temporary) is not None:
            door.move(temporary, target, overwrite=overwrite)
            return
        there = door.stat(target)
        if there.checksums and checksum not in there.checksums:
            raise


def _check_name(door: Door, source: _Source, target: str) -> None:
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


def _may_come_late(there: Entry) -> bool:
    """Is this a door that keeps checksums? Only dCache tells a locality."""
    return there.locality is not None


def _clean(door: Door, temporary: str) -> None:
    """Leave nothing behind: a failed upload may stay in dCache's name space (#6455, #7862)."""
    try:
        door.remove(temporary)
    except NotFound:
        pass
    except CtaflowsError as why:
        log.warning("A temporary file may be left at the door: %s", why)


def _agreeing(there: Entry, source: _Source) -> Checksum | None:
    """Give the checksum by which the file there is ours, or None."""
    known = sums.best(there.checksums)
    if known is None or there.size_bytes != source.size_bytes:
        return None
    ours = source.checksum(known.algorithm)
    return ours if ours == known else None


class _Source:
    """The file to be uploaded; its checksum is taken while it is read."""

    def __init__(self, local: Path, stop: threading.Event) -> None:
        self.local = local
        self._stop = stop
        self.sent_bytes = 0
        self._sums: dict[str, Checksum] = {}
        try:
            about = local.stat()
            if not stat.S_ISREG(about.st_mode):
                raise IsADirectoryError(0, "it is no regular file")
            self.size_bytes = about.st_size
            with local.open("rb"):
                pass
        except FileNotFoundError:
            raise NotFound("There is no such file here", where=str(local)) from None
        except OSError as why:
            raise UsageError(
                "The file can't be read",
                where=str(local),
                said=why.strerror,
                hint="Only regular files are uploaded; for a directory use -r.",
            ) from why

    def blocks(self) -> Iterator[bytes]:
        """Give the bytes, and take their adler32 (what dCache stores) on the way."""
        hasher = sums.Hasher("adler32")
        self.sent_bytes = 0
        with self.local.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                if self._stop.is_set():
                    raise Stopped("Stopped; nothing is left behind", where=str(self.local))
                hasher.update(block)
                yield block
                self.sent_bytes += len(block)
                progress.current().advance(len(block))
        if self.sent_bytes == self.size_bytes:
            self._sums["adler32"] = hasher.checksum()

    def checksum(self, algorithm: str) -> Checksum:
        """Give the file's checksum, computed once."""
        if algorithm not in self._sums:
            self._sums[algorithm] = sums.of_file(self.local, algorithm)
        return self._sums[algorithm]

    def proof(
        self,
        path: str,
        checksum: Checksum,
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
