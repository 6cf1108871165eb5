"""Fetch: part file, resume, whole-file checksum, then the final name."""

from __future__ import annotations

import logging
import os
import stat
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ctaflows import cancel
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
    UsageError,
)
from ctaflows.model import Entry, Transfer
from ctaflows.storage import checksum as sums
from ctaflows.storage.links import refuse_as_file
from ctaflows.storage.paths import is_safe_name
from ctaflows.transfer import progress
from ctaflows.transfer.copy import BROKEN, Copy, is_hopeless, pause_s
from ctaflows.transfer.decide import Action, Check, LocalState, decide
from ctaflows.transfer.part_file import Part, Pipe, tidy
from ctaflows.transfer.range_journal import RANGES_FROM_BYTES, RangeJournal
from ctaflows.transfer.ranged import Crew, RangedCopy
from ctaflows.transfer.small import SMALL_BYTES, fetch_small

if TYPE_CHECKING:
    import threading

    from ctaflows.model import Checksum
    from ctaflows.storage.protocol import Storage

log = logging.getLogger("ctaflows.transfer")

_UNVERIFIED = "the storage holds no checksum of this file"


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


def fetch(
    door: Storage,
    job: Job,
    *,
    proof: Transfer | None = None,
    check: Check = "proof",
    stop: threading.Event | None = None,
    was_wrong: bool = False,
) -> Transfer:
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
    stop : threading.Event, optional
        Ends the transfer soon after it is set.
    was_wrong : bool
        It was fetched once already, and the bytes were not those the storage holds.

    Returns
    -------
    Transfer
        The proof.

    Raises
    ------
    CtaflowsError
        The file is not in place; what came of it is kept for the next try, unless it was wrong.
    """
    started = time.monotonic()
    entry = job.entry
    door.normalise(entry.path)  # a name that can't be asked for leaves no part file behind
    action, why = look(entry, job.local, proof, check)
    if action is Action.SKIP:
        return in_place(job, proof, why, started, check)
    with door.transfer_slots:
        if action is Action.WRITE:
            return _fetch_into_special(door, job, stop or cancel.current())
        if was_wrong:
            return _fetch_again(door, job, proof, stop or cancel.current())
        return _fetch_checked(door, job, proof, stop or cancel.current())


def in_place(
    job: Job,
    proof: Transfer | None,
    why: str,
    started: float,
    check: Check = "proof",
) -> Transfer:
    """Make the record of a file that is here; an earlier proof of the same file still counts."""
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


def look(
    entry: Entry,
    local: Path,
    proof: Transfer | None = None,
    check: Check = "proof",
) -> tuple[Action, str]:
    """Look at what is here and decide: fetch or skip, and why; see `decide.decide`."""
    action, why = decide(entry, _here(local), proof, check=check)
    if action is not Action.COMPARE:
        return action, why
    if _same(local, entry):
        return Action.SKIP, "its checksum agrees"
    return Action.FETCH, "its checksum differs"


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


def _fetch_into_special(door: Storage, job: Job, stop: threading.Event) -> Transfer:
    with local_errors(job.local):
        descriptor = open_special(job.local)
    try:
        return fetch_into(door, job.entry, descriptor, str(job.local), stop)
    finally:
        os.close(descriptor)


def fetch_into(
    door: Storage, entry: Entry, descriptor: int, name: str, stop: threading.Event | None = None
) -> Transfer:
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
    stop : threading.Event, optional
        Ends the transfer soon after it is set.

    Raises
    ------
    ChecksumMismatch
        What was written is not what the storage holds.
    UsageError
        It can't be written into; `NobodyReads` where the reader of a pipe has gone.
    """
    started, stop = time.monotonic(), stop or cancel.current()
    _refuse_offline(entry)
    pipe = Pipe(descriptor, name)
    copy = Copy(pipe, entry, stop)
    while not copy.complete:
        _go_on(door, copy, stop)
    _refuse_mixture(door, copy)
    checksum, verified = copy.proof()
    return _record(Job(entry, Path(name)), copy, pipe.size_bytes, checksum, verified, started)


def _record(
    job: Job,
    copy: Copy | RangedCopy,
    size_bytes: int,
    checksum: Checksum | None,
    verified: bool,
    started: float,
) -> Transfer:
    return Transfer(
        path=job.entry.path,
        local=str(job.local),
        size_bytes=size_bytes,
        moved_bytes=copy.moved_bytes,
        checksum=checksum,
        verified=verified,
        retries=copy.retries,
        resumed_bytes=copy.resumed_bytes,
        seconds=time.monotonic() - started,
        mtime=job.entry.mtime,
        server=copy.server,
        note=None if verified else _UNVERIFIED,
    )


def _fetch_checked(
    door: Storage, job: Job, proof: Transfer | None, stop: threading.Event
) -> Transfer:
    """Fetch; if the whole is wrong, look at the source again and fetch once more from zero."""
    try:
        return _fetch_once(door, job, proof, stop)
    except IntegrityError as why:
        log.warning("%s; fetching it once more", why)
        return _fetch_again(door, job, proof, stop)
    except NotTheFile as why:
        if job.entry.same_file_as(door.stat(job.entry.path)) is not False:
            raise
        log.warning("%s; it was replaced, fetching the new one", why)
        return _fetch_again(door, job, proof, stop)


