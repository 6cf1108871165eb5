"""How the files of one call go up: small ones in one thread, the others in several.

Where it pays, two processes do so side by side.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ctaflows import cancel
from ctaflows.errors import CtaflowsError, error_text
from ctaflows.model import Transfer
from ctaflows.thread_pool import run_concurrently
from ctaflows.transfer.beside import standing_ready
from ctaflows.transfer.manifest import kept_open
from ctaflows.transfer.twin import Line
from ctaflows.transfer.upload import SMALL_BYTES, UnknownOutcome, upload
from ctaflows.transfer.upload_journal import kept
from ctaflows.transfer.upload_lane import LEAST, UploadLane

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from ctaflows.model import Entry
    from ctaflows.storage.protocol import Storage
    from ctaflows.transfer.beside import Beside
    from ctaflows.transfer.manifest import Manifest
    from ctaflows.transfer.twin import Settle
    from ctaflows.transfer.upload_journal import Journal

    Pair = tuple[Path, str]


@dataclass(frozen=True, slots=True)
class Lading:
    """What is to go up, after a look at both ends.

    Attributes
    ----------
    pairs : sequence of (Path, str)
        File here and its path at the door.
    sizes : sequence of int
        Bytes of each.
    there : Mapping
        What is there of them, by path as given; those that are left out were not looked at.
    """

    pairs: Sequence[Pair]
    sizes: Sequence[int]
    there: Mapping[str, Entry | None]

    def sorted_out(self) -> tuple[list[int], list[int]]:
        """Give the places of the files that suit the lane, if it is worth it, and of the others."""
        small = [
            place
            for place, (_, remote) in enumerate(self.pairs)
            if self.sizes[place] <= SMALL_BYTES
            and self.there.get(remote, UnknownOutcome.LOOK) is None
        ]
        if len(small) < LEAST:
            return [], list(range(len(self.pairs)))
        are_small = set(small)
        return small, [place for place in range(len(self.pairs)) if place not in are_small]


class Cargo:
    """What is to be uploaded of one call, in one process.

    Parameters
    ----------
    door : Storage
        Where to.
    lading : Lading
        What.
    manifest : Manifest or None
        Gets a line for each file as it finishes.
    overwrite : bool
        As for `upload`.
    tell : Callable
        Hears of each file that is done, well or not: its place, and its record.
    """

    def __init__(
        self,
        door: Storage,
        lading: Lading,
        manifest: Manifest | None,
        tell: Settle,
        *,
        overwrite: bool,
    ) -> None:
        self._door, self._lading, self._manifest, self._tell = door, lading, manifest, tell
        self._overwrite = overwrite

    def work(self, small: Iterable[int], others: Iterable[int], stop: threading.Event) -> None:
        """Upload files as their places are given; at once."""
        with kept(self._door) as journal:
            self._work(journal, small, others, stop)

    def _work(
        self,
        journal: Journal,
        small: Iterable[int],
        others: Iterable[int],
        stop: threading.Event,
    ) -> None:
        lane = UploadLane(
            self._door, journal, self._lading.pairs, small, self._settle,
            overwrite=self._overwrite, stop=stop,
        )  # fmt: skip
        try:
            run_concurrently(UploadLane.run, [lane], 1, stop)
            lines = Line(sorted(lane.left)), small, others

            def draw(_: int) -> None:
                for line in lines:
                    for place in line:
                        cancel.raise_if_cancelled(stop)
                        self._one(lane, place, stop)

            n_threads = self._door.settings.transfers
            run_concurrently(draw, range(n_threads), n_threads, stop)
        finally:
            lane.tidy()

    def heard(self, place: int, done: Transfer) -> None:
        """Take note of what the other process did; its line is in the manifest."""
        if self._manifest:
            self._manifest.note(done)
        self._tell(place, done)

    def _one(self, lane: UploadLane, place: int, stop: threading.Event) -> None:
        local, remote = self._lading.pairs[place]
        try:
            done = lane.went_on(place)
            if done is None or done == "anew":
                seen = self._lading.there.get(remote, UnknownOutcome.LOOK)
                again = done is not None
                done = upload(
                    self._door, local, remote, overwrite=self._overwrite,
                    there=UnknownOutcome.LOOK if again else seen, stop=stop,
                )  # fmt: skip
                if again and not done.skipped:
                    done = replace(done, retries=done.retries + 1)
        except CtaflowsError as why:
            with contextlib.suppress(CtaflowsError):
                remote = self._door.normalise(remote)  # as the record of a success names it
            size_bytes = self._lading.sizes[place]
            done = Transfer(remote, str(local), size_bytes, error=error_text(why))
        self._settle(place, done)

    def _settle(self, place: int, done: Transfer) -> None:
        if self._manifest:
            try:
                self._manifest.record(done)
            except CtaflowsError as why:
                done = replace(done, error=done.error or error_text(why))
        self._tell(place, done)


def beside(
    door: Storage,
    lading: Lading,
    *,
    manifest: Manifest | None,
    overwrite: bool,
    afresh: Callable[[int], Storage],
) -> contextlib.AbstractContextManager[Beside | None]:
    """Let a second process stand ready to share the work of `upload_many`."""
    small, others = lading.sorted_out()

    def work(pair: Beside, tell: Settle, stop: threading.Event) -> None:
        with kept_open(manifest):
            cargo = Cargo(afresh(pair.n_slots), lading, manifest, tell, overwrite=overwrite)
            cargo.work(pair.small, pair.others, stop)

    n_bytes = sum(lading.sizes[place] for place in others)
    return standing_ready(door, small, others, n_bytes, work)
