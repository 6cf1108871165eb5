"""Directories that are listed before their turn, by helpers that end when they are told to."""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Self

from ctaflows import cancel
from ctaflows.errors import Stopped

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from typing import TypeAlias

    from ctaflows.model import Entry
    from ctaflows.storage.protocol import Storage

    _Batches: TypeAlias = Generator[Sequence[Entry], None, None]

#: What helpers hold at most of directories whose turn has not come: some 5 MB.
HELD_ENTRIES = 10_000
#: So long helpers are waited for when the walk ends, in seconds. One that can't be woken, as while
#: it connects to a silent door, ends by itself.
_GRACE_S = 1.0
#: A waiting thread wakes up so often, in seconds: an exception that Prefect sends to a thread which
#: is to be cancelled reaches it only then.
_WAKE_S = 0.5


class _Begun:
    """A directory that a helper lists."""

    __slots__ = ("batches", "error", "is_done", "n_entries")

    def __init__(self) -> None:
        self.batches: deque[Sequence[Entry]] = deque()
        self.n_entries = 0
        self.is_done = False
        self.error: Exception | None = None


class Ahead:
    """The directories of a walk that are still to be given, the next one on top.

    Parameters
    ----------
    storage : Storage
        Where they are.
    paths : sequence of str
        Normalised paths to begin with.
    """

    def __init__(self, storage: Storage, paths: Sequence[str]) -> None:
        self._storage = storage
        self._stack = list(reversed(paths))
        self._begun: dict[str, _Begun] = {}
        self._n_held = 0
        self._has_failed = False
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._helpers: list[threading.Thread] = []
        self._hearing = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._hearing.enter_context(cancel.heard(self._stop))
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the helpers and let them go."""
        self._hearing.close()
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        deadline = time.monotonic() + _GRACE_S
        for helper in self._helpers:
            if helper is not threading.current_thread():
                helper.join(max(0.0, deadline - time.monotonic()))

    def next_path(self) -> str | None:
        """Take the directory whose turn it is; None after the last one."""
        cancel.end_if(self._stop)
        with self._changed:
            return self._stack.pop() if self._stack else None

    def push(self, paths: Sequence[str]) -> None:
        """Let these come next, before all that wait."""
        with self._changed:
            self._stack.extend(reversed(paths))
            self._changed.notify_all()
            n_waiting = len(self._stack)
        # as many as there are slots: the consumer may wait for one of them
        n_useful = min(n_waiting, self._storage.settings.listings) if n_waiting > 1 else 0
        while len(self._helpers) < n_useful:
            self._helpers.append(
                threading.Thread(
                    target=contextvars.copy_context().run,
                    args=(self._help,),
                    name="ctaflows-listing",
                    daemon=True,
                )
            )
            self._helpers[-1].start()

    def batches(self, path: str) -> _Batches:
        """Give the entries of the directory whose turn it is, as they arrive."""
        with self._changed:
            begun = self._begun.get(path)
        if begun is None:
            yield from _batches(self._storage, path, self._stop)
            return
        while True:
            with self._changed:
                while not (begun.batches or begun.is_done):
                    cancel.end_if(self._stop)
                    self._changed.wait(_WAKE_S)
                ready, begun.batches = begun.batches, deque()
                self._n_held -= begun.n_entries
                begun.n_entries = 0
                if not ready:
                    del self._begun[path]
                    self._n_held -= 1
                self._changed.notify_all()
            if not ready:
                break
            yield from ready
        if begun.error is not None:
            raise begun.error

    def _help(self) -> None:
        while (taken := self._take()) is not None:
            path, begun = taken
            try:
                batches = _batches(self._storage, path, self._stop)
                with cancel.within(self._stop), contextlib.closing(batches):
                    for batch in batches:
                        self._hold(begun, batch)
            except Exception as why:  # noqa: BLE001  raised when its turn comes
                begun.error = why
                self._has_failed = True  # the walk will end here: what comes later is of no use
            with self._changed:
                begun.is_done = True
                self._changed.notify_all()

    def _take(self) -> tuple[str, _Begun] | None:
        """Begin with the next directory that nobody has begun with; None when the walk ends."""
        with self._changed:
            while not (self._stop.is_set() or self._has_failed):
                path = None
                if self._n_held < HELD_ENTRIES:
                    path = next((p for p in reversed(self._stack) if p not in self._begun), None)
                if path is not None:
                    self._n_held += 1  # an empty directory counts, too
                    self._begun[path] = begun = _Begun()
                    return path, begun
                self._changed.wait()
        return None

    def _hold(self, begun: _Begun, batch: Sequence[Entry]) -> None:
        """Keep a batch until its turn comes, and wait if that is too much."""
        with self._changed:
            begun.batches.append(batch)
            begun.n_entries += len(batch)
            self._n_held += len(batch)
            self._changed.notify_all()
            while begun.n_entries >= HELD_ENTRIES and not self._stop.is_set():
                self._changed.wait()
        if self._stop.is_set():
            raise Stopped("The walk has ended")


def _batches(storage: Storage, path: str, stop: threading.Event) -> _Batches:
    give = getattr(storage, "batches", None)
    if give is None:
        yield list(storage.list(path))  # a listing that comes in one piece
    else:
        yield from give(path, stop=stop)