def _fetch_again(
    door: Storage, job: Job, proof: Transfer | None, stop: threading.Event
) -> Transfer:
    again = replace(job, entry=door.stat(job.entry.path))
    done = _fetch_once(door, again, proof, stop)
    return replace(done, retries=done.retries + 1)


def _fetch_once(door: Storage, job: Job, proof: Transfer | None, stop: threading.Event) -> Transfer:
    entry, started = job.entry, time.monotonic()
    _refuse_offline(entry)
    if entry.size_bytes is not None and entry.size_bytes <= SMALL_BYTES:
        done = fetch_small(door, entry, job.local, stop)
        if done is not None:
            return done
    with Part(job.local, entry, stop) as part:
        if part.waited:  # another process was at the same file: perhaps it is done
            action, why = look(entry, job.local, proof)
            if action is Action.SKIP:
                part.discard()
                return in_place(job, proof, why, started)
        try:
            copy, checksum, verified = _received(door, part, job, stop)
        except (ChecksumMismatch, SourceChanged):
            part.discard()
            progress.current().advance(-part.size_bytes)
            raise
        part.finish(entry.mtime.timestamp() if entry.mtime else None)
    return _record(job, copy, part.size_bytes, checksum, verified, started)


def _received(
    door: Storage, part: Part, job: Job, stop: threading.Event
) -> tuple[Copy | RangedCopy, Checksum | None, bool]:
    """Receive what is missing, and compare the whole."""
    entry = job.entry
    missing_bytes = (entry.size_bytes or 0) - part.size_bytes
    may_range = (
        door.has_ranges and door.settings.transfers > 1 and missing_bytes >= RANGES_FROM_BYTES
    )
    if may_range or part.ranges_path.exists():
        try:
            return _in_ranges(door, part, job, stop)
        except NoRanges as why:
            log.info("%s; fetching it in one piece", why)
            progress.current().advance(-part.size_bytes)
            part.restart()
    copy = Copy(part, entry, stop, keeps_sum=job.keeps_sum)
    if 0 < part.size_bytes == entry.size_bytes:  # killed between the last byte and the end
        copy.adopt(sums.best(door.checksums(entry.path)) if copy.promised is None else None)
    while not copy.complete:
        _go_on(door, copy, stop)
    _refuse_mixture(door, copy)
    return copy, *copy.proof()


def _in_ranges(
    door: Storage, part: Part, job: Job, stop: threading.Event
) -> tuple[RangedCopy, Checksum | None, bool]:
    entry = job.entry
    with RangeJournal(part.ranges_path, entry.size_bytes or 0, part.size_bytes) as ledger:
        copy = RangedCopy(part, ledger, entry, keeps_sum=job.keeps_sum)
        if copy.promised is None and not copy.has_more:
            copy.promised = sums.best(door.checksums(entry.path))
        Crew(door, copy, stop).receive()
        _refuse_mixture(door, copy)
        return copy, *copy.proof()


def _refuse_mixture(door: Storage, copy: Copy | RangedCopy) -> None:
    """Look at the source again, where several answers made a file that has no checksum."""
    if copy.promised is not None or copy.n_answers < 2:
        return
    if copy.entry.same_file_as(door.stat(copy.entry.path)) is False:
        raise SourceChanged("The file was replaced meanwhile", where=copy.entry.path)


def _go_on(door: Storage, copy: Copy, stop: threading.Event) -> None:
    """Receive until the end or until the connection breaks; the caller comes again."""
    try:
        start, size = copy.part.size_bytes, copy.entry.size_bytes
        end = size if start else None  # see `WebDAVStorage.receive`
        head = door.receive(copy.entry.path, copy, start=start, end=end, stop=stop)
        copy.retries += head.retries
        copy.ended()
    except BROKEN as why:
        copy.broke_off()
        copy.retries += 1
        if copy.n_fruitless_tries() >= door.settings.attempts or is_hopeless(why):
            raise
        log.warning("%s; going on from byte %d", why, copy.part.size_bytes)
        stop.wait(pause_s(why, door.settings))


def _here(local: Path) -> LocalState | None:
    with local_errors(local):
        try:
            about = os.stat(local)  # noqa: PTH116  the cheapest
        except FileNotFoundError:
            return None
    if stat.S_ISDIR(about.st_mode):
        raise local_error(IsADirectoryError(21, "there is a directory of that name"), local)
    return LocalState(about.st_size, about.st_mtime, not stat.S_ISREG(about.st_mode))


def _same(local: Path, entry: Entry) -> bool:
    promised = sums.best(entry.checksums)
    with local_errors(local, "The file that is here can't be read", hint=None):
        return promised is not None and sums.of_file(local, promised.algorithm) == promised


def _refuse_offline(entry: Entry) -> None:
    """Raise for what a listing shows as not readable, so that no GET starts a recall from tape.

    dCache 12.1 (DcacheFileResource.java): no length while it is uploaded; localities NEARLINE (on
    tape alone), LOST and UNAVAILABLE. The last is also shown of all files for some ten seconds
    after the pool manager was restarted (seen with 11.2.5).
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
    if entry.locality in ("LOST", "UNAVAILABLE"):
        raise Lost(f"The storage says the file is {entry.locality.lower()}", where=entry.path)
