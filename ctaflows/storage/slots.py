"""A few slots for many listings, that nobody can sit on.

Who reads a listing may stop between two entries for as long as it likes, and may list or move files
meanwhile. A slot that was held for so long would keep others waiting, and in the end its own holder
for ever: so it is lent while the reader has its turn, and whoever needs one may then take it.
"""

from __future__ import annotations

import threading
import time

from ctaflows import cancel
from ctaflows.errors import Stopped

#: Readers that come back within this time keep their slot, in seconds.
PATIENCE_S = 0.2
_POLL_S = 0.05


class Slot:
    """A claim to one of the slots.

    Attributes
    ----------
    is_held : bool
        Is it fulfilled?
    """

    __slots__ = ("is_held",)

    def __init__(self) -> None:
        self.is_held = False


class Slots:
    """So many listings at once.

    Parameters
    ----------
    n_slots : int
        How many.
    """

    def __init__(self, n_slots: int) -> None:
        self._condition = threading.Condition()
        self._n_free = n_slots
        self._lent: dict[Slot, float] = {}  # and since when

    def take(self, slot: Slot, stop: threading.Event | None = None) -> None:
        """Wait for a slot; one's own, if it was lent and nobody took it, is there at once.

        Parameters
        ----------
        slot : Slot
            The claim.
        stop : threading.Event, optional
            Ends the wait when it is set; so does the end of the work it belongs to, see `halt`.

        Raises
        ------
        Stopped
            It was set.
        """
        stops = {stop or cancel.current(), cancel.current()}
        with self._condition:
            self._lent.pop(slot, None)
            while not slot.is_held and not self._find(slot):
                if any(stop.is_set() for stop in stops):
                    raise Stopped("The listing was stopped")
                self._condition.wait(_POLL_S)

    def lend(self, slot: Slot) -> None:
        """Leave a slot to whoever needs it, until it is taken again."""
        with self._condition:
            if slot.is_held:
                self._lent[slot] = time.monotonic()

    def give(self, slot: Slot) -> None:
        """Give a slot back for good."""
        with self._condition:
            self._lent.pop(slot, None)
            if slot.is_held:
                slot.is_held = False
                self._n_free += 1
                self._condition.notify()

    def _find(self, slot: Slot) -> bool:
        """Take a free slot, or that of a reader which has been away for long."""
        if self._n_free:
            self._n_free -= 1
            slot.is_held = True
            return True
        now = time.monotonic()
        away = next((s for s, since in self._lent.items() if now - since >= PATIENCE_S), None)
        if away is None:
            return False
        del self._lent[away]
        away.is_held, slot.is_held = False, True
        return True
