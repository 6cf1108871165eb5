"""Several DL1 files read at once, each in a process apart.

HDF5 lets only one thread of a process read (its library holds a lock), hence processes.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import selectors
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from ctaflows import errors
from ctaflows.dl1.images import DEFAULT_IMAGES
from ctaflows.dl1.report import Inspection
from ctaflows.dl1.summary import DL1Summary
from ctaflows.errors import CtaflowsError, IntegrityError, error_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ctaflows.model import StrPath

#: Longest time for a file: so much, and so many bytes a second.
_LEAST_S = 60.0
_BYTES_PER_S = 2e6
_MOST_WORKERS = 8
#: One thread each: the arrays are small, and there are as many processes as are wanted.
_ONE_THREAD = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLOSC_NTHREADS"), "1"
)
#: Of the environment, what Python and HDF5 go by: hostile files are read where there is no token.
_PASSED_ON = (
    "PATH", "HOME", "LANG", "LC_", "TMPDIR", "PYTHON", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "HDF5_",
)  # fmt: skip


class Reader:
    """A process that reads files, one after the other; a new one follows where it dies.

    Parameters
    ----------
    least_s : float
        Every file has at least so many seconds.
    """

    def __init__(self, least_s: float = _LEAST_S) -> None:
        self._least_s = least_s
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, path: StrPath, images: int | None = DEFAULT_IMAGES) -> DL1Summary:
        """Tell what is in a file, as `inspect_file`.

        Raises
        ------
        IntegrityError
            Also where the process crashed on it, took too much memory or too long.
        CtaflowsError
            As `inspect_file`.
        """
        process = self._process = self._process or self._start()
        request = json.dumps({"path": os.fspath(path), "images": images, "folder": _folder()})
        try:
            process.stdin.write(request.encode() + b"\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            line = _line(process, self._limit_s(path))
        except TimeoutError as why:
            self.close()
            raise _failed(path, f"it took more than {why} s") from None
        except BrokenPipeError:
            line = b""
        except BaseException:
            self.close()  # its answer would be taken for that of another file
            raise
        if not line.endswith(b"\n"):
            raise _failed(path, self._end())
        return _told(json.loads(line))

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            return self._begun()
        except OSError as why:
            raise CtaflowsError(
                "The process that reads files can't be started",
                said=why.strerror,
                hint="See how many processes and how much memory you may have: ulimit -a.",
            ) from why

    @staticmethod
    def _begun() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "ctaflows.dl1.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={k: v for k, v in os.environ.items() if k.startswith(_PASSED_ON)} | _ONE_THREAD,
        )

    def _limit_s(self, path: StrPath) -> float:
        try:
            size_bytes = os.stat(path).st_size  # noqa: PTH116  also for text paths
        except (OSError, ValueError):
            size_bytes = 0
        return self._least_s + size_bytes / _BYTES_PER_S

    def _end(self) -> str:
        """Clear away a process that ended by itself, and say how it did."""
        code = self._process.wait() if self._process else 0
        self.close()
        return f"it ended by signal {-code}" if code < 0 else f"it ended with code {code}"

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        process.wait()


def _folder() -> str | None:
    """Give the working folder of now: it may be another one than when the process began."""
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:  # it was removed
        return None


def _line(process: subprocess.Popen[bytes], limit_s: float) -> bytes:
    """Read a line; an incomplete one where the process ended."""
    ends_at = time.monotonic() + limit_s
    out: Any = process.stdout
    found = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(out, selectors.EVENT_READ)
        while not found.endswith(b"\n"):
            if not selector.select(max(0.0, ends_at - time.monotonic())):
                raise TimeoutError(f"{limit_s:.0f}")
            part = os.read(out.fileno(), 2**16)
            if not part:
                break
            found += part
    return bytes(found)


def _failed(path: StrPath, said: str) -> IntegrityError:
    return IntegrityError(
        "the process that read the file failed, the file is damaged",
        where=os.fspath(path),
        said=said,
        hint="Fetch the file again and compare its checksum with the storage's.",
    )


def _told(values: dict[str, Any]) -> DL1Summary:
    """Turn an answer into a summary, or raise what it says."""
    if "summary" in values:
        return DL1Summary.from_dict(values["summary"])
    kind = getattr(errors, values.pop("error"), CtaflowsError)
    raise kind(values.pop("what"), **values)


class _Pool:
    """The readers of this process: as many as there are processors, kept for the next files."""

    def __init__(self) -> None:
        self.size = min(_n_processors(), _MOST_WORKERS)
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
_lock = threading.Lock()


def _readers() -> _Pool:
    """Give this process's readers: one made by fork can't use its parent's pipes."""
    global _pool
    with _lock:
        if _pool is None or _pool.pid != os.getpid():
            _pool = _Pool()
            atexit.register(_pool.close)
        return _pool


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
