"""The lane for small files that go up: many on their way at once, and all in one thread.

Each goes as by `upload`: a temporary name, compared, then moved. What does not go well here is left
to `upload`, file by file.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from ctaflows import cancel
from ctaflows.errors import AlreadyExists, CtaflowsError, NetworkError, error_text
from ctaflows.storage import checksum as sums
from ctaflows.storage.checksum import parse_digests
from ctaflows.thread_pool import run_concurrently
from ctaflows.transfer import progress, upload
from ctaflows.transfer.errand import Errand
from ctaflows.transfer.upload import LocalSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ctaflows.model import Checksum, Transfer
    from ctaflows.storage.protocol import Storage
    from ctaflows.storage.webdav import ConcurrentPuts
    from ctaflows.transfer.upload_journal import Journal
    from ctaflows.transport.convoy import Word

log = logging.getLogger("ctaflows.transfer")

#: Fewer are not worth it.
LEAST = 4
#: Where reading the quickest of several files takes longer, many threads had better wait at once.
_SLOW_DISK_S = 0.003
_N_JUDGED = 16
#: So long after a stop what is on its way may still come to its end, in seconds.
_LAST_S = 2.0
#: Answers that would come to all others too.
_MEANT_FOR_ALL = frozenset({401, 429, 503, 507})
#: So many failures in a row, and it is not tried any more.
_PATIENCE = 3


class UploadLane:
    """Uploads the small ones of many files that are not there yet.

    Parameters
    ----------
    door : Storage
        Where to. The transfer slots that are free are held while it lasts.
    journal : Journal
        Gives the temporary names.
    pairs : sequence of (Path, str)
        File here and its path at the door.
    places : iterable of int
        Those of the pairs that suit: small, and not there. Each is taken when its turn comes.
    settle : Callable
        Hears of each file that is done: its place, and its record.
    overwrite : bool
        As for `upload.upload`.
    stop : threading.Event
        Ends it soon after it is set.

    Attributes
    ----------
    left : set of int
        Places that were taken, and of which `settle` has not heard.
    """

    def __init__(
        self,
        door: Storage,
        journal: Journal,
        pairs: Sequence[tuple[Path, str]],
        places: Iterable[int],
        settle: Callable[[int, Transfer], None],
        *,
        overwrite: bool,
        stop: threading.Event,
    ) -> None:
        self._door, self._journal = door, journal
        self._pairs, self._places = pairs, places
        self._settle, self._overwrite, self._stop = settle, overwrite, stop
        self.left: set[int] = set()
        self._begun: dict[int, Errand] = {}  # and not brought to an end
        self._targets: set[str] = set()
        self._ways: ConcurrentPuts
        self._n_out = self._n_failed = self._n_read = 0
        self._quickest_s = math.inf
        self._is_over = False

    def run(self) -> None:
        """Upload as many as go well.

        What is on its way at a stop may come to its end soon: of a request that is given up nobody
        knows what the server still makes of it. A move is waited for.
        """
        places = iter(self._places)
        with progress.held(self._door, self._stop) as n, self._door.deliveries() as ways:
            if ways is None:
                return
            self._ways = ways
            try:
                self._fill(places, n)
                for errand, word in ways.answers(self._stop):
                    errand.next_step(errand, word)
                    self._fill(places, n)
                for errand, word in ways.answers(_Late(_LAST_S)):
                    errand.next_step(errand, word)
                ways.end_all_but_moves()
                for errand, word in ways.answers():
                    errand.next_step(errand, word)
            except CtaflowsError as why:  # such as no token: each file will say so
                log.info("%s; going on file by file", why)

    def went_on(self, place: int) -> Transfer | Literal["anew"] | None:
        """Go on with a file whose answers were not all good.

        Returns
        -------
        Transfer, "anew" or None
            It was moved; it is to be uploaded anew, for nothing of it is left at the door; it was
            never begun here.

        Raises
        ------
        CtaflowsError
            It can't be moved.
        """
        errand = self._begun.pop(place, None)
        if errand is None:
            return None
        with self._door.transfer_slots, cancel.uncancellable():
            if errand.is_moving:
                return self._found(errand)
            progress.current().advance(-errand.source.sent_bytes)
            upload.clean(self._door, self._journal, errand.temporary)
        return "anew"

    def tidy(self) -> None:
        """Leave nothing half done of what nobody went on with."""
        if not self._begun:
            return
        with cancel.uncancellable():
            run_concurrently(
                self._ended, list(self._begun), self._door.settings.transfers, threading.Event()
            )

    def _ended(self, place: int) -> None:
        try:
            done = self.went_on(place)
        except CtaflowsError as why:
            log.warning("%s", error_text(why))
        else:
            if done is not None and done != "anew":
                self._settle(place, done)

    def _found(self, errand: Errand) -> Transfer:
        where = errand.target
        why: CtaflowsError = NetworkError("The answer to a move was lost", where=where)
        if errand.is_refused:
            why = AlreadyExists("The target is there already", where=where)
        assert errand.checksum is not None  # noqa: S101  it was compared
        try:
            there = upload.give_name(
                self._door, self._journal, errand.source, errand.temporary, errand.target,
                errand.checksum, overwrite=self._overwrite, started=errand.started, why=why,
            )  # fmt: skip
        except BaseException:
            upload.clean(self._door, self._journal, errand.temporary)
            raise
        return there or errand.record()

    # -- the steps ---------------------------------------------------------------------------

    def _fill(self, places: Iterator[int], at_once: int) -> None:
        while self._n_out < at_once and not self._is_over and not self._stop.is_set():
            place = next(places, None)
            if place is None:
                return
            self.left.add(place)
            if self._n_read >= _N_JUDGED and self._quickest_s > _SLOW_DISK_S:
                log.info("The disk is slow: several threads go on")
                self._is_over = True
                return
            self._begin(place)

    def _begin(self, place: int) -> None:
        """Read a file and send it; what looks odd is passed over."""
        started = time.monotonic()
        local, remote = self._pairs[place]
        try:
            target = self._door.normalise(remote)
            with LocalSource(local, self._stop) as source:
                body = source.body()
        except (CtaflowsError, OSError):
            return  # it will say so again
        self._n_read += 1
        self._quickest_s = min(self._quickest_s, time.monotonic() - started)
        is_odd = target in self._targets or quote(target, errors="surrogateescape") != target
        if not isinstance(body, bytes) or len(body) != source.size_bytes or is_odd:
            progress.current().advance(-source.sent_bytes)
            return
        self._targets.add(target)
        temporary = self._journal.begin(target)
        errand = Errand(place, source, temporary, target, started, self._sent)
        self._ways.put(temporary, body, errand)
        self._begun[place] = errand
        self._n_out += 1

    def _sent(self, errand: Errand, word: Word | None) -> None:
        if word is None or not word.is_good:
            self._leave(errand, word)
            return
        headers = word.headers
        errand.server = headers.get("server")
        promised = _digests(headers)
        if promised:
            self._compare(errand, promised)
        else:
            errand.next_step = self._measured
            self._ways.measure(errand.temporary, errand)

    def _measured(self, errand: Errand, word: Word | None) -> None:
        headers = word.headers if word is not None and word.is_good else {}
        if headers.get("content-length") == str(errand.source.size_bytes):
            self._compare(errand, _digests(headers))
        else:
            self._leave(errand, word)

    def _compare(self, errand: Errand, promised: tuple[Checksum, ...]) -> None:
        """Compare what arrived with what was sent, see `upload`."""
        known = sums.best(promised)
        try:
            ours = errand.source.checksum(known.algorithm if known else "adler32")
            is_good = not self._may_come_late(errand) if known is None else ours == known
        except (CtaflowsError, OSError):
            is_good = False
        if not is_good:
            self._leave(errand, None)
            return
        errand.checksum, errand.verified = ours, known is not None
        if self._ways.replaces_blindly and not self._overwrite:
            errand.next_step = self._looked
            self._ways.look(errand.target, errand)
        else:
            self._move(errand)

    def _may_come_late(self, errand: Errand) -> bool:
        return upload.may_come_late(self._door, errand.temporary)

    def _looked(self, errand: Errand, word: Word | None) -> None:
        if word is not None and word.status == 404:
            self._move(errand)
        else:
            self._leave(errand, word)

    def _move(self, errand: Errand) -> None:
        errand.next_step, errand.is_moving = self._moved, True
        self._ways.move(errand.temporary, errand.target, errand, overwrite=self._overwrite)

    def _moved(self, errand: Errand, word: Word | None) -> None:
        if word is None or not word.is_good:
            errand.is_refused = word is not None and word.status == 412
            self._leave(errand, word)
            return
        self._n_out -= 1
        self._n_failed = 0
        self._journal.end(errand.temporary)
        del self._begun[errand.place]
        self.left.discard(errand.place)
        self._settle(errand.place, errand.record())

    def _leave(self, errand: Errand, word: Word | None) -> None:
        self._n_out -= 1
        self._n_failed += 1
        self._is_over |= self._n_failed >= _PATIENCE
        self._is_over |= word is not None and word.status in _MEANT_FOR_ALL
        said = f"status {word.status}" if word is not None else "no good answer"
        log.warning("%s: %s; going on with it alone", errand.target, said)


class _Late(threading.Event):
    """Is set after a while."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._at = time.monotonic() + seconds

    def is_set(self) -> bool:
        return time.monotonic() >= self._at


def _digests(headers: Mapping[str, str]) -> tuple[Checksum, ...]:
    return parse_digests(headers.get("digest")) + parse_digests(headers.get("repr-digest"))
