"""The journey of a file from a storage to here: one story for every size.

The file is received into a part file beside its final name, in one piece or in ranges, compared as
a whole with the checksum that the storage reports, brought to disk, and only then given its name.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ctaflows.atomic_files import local_error, local_errors, open_special
from ctaflows.errors import (
    ChecksumMismatch,
    DoorBusy,
    IntegrityError,
    Lost,
    Nearline,
    NoRanges,
    NotTheFile,
    SourceChanged,
    StorageError,
    Truncated,
    UsageError,
)
from ctaflows.model import Transfer
from ctaflows.retry import Retries
from ctaflows.storage import checksum as sums
from ctaflows.storage.links import refuse_as_file
from ctaflows.storage.paths import is_safe_name
from ctaflows.transfer import progress
from ctaflows.transfer.decide import Action, Check, LocalState, decide
from ctaflows.transfer.part import Part, Pipe, tidy
from ctaflows.transport.wishes import Call, Gather, Pause, Synced

if TYPE_CHECKING:
    from collections.abc import Callable

    from ctaflows.model import Checksum, Entry, StrPath
    from ctaflows.storage.protocol import Storage
    from ctaflows.transfer.part import Receiver, Window
    from ctaflows.transport.wishes import Journey

T = TypeVar("T")

log = logging.getLogger("ctaflows.transfer")

_UNVERIFIED = "the storage holds no checksum of this file"
#: Another process at the same file is looked for so often, seconds.
_LOOK_AGAIN_S = 0.05
#: Until one range has an answer the others wait: a pool that is gone is asked by one alone.
_AWAIT_FIRST_S = 0.02
#: Larger files are hashed in a thread.
_HASH_HERE_BYTES = 1 << 20
_HASH_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class Job:
    """One file to be fetched.

    Attributes
    ----------
    entry : Entry
        The file, as a listing described it.
    local : Path
        Its final name here.
    keeps_sum : bool
        Is a checksum of our own wanted where the storage has none to compare it with? Not where
        nobody keeps it: for a large file it costs half of what receiving costs.
    """

    entry: Entry
    local: Path
    keeps_sum: bool = True


def download(
    door: Storage, job: Job, *, proof: Transfer | None = None, check: Check = "proof"
) -> Journey[Transfer]:
    """Fetch one file, unless it is here and proven.

    Parameters
    ----------
    door : Storage
        Where from.
    job : Job
        What and where to.
    proof : Transfer, optional
        What a manifest says of an earlier transfer.
    check : {"proof", "checksum", "size"}
        See `decide.decide`.

    Returns
    -------
    Transfer
        The record of what was done.

    Raises
    ------
    CtaflowsError
        The file is not in place; what came of it is kept for a later run, unless it was wrong.
    """
    started, entry, local = time.monotonic(), job.entry, os.fspath(job.local)
    door.normalise(entry.path)  # a name that can't be asked for leaves no part file behind
    part: Part | None = None
    while part is None:
        action, why = yield from looked_at(entry, local, proof, check)
        if action is Action.SKIP:
            return in_place(job, proof, why, started, check)
        if action is Action.WRITE:
            return (yield from _download_into_special(door, job, started))
        _refuse_offline(entry)
        part = yield from _opened(local, entry)
    retries = Retries(door.settings, also=(Truncated,))
    keep = True
    try:
        try:
            may_cut = door.has_ranges and door.settings.transfers > 1
            if part.is_new:
                part.cut(may_cut=may_cut)
            else:
                yield Call(part.resume, may_cut)
            checksum, verified = yield from _whole(door, part, job.keeps_sum, retries)
        except (ChecksumMismatch, SourceChanged):
            keep = False
            raise
        yield from _disk.do(part.stamp)
        refused = yield Synced(part.descriptor or 0, part.path)
        if refused is not None:
            raise local_error(refused, part.target)
        yield from _disk.do(part.finish)
    except BaseException:
        part.leave(keep=keep)
        raise
    return _record(local, part, retries.n_failed, checksum, verified, started)


def _opened(local: str, entry: Entry) -> Journey[Part | None]:
    """Return the part file, locked; None if another process had it, and the file may be here."""
    part = Part(local, entry)
    if (yield from _disk.do(part.open)):
        return part
    while not (yield from _disk.do(part.open)):
        yield Pause(_LOOK_AGAIN_S)
    if os.path.lexists(part.target):
        part.leave(keep=True)
        return None
    return part


def _whole(
    door: Storage,
    receiver: Receiver,
    keeps_sum: bool,
    retries: Retries,
) -> Journey[tuple[Checksum | None, bool]]:
    """Receive all that is missing, and compare the whole; what is wrong is fetched once more.

    Returns
    -------
    checksum : Checksum or None
        Our own; None where none was wanted.
    verified : bool
        Is it the one that the storage reports?
    """
    is_second = False
    while True:
        try:
            yield from _received(door, receiver, keeps_sum, retries)
            return (yield from _compared(door, receiver, keeps_sum, retries))
        except NoRanges as why:
            log.info("%s; fetching it in one piece", why)
            receiver.begin_anew()
        except (IntegrityError, NotTheFile) as why:
            entry = receiver.entry
            if len(receiver.windows) > 1 and isinstance(why, NotTheFile | SourceChanged):
                log.warning("%s; fetching it in one piece", why)
                receiver.begin_anew()
                continue
            if is_second:
                raise
            is_second = True
            fresh = yield from door.describing(entry.path, retries)
            if isinstance(why, NotTheFile) and entry.same_file_as(fresh) is not False:
                raise
            log.warning("%s; fetching it once more", why)
            retries.n_failed += 1
            receiver.begin_anew(fresh)
            _refuse_offline(fresh)


def _received(
    door: Storage,
    receiver: Receiver,
    keeps_sum: bool,
    retries: Retries,
) -> Journey[None]:
    """Receive all that is missing, in as many requests as there are windows."""
    path, missing = receiver.entry.path, receiver.missing()
    if not missing:
        return
    if len(missing) == 1:
        yield from door.receiving(path, missing[0], retries)
        return

    def others(windows: list[Window]) -> Journey[None]:
        while receiver.n_answers == n_before:
            yield Pause(_AWAIT_FIRST_S)
        pool = receiver.answered_by
        yield Gather([door.receiving(path, w, retries.of_one(), shortcut=pool) for w in windows])

    n_before = receiver.n_answers
    first, *rest = missing
    journeys = [door.receiving(path, first, retries.of_one()), others(rest)]
    if isinstance(receiver, Part):
        journeys.append(_hashed_along(receiver, keeps_sum=keeps_sum))
    yield Gather(journeys)


def _hashed_along(part: Part, *, keeps_sum: bool) -> Journey[None]:
    """Hash a large file from its beginning while the rest comes, where adler32 does not do."""
    while part.missing():
        yield Pause(_HASH_AGAIN_S)
        if part.promised is None and (part.n_answers == 0 or not keeps_sum):
            continue
        algorithm = part.promised.algorithm if part.promised else "sha256"
        if algorithm == "adler32":
            return
        yield Call(part.hash_on, algorithm)


def _compared(
    door: Storage,
    receiver: Receiver,
    keeps_sum: bool,
    retries: Retries,
) -> Journey[tuple[Checksum | None, bool]]:
    """Compare all bytes with what was promised of them."""
    if receiver.promised is None:
        receiver.promised = yield from _asked_for_checksum(door, receiver.entry.path, retries)
    promised = receiver.promised
    if promised is None:
        yield from _refuse_mixture(door, receiver, retries)
        if not keeps_sum:
            return None, False
    algorithm = promised.algorithm if promised else "sha256"
    size_bytes = 0 if algorithm == "adler32" else receiver.size_bytes
    ours = yield from _here_or_away(size_bytes, receiver.checksum, algorithm)
    if promised is None or ours.algorithm != promised.algorithm:  # of a pipe, told at the end
        return ours, False
    if ours != promised:
        raise ChecksumMismatch(
            "The bytes are not those the storage holds",
            where=receiver.entry.path,
            said=f"{promised} promised, {ours.value} came",
            hint="Try again; if it lasts, tell the site: the file may be damaged there.",
        )
    return ours, True


def _asked_for_checksum(door: Storage, path: str, retries: Retries) -> Journey[Checksum | None]:
    """Return the checksum that the storage tells by HEAD alone, as StoRM and XRootD do."""
    if door.tells_checksums is False:
        return None
    try:
        _, found = yield from door.measuring(path, retries)
    except StorageError as why:
        log.info("No checksum: %s", why)
        return None
    if door.tells_checksums is None:
        door.tells_checksums = bool(found)
    return sums.best(found)


def _refuse_mixture(door: Storage, receiver: Receiver, retries: Retries) -> Journey[None]:
    """Look at the source again, where several answers made a file that has no checksum."""
    if receiver.n_answers < 2:
        return
    fresh = yield from door.describing(receiver.entry.path, retries)
    if receiver.entry.same_file_as(fresh) is False:
        raise SourceChanged("The file was replaced meanwhile", where=receiver.entry.path)


def _here_or_away(size_bytes: int, function: Callable[..., T], *args: object) -> Journey[T]:
    """Call a function that takes as long as hashing some bytes: in a thread if they are many."""
    if size_bytes <= _HASH_HERE_BYTES:
        return function(*args)
    return (yield Call(function, *args))  # type: ignore[no-any-return]  # what it returns


def _record(
    local: str,
    receiver: Receiver,
    retries: int,
    checksum: Checksum | None,
    verified: bool,
    started: float,
) -> Transfer:
    return Transfer(
        path=receiver.entry.path,
        local=local,
        size_bytes=receiver.size_bytes,
        moved_bytes=receiver.moved_bytes,
        seconds=time.monotonic() - started,
        checksum=checksum,
        verified=verified,
        retries=retries,
        resumed_bytes=receiver.resumed_bytes,
        mtime=receiver.entry.mtime,
        server=receiver.server,
        note=None if verified else _UNVERIFIED,
    )


class Disk:
    """Calls to the local file system: here where they are quick, in threads where they are not.

    Where open, rename and close take 1 ms each, as over NFS, 5,000 files took 24 s here and 3 s in
    threads.

    Attributes
    ----------
    mean_s : float
        Running mean of the time of a call, seconds.
    """

    _SLOW_S = 3e-4
    #: So that a few calls that were kept waiting by other processes do not count.
    _MOST_S, _WEIGHT = 1e-3, 0.05

    def __init__(self) -> None:
        self.mean_s = 0.0

    def do(self, function: Callable[[], T]) -> Journey[T]:
        """Call a function, and return what it returns; a journey."""
        if self.mean_s > self._SLOW_S:
            return (yield Call(self._timed, function))  # type: ignore[no-any-return]  # as it does
        return self._timed(function)

    def _timed(self, function: Callable[[], T]) -> T:
        began = time.perf_counter()
        try:
            return function()
        finally:
            taken_s = min(time.perf_counter() - began, self._MOST_S)
            self.mean_s += self._WEIGHT * (taken_s - self.mean_s)


_disk = Disk()


# -- into a device or a pipe -----------------------------------------------------------------------


def _download_into_special(door: Storage, job: Job, started: float) -> Journey[Transfer]:
    with local_errors(job.local):
        descriptor = open_special(job.local)
    try:
        return (
            yield from download_into(door, job.entry, descriptor, os.fspath(job.local), started)
        )
    finally:
        os.close(descriptor)


def download_into(
    door: Storage, entry: Entry, descriptor: int, name: str, started: float | None = None
) -> Journey[Transfer]:
    """Write a file's bytes into a device, a pipe or a stream, in order, as they come.

    Parameters
    ----------
    door : Storage
        Where from.
    entry : Entry
        The file.
    descriptor : int
        Where to.
    name : str
        What that is called.
    started : float, optional
        When it began, see `time.monotonic`; by default now.

    Raises
    ------
    ChecksumMismatch
        What was written is not what the storage holds.
    UsageError
        It can't be written into; `NobodyReads` where the reader of a pipe has gone.
    """
    started = time.monotonic() if started is None else started
    _refuse_offline(entry)
    pipe, retries = Pipe(entry, descriptor, name), Retries(door.settings, also=(Truncated,))
    yield from _received(door, pipe, True, retries)
    checksum, verified = yield from _compared(door, pipe, True, retries)
    pipe.tell()
    return _record(name, pipe, retries.n_failed, checksum, verified, started)


# -- what is here already --------------------------------------------------------------------------


def looked_at(
    entry: Entry, local: StrPath, proof: Transfer | None, check: Check
) -> Journey[tuple[Action, str]]:
    """Look at what is here and decide, as `look` does; a file that is compared is read apart."""
    action, why = decide(entry, _here(local), proof, check=check)
    if action is not Action.COMPARE:
        return action, why
    return (yield Call(_compare, local, entry))  # type: ignore[no-any-return]  # of _compare


def look(
    entry: Entry, local: StrPath, proof: Transfer | None = None, check: Check = "proof"
) -> tuple[Action, str]:
    """Look at what is here and decide: fetch or skip, and why; see `decide.decide`."""
    action, why = decide(entry, _here(local), proof, check=check)
    return (action, why) if action is not Action.COMPARE else _compare(local, entry)


def _compare(local: StrPath, entry: Entry) -> tuple[Action, str]:
    promised = sums.best(entry.checksums)
    with local_errors(local, "The file that is here can't be read", hint=None):
        if promised is not None and sums.of_file(Path(local), promised.algorithm) == promised:
            return Action.SKIP, "its checksum agrees"
    return Action.FETCH, "its checksum differs"


def _here(local: StrPath) -> LocalState | None:
    with local_errors(local):
        if not os.access(local, os.F_OK):  # an exception costs more than the call
            return None
        try:
            about = os.stat(local)  # noqa: PTH116  the cheapest
        except FileNotFoundError:
            return None
    if stat.S_ISDIR(about.st_mode):
        raise local_error(IsADirectoryError(21, "there is a directory of that name"), local)
    return LocalState(about.st_size, about.st_mtime, not stat.S_ISREG(about.st_mode))


def in_place(
    job: Job, proof: Transfer | None, why: str, started: float, check: Check = "proof"
) -> Transfer:
    """Return the record of a file that is here; an earlier proof of the same file still counts."""
    entry = job.entry
    tidy(os.fspath(job.local))
    progress.current().advance(entry.size_bytes or 0)
    if proof is not None and not entry.same_file_as(proof.source):
        proof = None
    return Transfer(
        path=entry.path,
        local=str(job.local),
        size_bytes=entry.size_bytes,
        checksum=sums.best(entry.checksums) or (proof.checksum if proof else None),
        verified=(bool(entry.checksums) and check != "size")
        or (proof is not None and proof.verified),
        skipped=True,
        mtime=entry.mtime,
        seconds=time.monotonic() - started,
        note=why,
    )


def destination(dest: str | os.PathLike[str], name: str) -> Path:
    """Say where a single file comes to lie: in a folder under its name, or under a new name.

    Parameters
    ----------
    dest : path
        A folder (one that is there, or a path that ends in a slash), or the new name.
    name : str
        The file's name at the door.
    """
    local = Path(dest)
    with local_errors(local):
        is_folder = local.is_dir() or os.fspath(dest).endswith(os.sep)
    if not is_folder:
        return local
    if not is_safe_name(name):
        raise UsageError("This can't be a file's name here", where=repr(name))
    return local / name


def _refuse_offline(entry: Entry) -> None:
    """Raise for what a listing shows as not readable.

    dCache 12.1 (DcacheFileResource.java): no length while it is uploaded; localities NEARLINE (on
    tape alone: a GET would start a recall), LOST, and UNAVAILABLE, which is no reason not to ask:
    it is also shown of all files for some ten seconds after the pool manager was restarted (seen
    with 11.2.5).
    """
    if entry.error is not None:
        raise StorageError(
            "It is there, but the storage can't describe it",
            where=entry.path,
            said=entry.error,
            hint="Try again later; if it lasts, ask the site.",
        )
    if entry.kind == "link":
        refuse_as_file(entry)
    if entry.size_bytes is None and not entry.is_dir:
        raise DoorBusy(
            "The file is still being uploaded", where=entry.path, hint="Come back later."
        )
    if entry.locality == "NEARLINE":
        raise Nearline("The file is on tape and must be staged first", where=entry.path)
    if entry.locality == "LOST":
        raise Lost("The storage says the file is lost", where=entry.path)
