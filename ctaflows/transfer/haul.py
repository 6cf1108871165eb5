"""How the files of one call are moved: small ones in one thread, the others in several.

Where it pays, two processes do so side by side.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from ctaflows import atomic_files, cancel
from ctaflows.errors import CtaflowsError, error_text
from ctaflows.model import Transfer
from ctaflows.thread_pool import run_concurrently
from ctaflows.transfer import twin
from ctaflows.transfer.beside import standing_ready
from ctaflows.transfer.fetch import fetch
from ctaflows.transfer.lane import LEAST, Lane, suits

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Sequence

    from ctaflows.storage.protocol import Storage
    from ctaflows.transfer.beside import Beside
    from ctaflows.transfer.decide import Check
    from ctaflows.transfer.fetch import Job
    from ctaflows.transfer.manifest import Manifest


class Haul:
    """What is to be done of one call, in one process.

    Parameters
    ----------
    door : Storage
        Where from.
    jobs : sequence of Job
        What and where to.
    manifest : Manifest or None
        Gets a line for each file as it finishes, unless it holds the same proof already.
    check : {"proof", "checksum", "size"}
        See `decide.decide`.
    tell : Callable
        Hears of each job that is done, well or not: its place in the sequence, and its record.
    """

    def __init__(
        self,
        door: Storage,
        jobs: Sequence[Job],
        manifest: Manifest | None,
        check: Check,
        tell: Callable[[int, Transfer], None],
    ) -> None:
        self._door, self._jobs, self._check, self._tell = door, jobs, check, tell
        self._manifest = manifest
        self._proofs = manifest.proofs if manifest else {}
        self._failed: set[int] = set()
        self._spoiled: set[int] = set()

    def work(self, small: Iterable[int], others: Iterable[int], stop: threading.Event) -> None:
        """Fetch files as their places are given, in as many threads as may move at once.

        Parameters
        ----------
        small, others : iterable of int
            May be iterated by several threads, each with an iterator of its own.
        stop : threading.Event
            Ends it soon after it is set, with `Stopped`.
        """
        lane = Lane(
            self._door, self._jobs, small, self._settle,
            proofs=self._proofs, check=self._check, stop=stop,
        )  # fmt: skip
        run_concurrently(Lane.run, [lane], 1, stop)
        self._failed, self._spoiled = lane.failed, lane.spoiled
        lines = twin.Line(sorted(lane.left)), small, others

        def draw(_: int) -> None:
            for line in lines:
                for place in line:
                    cancel.raise_if_cancelled(stop)
                    self._one(place, stop)

        n_threads = self._door.settings.transfers
        run_concurrently(draw, range(n_threads), n_threads, stop)

    def heard(self, place: int, done: Transfer) -> None:
        """Take note of what the other process did; its line is in the manifest."""
        if self._manifest:
            self._manifest.note(done)
        self._tell(place, done)

    def _one(self, place: int, stop: threading.Event) -> None:
        job = self._jobs[place]
        try:
            done = fetch(
                self._door, job, proof=self._proofs.get(job.entry.path), check=self._check,
                stop=stop, was_wrong=place in self._spoiled,
            )  # fmt: skip
            if place in self._failed and not done.skipped:
                done = replace(done, retries=done.retries + 1)
        except CtaflowsError as why:
            done = Transfer(
                job.entry.path, str(job.local), job.entry.size_bytes, error=error_text(why)
            )
        self._settle(place, done)

    def _settle(self, place: int, done: Transfer) -> None:
        if self._manifest:
            try:
                self._manifest.record(done)
            except CtaflowsError as why:
                done = replace(done, error=done.error or error_text(why))
        self._tell(place, done)


def sorted_out(jobs: Sequence[Job]) -> tuple[list[int], list[int]]:
    """Give the places of the files that suit the lane, if it is worth it, and of the others."""
    small = [place for place, job in enumerate(jobs) if suits(job)]
    if len(small) < LEAST:
        return [], list(range(len(jobs)))
    are_small = set(small)
    return small, [place for place in range(len(jobs)) if place not in are_small]


def beside(
    door: Storage,
    jobs: Sequence[Job],
    *,
    manifest: Manifest | None,
    check: Check,
    afresh: Callable[[int], Storage],
) -> contextlib.AbstractContextManager[Beside | None]:
    """Let a second process stand ready to share the work of `fetch_many`, where that pays.

    To be called while the process has but one thread, see `twin`.

    Parameters
    ----------
    door, jobs, manifest, check
        As for `fetch_many`.
    afresh : Callable
        Gives such a door with connections of its own, and so many transfers at once.

    Yields
    ------
    Beside or None
        For `fetch_many`.
    """
    small, others = sorted_out(jobs)

    def work(pair: Beside, tell: twin.Settle, stop: threading.Event) -> None:
        with atomic_files.fsync_folders_once(), kept_open(manifest):
            haul = Haul(afresh(pair.n_slots), jobs, manifest, check, tell)
            haul.work(pair.small, pair.others, stop)

    n_bytes = sum(jobs[place].entry.size_bytes or 0 for place in others)
    return standing_ready(door, small, others, n_bytes, work)


def kept_open(manifest: Manifest | None) -> contextlib.AbstractContextManager[None]:
    """Keep a manifest's file open in the block, if there is a manifest."""
    return manifest.kept_open() if manifest else contextlib.nullcontext()
