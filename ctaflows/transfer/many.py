"""Many files: planned, then fetched at once, each with its own result."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ctaflows.errors import CtaflowsError, NoSpace, UsageError, error_text
from ctaflows.model import Report, Transfer
from ctaflows.transfer import folders, progress
from ctaflows.transfer.crew import at_once
from ctaflows.transfer.fetch import Job, fetch, look
from ctaflows.transfer.lane import LEAST, Lane, suits
from ctaflows.transfer.part import BESIDE_ENDINGS, local_error, part_name, part_path
from ctaflows.transfer.plan import Action, Check

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ctaflows.storage.protocol import Storage
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
        See `plan.decide`.

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
    _refuse_doubles(jobs)
    _check_space(jobs)
    progress.current().expect(len(jobs), sum(j.entry.size_bytes or 0 for j in jobs))

    proofs = manifest.proofs if manifest else {}
    results: list[Transfer | None] = [None] * len(jobs)

    def settle(place: int, done: Transfer) -> None:
        proof = proofs.get(done.path) if done.skipped else None
        if manifest and (proof is None or proof.verified != done.verified):
            try:
                manifest.append(done)
            except CtaflowsError as why:
                done = replace(done, error=done.error or error_text(why))
        results[place] = done
        progress.current().finished(done)

    lane = Lane(door, jobs, settle, proofs=proofs, check=check, stop=stop)

    def one(place: int) -> None:
        job = jobs[place]
        try:
            done = fetch(
                door, job, proof=proofs.get(job.entry.path), check=check, stop=stop,
                was_wrong=place in lane.spoiled,
            )  # fmt: skip
            if place in lane.failed and not done.skipped:
                done = replace(done, retries=done.retries + 1)
        except CtaflowsError as why:
            done = Transfer(
                job.entry.path, str(job.local), job.entry.size_bytes, error=error_text(why)
            )
        settle(place, done)

    kept = manifest.kept_open() if manifest else contextlib.nullcontext()
    with folders.synced_once(), kept:
        if sum(map(suits, jobs)) >= LEAST:
            at_once(lambda lane: lane.run(), [lane], 1, stop)
        rest = [place for place, done in enumerate(results) if done is None]
        at_once(one, rest, door.settings.transfers, stop)
    transfers = tuple(done for done in results if done is not None)
    return Report(transfers, time.monotonic() - started)


def _refuse_doubles(jobs: Sequence[Job]) -> None:
    """Refuse to let one file take the place of another."""
    seen: dict[str, str] = {}
    for job in jobs:
        other = seen.setdefault(os.fspath(job.local), job.entry.path)
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
    """Refuse at once what can't fit, rather than fill the disk first."""
    if not jobs:
        return
    try:
        folder = jobs[0].local.parent
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
    if job.local.exists() and job.local.stat().st_size == size:
        return 0
    part = part_path(job.local)
    return max(0, size - (part.stat().st_size if part.exists() else 0))
