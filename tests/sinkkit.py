"""Sinks and progress of transfers, for tests."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ctaflows.transfer.progress import Progress

if TYPE_CHECKING:
    from ctaflows.storage.protocol import Storage
    from ctaflows.transport import Head


class Kept:
    """A sink that keeps the answer and its bytes."""

    def __init__(self) -> None:
        self.head: Head
        self.data = bytearray()

    def begin(self, head: Head) -> None:
        self.head = head

    def take(self, pieces: list[bytes]) -> None:
        self.data += b"".join(pieces)


def read(storage: Storage, path: str, **span: int | None) -> bytes:
    """Read a file, or the range from ``start`` to ``end``."""
    kept = Kept()
    storage.receive(path, kept, **span)
    return bytes(kept.data)


class StopAfter(Progress):
    """Sets ``stop`` once some bytes have moved."""

    def __init__(self, n_bytes: int) -> None:
        self.stop = threading.Event()
        self._left = n_bytes

    def advance(self, n_bytes: int) -> None:
        self._left -= n_bytes
        if self._left <= 0:
            self.stop.set()


class Counted:
    """Counts the concurrent transfers of a storage."""

    def __init__(self, door: Storage) -> None:
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()
        self._receive = door.receive
        door.receive = self  # type: ignore[method-assign,assignment]

    def __call__(self, *args: object, **kwargs: object) -> object:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            return self._receive(*args, **kwargs)  # type: ignore[arg-type]
        finally:
            with self._lock:
                self._now -= 1
