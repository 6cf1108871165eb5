"""Several DL1 files read at once, each in a process apart.

HDF5 lets only one thread of a process read (its library holds a lock), hence processes.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import threading
from typing import TYPE_CHECKING

from ctaflows.dl1.content.images import DEFAULT_IMAGES
from ctaflows.dl1.hdf5.reader_process import Reader
from ctaflows.dl1.report.night_report import Inspection
from ctaflows.errors import CtaflowsError, error_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ctaflows.dl1.content.summary import DL1Summary
    from ctaflows.model import StrPath

_MOST_WORKERS = 8
#: Files at the door that are read at once.
MOST_REMOTE = 4


class _Pool:
    """Readers of this process, kept for the next files.

    Parameters
    ----------
    size : int
        How many at most.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.pid = os.getpid()
        self._free = threading.BoundedSemaphore(self.size)
        self._idle: queue.SimpleQueue[Reader] = queue.SimpleQueue()
        self._all: list[Reader] = []

    @contextlib.contextmanager
    def reader(self) -> Iterator[Reader]:
        """Lend a reader; wait for one if all are at work."""
        with self._free:
            try:
                reader = self._idle.get_nowait()
            except queue.Empty:
                reader = Reader()
                self._all.append(reader)
            try:
                yield reader
            finally:
                self._idle.put(reader)

    def close(self) -> None:
        """End all processes."""
        for reader in self._all:
            reader.close()


def _n_processors() -> int:
    """Count the processors that this process may use; macOS tells only those there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_pool: _Pool | None = None
_remote_pool: _Pool | None = None
_lock = threading.Lock()


def _readers() -> _Pool:
    """Give this process's readers of files here: one made by fork can't use its parent's pipes."""
    global _pool
    with _lock:
        if _pool is None or _pool.pid != os.getpid():
            _pool = _Pool(min(_n_processors(), _MOST_WORKERS))
            atexit.register(_pool.close)
        return _pool


def remote_reader() -> contextlib.AbstractContextManager[Reader]:
    """Lend a reader of files that are not here: these wait for the network, not for processors."""
    global _remote_pool
    with _lock:
        if _remote_pool is None or _remote_pool.pid != os.getpid():
            _remote_pool = _Pool(MOST_REMOTE)
            atexit.register(_remote_pool.close)
        return _remote_pool.reader()


def inspect_apart(path: StrPath, images: int | None = DEFAULT_IMAGES) -> DL1Summary:
    """Tell what is in a file, as `inspect_file`, but read in a process apart.

    A damaged file may make HDF5 crash, and a hostile one unpack to gigabytes: that ends the process
    apart, and is told as an error. The first call takes a quarter of a second more.

    Raises
    ------
    IntegrityError
        Also where the process crashed on the file, or took too much memory or too long.
    CtaflowsError
        As `inspect_file`.
    """
    with _readers().reader() as reader:
        return reader.read(path, images)


def inspect_files(
    paths: Sequence[StrPath],
    *,
    workers: int | None = None,
    images: int | None = DEFAULT_IMAGES,
) -> list[Inspection]:
    """Tell what is in each of many files, several at once.

    Parameters
    ----------
    paths : sequence of path
        Files here.
    workers : int, optional
        Files read at once, at most as many as there are processors, and 8. All calls of a program
        share so many processes.
    images : int or None, optional
        As for `inspect_file`.

    Returns
    -------
    list of Inspection
        In the order of ``paths``; of those that can't be read with the error.
    """
    pool = _readers()
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for i in range(len(paths)):
        waiting.put(i)
    found: list[Inspection | None] = [None] * len(paths)
    is_over = threading.Event()

    def work() -> None:
        while not is_over.is_set():
            try:
                i = waiting.get_nowait()
            except queue.Empty:
                return
            with pool.reader() as reader:
                found[i] = _inspected(reader, paths[i], images)

    n_workers = min(workers or pool.size, pool.size, len(paths))
    threads = [threading.Thread(target=work, daemon=True) for _ in range(n_workers)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        is_over.set()
    return [
        one or Inspection(str(path), error="CtaflowsError: the file was not read")
        for one, path in zip(found, paths, strict=True)
    ]


def _inspected(reader: Reader, path: StrPath, images: int | None) -> Inspection:
    try:
        return Inspection(str(path), reader.read(path, images))
    except CtaflowsError as why:
        return Inspection(str(path), error=error_text(why))
