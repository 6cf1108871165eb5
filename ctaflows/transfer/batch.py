"""Many files: planned, then fetched at once, each with its own result; one is a batch of one."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ctaflows import atomic_files, cancel
from ctaflows.atomic_files import is_special, local_error
from ctaflows.errors import CtaflowsError, NoSpace, UsageError, concerns_all, error_text
from ctaflows.model import Report, Transfer
from ctaflows.transfer import progress
from ctaflows.transfer.decide import Action, Check
from ctaflows.transfer.download import Job, download, download_into, look
from ctaflows.transfer.manifest import kept_open
from ctaflows.transfer.part import BESIDE_ENDINGS, RANGES_FROM_BYTES, part_name, part_path
from ctaflows.transport.driver import Width, borrowed, run_journey

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from typing import Any

    from ctaflows.model import Entry
    from ctaflows.storage.protocol import Storage
    from ctaflows.transfer.manifest import Manifest
    from ctaflows.transport.wishes import Journey

#: Requests at once, to begin with: of files, and of the ranges of a single file.
_FIRST, _FIRST_RANGES = 8, 2


def plan(
    jobs: Sequence[Job], *, manifest: Manifest | None = None, check: Check = "proof"
) -> list[Transfer]:
    """Return what `fetch_many` would do, without doing it: the reason stands in ``note``."""
    planned = []
    for job in jobs:
        proof = manifest.proofs.get(job.entry.path) if manifest else None
        action, why = look(job.entry, job.local, proof, check)
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


def fetch_alone(door: Storage, job: Job, *, check: Check = "proof") -> Transfer:
    """Fetch one file, and tell the listener of it.

    Raises
    ------
    CtaflowsError
        The file is not in place; what came of it is kept for a later run, unless it was wrong.
    """
    _check_space([job])
    progress.current().expect(1, job.entry.size_bytes or 0)
    done = _alone(door, download(door, job, check=check), job.entry)
    progress.current().finished(done)
    return done


def fetch_into(door: Storage, entry: Entry, descriptor: int, name: str) -> Transfer:
    """Write a file into a device, a pipe or a stream, see `download.download_into`."""
    return _alone(door, download_into(door, entry, descriptor, name), entry)


def _alone(door: Storage, journey: Journey[Transfer], entry: Entry) -> Transfer:
    stop, keeps = cancel.current(), (entry.size_bytes or 0) < RANGES_FROM_BYTES
    limit = progress.rate_limit()
    with borrowed(door.session, keeps=keeps) as driver:
        return run_journey(
            journey, door.session, driver=driver, first=_FIRST_RANGES, stop=stop, limit=limit
        )


def fetch_many(
    door: Storage,
    jobs: Sequence[Job],
    *,
    manifest: Manifest | None = None,
    check: Check = "proof",
) -> Report:
    """Fetch many files at once.

    Parameters
    ----------
    door : Storage
        Where from.
    jobs : sequence of Job
        What and where to.
    manifest : Manifest, optional
        Gets a line for each file as it finishes, unless it holds the same proof already.
    check : {"proof", "checksum", "size"}
        See `decide.decide`.

    Returns
    -------
    Report
        In the order of the jobs, failed ones with their error.

    Raises
    ------
    NoSpace
        What is to be fetched is larger than what is free here; nothing was fetched.
    UsageError
        Two files would get the same name here; nothing was fetched.
    Stopped
        The work was stopped.
    AuthError
        The token is not accepted: no further file was asked for.
    """
    started = time.monotonic()
    _refuse_doubles(jobs, manifest)
    _check_space(jobs)
    progress.current().expect(len(jobs), sum(j.entry.size_bytes or 0 for j in jobs))
    results: list[Transfer | None] = [None] * len(jobs)
    places = iter(range(len(jobs)))
    proofs = manifest.proofs if manifest else {}

    def more() -> tuple[Journey[Transfer], int] | None:
        place = next(places, None)
        if place is None:
            return None
        job = jobs[place]
        return download(door, job, proof=proofs.get(job.entry.path), check=check), place

    with atomic_files.fsync_folders_once(), kept_open(manifest):
        for place, done in _finished(door, jobs, more):
            if manifest:
                done = recorded(manifest, done)
            results[place] = done
            progress.current().finished(done)
        note_unwritten(manifest, results)
    transfers = tuple(done for done in results if done is not None)
    return Report(transfers, time.monotonic() - started)


def _finished(door: Storage, jobs: Sequence[Job], more: Any) -> Iterator[tuple[int, Transfer]]:
    """Run the journeys of files, and yield the place and the record of each, well or not."""
    is_one_large = len(jobs) == 1 and (jobs[0].entry.size_bytes or 0) >= RANGES_FROM_BYTES
    width = Width(_FIRST_RANGES if is_one_large else _FIRST, door.settings.transfers)
    has_ranges = any((job.entry.size_bytes or 0) >= RANGES_FROM_BYTES for job in jobs)
    with borrowed(door.session, keeps=not has_ranges) as driver:
        for task in driver.run(
            more, door.session, width, stop=cancel.current(), limit=progress.rate_limit()
        ):
            if task.error is None:
                yield task.tag, task.result
            elif not isinstance(task.error, CtaflowsError):
                raise task.error
            elif not concerns_all(task.error):  # what does is raised when all have ended
                job, why = jobs[task.tag], error_text(task.error)
                yield (
                    task.tag,
                    Transfer(job.entry.path, str(job.local), job.entry.size_bytes, error=why),
                )


def recorded(manifest: Manifest, done: Transfer) -> Transfer:
    """Return the record of a file, once it is in a manifest; with an error where it can't be."""
    try:
        manifest.record(done)
    except CtaflowsError as why:
        return replace(done, error=done.error or error_text(why))
    return done


