"""Sinks, downloads and progress of transfers, for tests."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from ctaflows.retry import Retries
from ctaflows.transfer.download import Job, download
from ctaflows.transfer.progress import Progress
from ctaflows.transport.driver import run_journey

if TYPE_CHECKING:
    from ctaflows.model import Transfer
    from ctaflows.storage.protocol import Storage
    from ctaflows.transport.wishes import Response


class Kept:
    """A sink that keeps the answer and its bytes."""

    worth_bytes = 1

    def __init__(self, start: int = 0, end: int | None = None) -> None:
        self.head: Response
        self.data = bytearray()
        self._start, self._end = start, end

    @property
    def n_received(self) -> int:
        return len(self.data)

    def range_line(self) -> bytes | None:
        if not self._start and self._end is None:
            return None
        end = "" if self._end is None else str(self._end - 1)
        return f"Range: bytes={self._start}-{end}".encode()

    def begin(self, answer: Response) -> None:
        self.head = answer
        self.data.clear()

    def write(self, piece: bytes) -> None:
        self.data += piece

    def ended(self, answer: Response) -> bool:
        return False


def receive(storage: Storage, path: str, **span: Any) -> Kept:
    """Read a file, or the range from ``start`` to ``end``; return the sink."""
    kept = Kept(**span)
    retries = Retries(storage.settings)
    run_journey(storage.receiving(storage.normalise(path), kept, retries), storage.session)
    return kept


def read(storage: Storage, path: str, **span: Any) -> bytes:
    """Return a file, or the range from ``start`` to ``end``."""
    return bytes(receive(storage, path, **span).data)


def fetch(
    door: Storage, job: Job, *, stop: threading.Event | None = None, **options: Any
) -> Transfer:
    """Fetch one file."""
    return run_journey(download(door, job, **options), door.session, stop=stop)


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
    """Counts the slots of a storage that are held at once."""

    def __init__(self, door: Storage) -> None:
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()
        slots = door.transfer_slots
        self._acquire, self._release = slots.acquire, slots.release
        slots.acquire, slots.release = self.acquire, self.release  # type: ignore[method-assign]

    def acquire(self, *args: Any, **kwargs: Any) -> bool:
        is_held = self._acquire(*args, **kwargs)
        if is_held:
            with self._lock:
                self._now += 1
                self.most = max(self.most, self._now)
        return is_held

    def release(self) -> None:
        with self._lock:
            self._now -= 1
        self._release()
