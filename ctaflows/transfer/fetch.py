"""Fetch: part file, resume, whole-file checksum, then the final name."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ctaflows.errors import (
    ChecksumMismatch,
    CtaflowsError,
    DoorBusy,
    IntegrityError,
    Lost,
    Nearline,
    NetworkError,
    NoSpace,
    SizeMismatch,
    Truncated,
    UsageError,
    error_text,
)
from ctaflows.model import Checksum, Entry, Report, Transfer
from ctaflows.storage import checksum as sums
from ctaflows.storage.door import digests
from ctaflows.storage.paths import is_safe_name
from ctaflows.transfer import progress
from ctaflows.transfer.crew import at_once
from ctaflows.transfer.part import Part, local_error
from ctaflows.transfer.plan import Action, LocalState, decide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctaflows.storage.door import Door
    from ctaflows.transfer.manifest import Manifest
    from ctaflows.transport import Stream

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
    """

    entry: Entry
    local: Path


class Stopped(CtaflowsError):
    """The transfer was asked to stop; what came so far is kept."""

    exit_code = 130


def fetch(
    door: Door,
    job: Job,
    *,
    proof: Transfer | None = None,
    stop: threading.Event | None = None,
) -> Transfer:
    """Fetch one file, unless it is here and proven.

    Parameters
    ----------
    door : Door
        Where from.
    job : Job
        What and where to.
    proof : Transfer, optional
        What a manifest says of an earlier transfer.
    stop : threading.Event, optional
        Ends the transfer soon after it is set.

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
    action, why = look(entry, job.local, proof)
    if action is Action.SKIP:
        progress.current().advance(entry.size_bytes or 0)
        known = proof.checksum if proof is not None else None
        checksum = sums.best(entry.checksums) or known
        return Transfer(
            path=entry.path,
            local=str(job.local),
            size_bytes=entry.size_bytes,
            checksum=checksum,
            verified=bool(entry.checksums),
            skipped=True,
            mtime=entry.mtime,
            seconds=time.monotonic() - started,
            note=why,
        )
    with door.transfer_slots:
        done = _fetch_checked(door, job, stop or threading.Event())
    return replace(done, seconds=time.monotonic() - started)


def look(entry: Entry, local: Path, proof: Transfer | None = None) -> tuple[Action, str]:
    """Look at what is here and decide: fetch or skip, and why; see `plan.decide`."""
    action, why = decide(entry, _here(local), proof)
    if action is not Action.COMPARE:
        return action, why
    if _same(local, entry):
        return Action.SKIP, "its checksum agrees"
    return Action.FETCH, "its checksum differs"


def plan(jobs: Sequence[Job], *, manifest: Manifest | None = None) -> list[Transfer]:
    """Say what `fetch_many` would do, without doing it: the reason stands in ``note``."""
    planned = []
    for job in jobs:
        proof = manifest.proofs.get(job.entry.path) if manifest else None
        action, why = look(job.entry, job.local, proof)
        planned.append(
            Transfer(
                job.entry.path,
                str(job.local),
                job.entry.size_bytes,
                mtime=job.entry.mtime,
                skipped=action is Action.SKIP,
                note=f"{action.value}: {why}",
            )
        )
    return planned


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
    if not local.is_dir() and not os.fspath(dest).endswith(os.sep):
        return local
    if not is_safe_name(name):
        raise UsageError("This can't be a file's name here", where=repr(name))
    return local / name


def fetch_many(door: Door, jobs: Sequence[Job], *, manifest: Manifest | None = None) -> Report:
    """Fetch many files at once.

    Parameters
    ----------
    door : Door
        Where from; its ``transfer_slots`` bound how many move at once.
    jobs : sequence of Job
        What and where to.
    manifest : Manifest, optional
        Gets a line for each file as it finishes, unless it holds the same proof already.

    Returns
    -------
    Report
        In the order of the jobs, failed ones with their error.

    Raises
    ------
    NoSpace
        What is to be fetched is larger than what is free here; nothing was fetched.
    """
    started = time.monotonic()
    stop = threading.Event()
    _check_space(jobs)
    progress.current().expect(len(jobs), sum(j.entry.size_bytes or 0 for j in jobs))

    def one(job: Job) -> Transfer:
        proof = manifest.proofs.get(job.entry.path) if manifest else None
        try:
            done = fetch(door, job, proof=proof, stop=stop)
        except CtaflowsError as why:
            done = Transfer(
                job.entry.path, str(job.local), job.entry.size_bytes, error=error_text(why)
            )
        known = done.skipped and proof is not None and proof.verified == done.verified
        if manifest and not known:
            manifest.append(done)
        progress.current().finished(done)
        return done

    transfers = at_once(one, jobs, door.settings.transfers, stop)
    return Report(tuple(transfers), time.monotonic() - started)


def _fetch_checked(door: Door, job: Job, stop: threading.Event) -> Transfer:
    """Fetch; if the whole is wrong, look at the source again and fetch once more from zero."""
    try:
        return _fetch_once(door, job, stop)
    except IntegrityError as why:
        log.warning("%s; fetching it once more", why)
        again = Job(door.stat(job.entry.path), job.local)
        done = _fetch_once(door, again, stop)
        return replace(done, retries=done.retries + 1)


def _fetch_once(door: Door, job: Job, stop: threading.Event) -> Transfer:
    entry = job.entry
    _refuse_offline(entry)
    with Part(job.local, entry) as part:
        copy = _Copy(part, entry, resumed_bytes=part.size_bytes)
        if 0 < part.size_bytes == entry.size_bytes:  # killed between the last byte and the end
            copy.adopt(sums.best(door.checksums(entry.path)) if copy.promised is None else None)
        while not copy.complete:
            _go_on(door, copy, stop)
        try:
            checksum, verified = copy.proof()
        except IntegrityError:
            part.discard()
            progress.current().advance(-part.size_bytes)
            raise
        part.finish(entry.mtime.timestamp() if entry.mtime else None)
    return Transfer(
        path=entry.path,
        local=str(job.local),
        size_bytes=part.size_bytes,
        moved_bytes=copy.moved_bytes,
        checksum=checksum,
        verified=verified,
        retries=copy.retries,
        resumed_bytes=copy.resumed_bytes,
        mtime=entry.mtime,
        server=copy.server,
        note=None if verified else _UNVERIFIED,
    )


def _go_on(door: Door, copy: _Copy, stop: threading.Event) -> None:
    """Receive until the end or until the connection breaks; the caller comes again."""
    try:
        with door.open(copy.entry.path, start=copy.part.size_bytes) as stream:
            copy.retries += stream.retries
            copy.begin(stream)
            for chunk in stream.chunks():
                copy.take(chunk)
                if stop.is_set():
                    raise Stopped("Stopped; the next run goes on from here", where=copy.entry.path)
        copy.ended()
    except (NetworkError, Truncated) as why:
        copy.retries += 1
        if copy.n_fruitless_tries() >= door.settings.attempts or not (
            why.retryable or isinstance(why, Truncated)
        ):
            raise
        log.warning("%s; going on from byte %d", why, copy.part.size_bytes)
        stop.wait(door.settings.backoff_s)


class _Copy:
    """The state of one file on its way: bytes, checksum so far, what was promised."""

    def __init__(self, part: Part, entry: Entry, resumed_bytes: int) -> None:
        self.part = part
        self.entry = entry
        self.resumed_bytes = resumed_bytes
        self.moved_bytes = 0
        self.retries = 0
        self._furthest_bytes = 0
        self._fruitless = 0
        self.server: str | None = None
        self.promised = sums.best(entry.checksums)
        self._hasher: sums.Hasher | None = None
        self.complete = False
        progress.current().advance(resumed_bytes)

    def begin(self, stream: Stream) -> None:
        """Look at the headers of an answer, before its bytes."""
        self.server = stream.headers.get("server") or self.server
        if self.promised is None:
            self.promised = sums.best(digests(stream.headers))
        if stream.status == 200 and self.part.size_bytes:  # the server ignores ranges
            progress.current().advance(-self.part.size_bytes)
            self.part.restart()
            self.resumed_bytes = 0
            self._hasher = None
        if self._hasher is None:
            self._hash_what_is_there()

    def adopt(self, promised: Checksum | None) -> None:
        """Take the bytes that are there for the whole file; nothing is left to receive."""
        self.promised = self.promised or promised
        self._hash_what_is_there()
        self.complete = True

    def n_fruitless_tries(self) -> int:
        """Count the tries in a row that came no further than any before."""
        fruitful = self.part.size_bytes > self._furthest_bytes
        self._furthest_bytes = max(self._furthest_bytes, self.part.size_bytes)
        self._fruitless = 1 if fruitful else self._fruitless + 1
        return self._fruitless

    def _hash_what_is_there(self) -> None:
        self._hasher = sums.Hasher(self.promised.algorithm if self.promised else "sha256")
        for block in self.part.read_back():
            self._hasher.update(block)

    def take(self, chunk: bytes) -> None:
        """Take in the next bytes."""
        size = self.entry.size_bytes
        if size is not None and self.part.size_bytes + len(chunk) > size:
            self.part.discard()
            raise SizeMismatch(
                "More bytes came than the listing promised",
                where=self.entry.path,
                said=f"{size} bytes promised",
            )
        self.part.write(chunk)
        assert self._hasher is not None  # noqa: S101  begin() made it
        self._hasher.update(chunk)
        self.moved_bytes += len(chunk)
        progress.current().advance(len(chunk))

    def ended(self) -> None:
        """Say that an answer came to its end."""
        size = self.entry.size_bytes
        if size is not None and self.part.size_bytes < size:
            raise Truncated(
                "The answer ended too early",
                where=self.entry.path,
                said=f"{self.part.size_bytes} of {size} bytes",
            )
        self.complete = True

    def proof(self) -> tuple[Checksum, bool]:
        """Compare the whole file with what was promised.

        Raises
        ------
        ChecksumMismatch
            It is not the same.
        """
        assert self._hasher is not None  # noqa: S101
        ours = self._hasher.checksum()
        if self.promised is None:
            return ours, False
        if ours != self.promised:
            raise ChecksumMismatch(
                "The bytes are not those the storage holds",
                where=self.entry.path,
                said=f"{self.promised} promised, {ours.value} came",
                hint="Try again; if it lasts, tell the site: the file may be damaged there.",
            )
        return ours, True


def _here(local: Path) -> LocalState | None:
    try:
        about = local.stat()
    except FileNotFoundError:
        return None
    except OSError as why:
        raise local_error(why, local) from why
    if local.is_dir():
        raise local_error(IsADirectoryError(21, "there is a directory of that name"), local)
    return LocalState(about.st_size, about.st_mtime)


def _same(local: Path, entry: Entry) -> bool:
    promised = sums.best(entry.checksums)
    try:
        return promised is not None and sums.of_file(local, promised.algorithm) == promised
    except OSError as why:
        raise local_error(why, local) from why


def _refuse_offline(entry: Entry) -> None:
    if entry.size_bytes is None and not entry.is_dir:
        raise DoorBusy(
            "The file is still being uploaded", where=entry.path, hint="Come back later."
        )
    if entry.locality == "NEARLINE":
        raise Nearline("The file is on tape and must be staged first", where=entry.path)
    if entry.locality in ("LOST", "UNAVAILABLE"):
        raise Lost(f"The storage says the file is {entry.locality.lower()}", where=entry.path)


def _check_space(jobs: Sequence[Job]) -> None:
    """Refuse at once what can't fit, rather than fill the disk first."""
    if not jobs:
        return
    needed = sum(j.entry.size_bytes or 0 for j in jobs if not j.local.exists())
    folder = jobs[0].local.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise NoSpace(
            "What is to be fetched does not fit here",
            where=str(folder),
            said=f"{needed:,} bytes needed, {free:,} free",
            hint="Name another folder with --dest, or select fewer files.",
        )
