"""The lane for small files: many on their way at once, and all in one thread.

What does not go well here is left to `fetch`, file by file.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING

from ctaflows.errors import ChecksumMismatch, CtaflowsError, error_text
from ctaflows.model import Transfer
from ctaflows.storage import checksum as sums
from ctaflows.storage.answers import check_answer
from ctaflows.storage.webdav import digests
from ctaflows.transfer import fetch, progress, small
from ctaflows.transfer.decide import Action, Check

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ctaflows.model import Entry
    from ctaflows.storage.protocol import Storage
    from ctaflows.transport import Head

log = logging.getLogger("ctaflows.transfer")

#: Where bringing the quickest of several files to disk takes longer, many threads had better wait
#: for the disk at once. The quickest, since on a busy machine most take long on any disk.
_SLOW_DISK_S = 0.003
_N_JUDGED = 16
#: Fewer are not worth it.
LEAST = 4

_Job = tuple[int, "fetch.Job", float]  # its place, itself, and when it began


def suits(job: fetch.Job) -> bool:
    """Is it a small file that can be read now?"""
    entry = job.entry
    return (
        entry.size_bytes is not None
        and entry.size_bytes <= small.SMALL_BYTES
        and entry.locality in (None, "ONLINE", "ONLINE_AND_NEARLINE")
    )


class Lane:
    """Fetches the small ones of many files.

    Parameters
    ----------
    door : Storage
        Where from. The transfer slots that are free are held while it lasts.
    jobs : sequence of Job
        What and where to.
    places : iterable of int
        Which of them to fetch; each is taken when its turn comes.
    settle : Callable
        Hears of each job that is done: its place in the sequence, and its record.
    proofs : Mapping
        What a manifest says of earlier transfers, by path.
    check : {"proof", "checksum", "size"}
        See `decide.decide`.
    stop : threading.Event
        Ends it soon after it is set.

    Attributes
    ----------
    left : set of int
        Places of the jobs that were taken and not settled.
    failed, spoiled : set of int
        Those of them of which no good answer came, and those of which wrong bytes came.
    """

    def __init__(
        self,
        door: Storage,
        jobs: Sequence[fetch.Job],
        places: Iterable[int],
        settle: Callable[[int, Transfer], None],
        *,
        proofs: Mapping[str, Transfer],
        check: Check,
        stop: threading.Event,
    ) -> None:
        self._door, self._jobs, self._places, self._tell = door, jobs, places, settle
        self._proofs, self._check, self._stop = proofs, check, stop
        self._quickest_s = math.inf
        self._n_placed = 0
        self.left: set[int] = set()
        self.failed: set[int] = set()
        self.spoiled: set[int] = set()

    def run(self) -> None:
        """Fetch as many as go well."""
        with progress.held(self._door, self._stop) as n:
            wanted = self._wanted()
            try:
                for job, head, body in self._door.receive_small(wanted, at_once=n, stop=self._stop):
                    self._land(job, head, body)
            except CtaflowsError as why:  # such as no token: each file will say so
                log.info("%s; going on file by file", why)

    def _wanted(self) -> Iterator[tuple[str, _Job]]:
        """Give what is to be asked for; what is here and proven is settled at once."""
        for place in self._places:
            job = self._jobs[place]
            self.left.add(place)
            if self._n_placed >= _N_JUDGED and self._quickest_s > _SLOW_DISK_S:
                log.info("The disk is slow: several threads go on")
                return
            started = time.monotonic()
            proof = self._proofs.get(job.entry.path)
            try:
                path = self._door.normalise(job.entry.path)
                action, why = fetch.look(job.entry, job.local, proof, self._check)
            except CtaflowsError:
                continue  # it will say so again
            if action is Action.WRITE:
                continue  # no file is put there
            if action is Action.SKIP:
                self._settle(place, fetch.in_place(job, proof, why, started, self._check))
            else:
                yield path, (place, job, started)

    def _settle(self, place: int, done: Transfer) -> None:
        self.left.discard(place)
        self._tell(place, done)

    def _land(self, about: _Job, head: Head | None, body: bytes) -> None:
        """Prove a file, and put it in its place."""
        place, job, started = about
        entry = job.entry
        if head is None or len(body) != entry.size_bytes or not _is_file(head, entry):
            self.failed.add(place)
            return
        promised = sums.best(entry.checksums or digests(head.headers))
        try:
            found = small.proof(entry, body, promised)
        except ChecksumMismatch as why:
            log.warning("%s; fetching it once more", why)
            self.spoiled.add(place)
            return
        progress.current().advance(len(body))
        progress.rate_limiter().consume(len(body))
        before = time.monotonic()
        try:
            if not small.placed(body, job.local, entry):
                progress.current().advance(-len(body))
                return
        except CtaflowsError as why:
            done = Transfer(entry.path, str(job.local), entry.size_bytes, error=error_text(why))
        else:
            done = small.record(entry, job.local, found, started, head.headers.get("server"))
        self._quickest_s = min(self._quickest_s, time.monotonic() - before)
        self._n_placed += 1
        self._settle(place, done)


def _is_file(head: Head, entry: Entry) -> bool:
    try:
        check_answer(head, entry, 0)
    except CtaflowsError as why:
        log.warning("%s; asking again", why)
        return False
    return True