def note_unwritten(manifest: Manifest | None, results: list[Transfer | None]) -> None:
    """Write the lines of a manifest that wait; the files of those that can't be get an error."""
    errors = manifest.unwritten() if manifest else {}
    for place, done in enumerate(results if errors else ()):
        if done is not None and done.path in errors:
            results[place] = replace(done, error=done.error or error_text(errors[done.path]))


def _refuse_doubles(jobs: Sequence[Job], manifest: Manifest | None) -> None:
    """Refuse to let one file take the place of another, or of the manifest."""
    folders: dict[str, str] = {}  # as they are written, to what they are
    seen: dict[str, str] = {}

    def place(path: str) -> str:
        folder, _, name = path.rpartition("/")
        if folder not in folders:
            folders[folder] = os.path.realpath(folder or "/" * path.startswith("/") or ".")
        return f"{folders[folder]}/{name}"

    if manifest is not None:
        seen[place(os.fspath(manifest.file))] = "the manifest"
    for job in jobs:
        other = seen.setdefault(place(os.fspath(job.local)), job.entry.path)
        if other != job.entry.path:
            raise UsageError(
                "Two files would get the same name here",
                where=str(job.local),
                said=f"{other} and {job.entry.path}",
                hint="Fetch them into different folders.",
            )
    _refuse_part_names(seen)


def _refuse_part_names(locals_: Collection[str]) -> None:
    """Refuse a file whose name is that of another one's unfinished bytes: one would be lost."""
    suspects = {
        path for path in locals_ if ".part" in (name := path.rpartition("/")[2]) and name[0] == "."
    }
    if not suspects:
        return
    for path in locals_:
        part = part_name(path)
        clash = suspects & {part, *(part + ending for ending in BESIDE_ENDINGS)}
        if clash:
            raise UsageError(
                "A file has the name under which another one is fetched",
                where=", ".join(sorted(clash)),
                said=f"the other is {path}",
                hint="Leave one of them out with --exclude, or fetch it into another folder.",
            )


def _check_space(jobs: Sequence[Job]) -> None:
    """Refuse at once what can't fit, or lies in a current folder that was removed."""
    if not jobs:
        return
    try:
        folder = jobs[0].local.absolute().parent
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        needed = sum(job.entry.size_bytes or 0 for job in jobs)
        if needed > free:  # only then is it worth a look at each file
            needed = sum(map(_missing_bytes, jobs))
    except OSError as why:
        raise local_error(why, jobs[0].local) from why
    if needed > free:
        raise NoSpace(
            "What is to be fetched does not fit here",
            where=str(folder),
            said=f"{needed:,} bytes needed, {free:,} free",
            hint="Name another folder, or select fewer files.",
        )


def _missing_bytes(job: Job) -> int:
    """Say how much more disk a file needs: what is here of it, whole or in part, counts."""
    size = job.entry.size_bytes or 0
    if is_special(job.local):
        return 0
    if job.local.exists() and job.local.stat().st_size == size:
        return 0
    part = part_path(job.local)
    return max(0, size - (part.stat().st_size if part.exists() else 0))
