"""Many files: planned, then fetched at once, each with its own result."""

from __future__ import annotations

import os
import shutil
import threading
import time
from typing import TYPE_CHECKING

from ctaflows import atomic_files
from ctaflows.atomic_files import is_special, local_error
from ctaflows.errors import NoSpace, UsageError
from ctaflows.model import Report, Transfer
from ctaflows.transfer import progress
from ctaflows.transfer.decide import Action, Check
from ctaflows.transfer.fetch import Job, fetch, look
from ctaflows.transfer.haul import Haul, kept_open, sorted_out
from ctaflows.transfer.part_file import BESIDE_ENDINGS, part_name, part_path
from ctaflows.transfer.twin import Line

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ctaflows.storage.protocol import Storage
    from ctaflows.transfer.beside import Beside
    from ctaflows.transfer.manifest import Manifest


def plan(
    jobs: Sequence[Job],
    *,
    manifest: Manifest | None = None,
    check: Check = "proof",
) -> list[Transfer]:
    """Say what `fetch_many` would do, without doing it: the reason stands in ``note``."""
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
    """Fetch one file as `fetch` does, and tell the listener of it."""
    _check_space([job])
    progress.current().expect(1, job.entry.size_bytes or 0)
    done = fetch(door, job, check=check)
    progress.current().finished(done)
    return done


def fetch_many(
    door: Storage,
    jobs: Sequence[Job],
    *,
    manifest: Manifest | None = None,
    check: Check = "proof",
    beside: Beside | None = None,
) -> Report:
    """Fetch many files at once.

    Parameters
    ----------
    door : Storage
        Where from; its ``transfer_slots`` bound how many move at once.
    jobs : sequence of Job
        What and where to.
    manifest : Manifest, optional
        Gets a line for each file as it finishes, unless it holds the same proof already.
    check : {"proof", "checksum", "size"}
        See `decide.decide`.
    beside : Beside, optional
        A second process for the same files, see `haul.beside`.

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
    """
    started = time.monotonic()
    stop = threading.Event()
    _refuse_doubles(jobs, manifest)
    _check_space(jobs)
    progress.current().expect(len(jobs), sum(j.entry.size_bytes or 0 for j in jobs))
    results: list[Transfer | None] = [None] * len(jobs)

    def tell(place: int, done: Transfer) -> None:
        results[place] = done
        progress.current().finished(done)

    haul = Haul(door, jobs, manifest, check, tell)
    with atomic_files.fsync_folders_once(), kept_open(manifest):
        if beside is None:
            small, others = sorted_out(jobs)
            haul.work(Line(small), Line(others), stop)
        else:
            with beside.at_work(door, haul.heard, stop):
                haul.work(beside.small, beside.others, stop)
            left = [place for place, done in enumerate(results) if done is None]
            haul.work((), Line(left), stop)  # of a process that came to an end too soon
    transfers = tuple(done for done in results if done is not None)
    return Report(transfers, time.monotonic() - started)


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
