"""The transfer slots of a door, for one thread that moves many files."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ctaflows import cancel

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from ctaflows.storage.protocol import Storage


@contextlib.contextmanager
def held(door: Storage, stop: threading.Event) -> Iterator[int]:
    """Hold one transfer slot, and those that are free besides."""
    slots, n = door.transfer_slots, 1
    while not slots.acquire(timeout=cancel.GLANCE_S):
        cancel.end_if(stop)
    try:
        while n < door.settings.transfers and slots.acquire(blocking=False):
            n += 1
        yield n
    finally:
        for _ in range(n):
            slots.release()
