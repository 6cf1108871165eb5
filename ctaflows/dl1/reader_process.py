"""Child processes that read DL1 files, a pool of them, and the protocol between the processes.

A request is a line of JSON on the child's stdin, the answer a line of JSON on its stdout. While the
child works on a remote file, it writes ``{"read": [offset, size]}`` lines and is sent these bytes,
and ``{"expect": [[begin, end], …]}`` lines with the ranges that it will read, each of which is
acknowledged by one byte. It has neither a token nor a connection to the storage. Its side of the
protocol is in `ctaflows.dl1.reader_worker`.
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
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ctaflows import cancel, errors
from ctaflows.atomic_files import local_errors
from ctaflows.dl1.content.images import DEFAULT_IMAGES
from ctaflows.dl1.content.summary import DL1Summary
from ctaflows.dl1.hdf5.partial_copy import NoSuchTable, PartialCopy
from ctaflows.dl1.quality.checks import Inspection
from ctaflows.errors import CtaflowsError, IntegrityError, error_text
from ctaflows.thread_pool import started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ctaflows.dl1.hdf5.partial_copy import Spans, TableSelection
    from ctaflows.model import StrPath

T = TypeVar("T")

#: Time limit for a file: 60 s plus its size over 2 MB/s, without the time for its transfer over the
#: network.
_LEAST_S = 60.0
_BYTES_PER_S = 2e6
#: The most bytes of a remote file that the process may ask for: a multiple of its size, and a
#: constant.
_MOST_TIMES, _MORE_BYTES = 4, 64 << 20
#: Longest answer. That for a subrun has 30 kB.
_MOST_ANSWER_BYTES = 16 << 20
#: Size of the pieces in which bytes of a remote file are read and passed on.
_PIECE_BYTES = 1 << 20
_NONSENSE = "what it answered can't be understood"
#: One thread in each process: the arrays are small, and there is a process for each processor.
_ONE_THREAD = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLOSC_NTHREADS"), "1"
)
#: Variables of the environment that are passed on, by their beginnings: those that Python and HDF5
#: need, so that a process that reads hostile files has no token.
_PASSED_ON = (
    "PATH", "HOME", "LANG", "LC_", "TMPDIR", "PYTHON", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "HDF5_",
)  # fmt: skip


class _ProtocolError(Exception):
    """The process violates the protocol, or its limits."""


class RemoteSource(Protocol):
    """A remote file, see `ctaflows.storage.remote_file.RemoteFile`."""

    size: int

    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset`` on."""

    def expect(self, spans: Spans) -> object:
        """Prepare to read these byte ranges (begin, end) soon."""


class ReaderProcess:
    """A child process that reads files one after the other; it is restarted after it has died.

    Parameters
    ----------
    least_s : float, optional
        Time limit for an empty file in seconds (default: 60); larger files have more.
    """

    def __init__(self, least_s: float = _LEAST_S) -> None:
        self._least_s = least_s
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, path: StrPath, images: int | None = DEFAULT_IMAGES) -> DL1Summary:
        """Return a summary of a local file, as `inspect_file` does.

        Parameters
        ----------
        path : path
            The file.
        images : int or None, optional
            As for `inspect_file` (default: 1000).

        Raises
        ------
        IntegrityError
            Also where the process crashed on the file, or took too much memory or time.
        CtaflowsError
            As `inspect_file`.
        """
        request = {"path": os.fspath(path), "images": images, "folder": _folder()}
        return self._answer(request, _summary, _size_bytes(path))

    def read_source(
        self, source: RemoteSource, file: str, *, ends_only: bool, images: int | None = 0
    ) -> DL1Summary:
        """Return a summary of a remote file, as `inspect_stream` does.

        Parameters
        ----------
        source : RemoteSource
            The file.
        file : str
            Its path, for run and subrun numbers and for messages.
        ends_only, images
            As for `inspect_stream`.

        Raises
        ------
        IntegrityError, CtaflowsError
            As `read`. Errors that ``source`` raises pass unchanged.
        Stopped
            The current run was asked to stop.
        """
        request = {
            "path": file,
            "size_bytes": source.size,
            "ends_only": ends_only,
            "images": images,
        }
        return self._answer(request, _summary, source.size, source)

    def copy_source(
        self,
        source: RemoteSource,
        file: str,
        target: Path,
        choice: TableSelection,
        mark: Mapping[str, Any],
        stop: threading.Event | None = None,
    ) -> PartialCopy:
        """Copy some tables of a remote file, as `copy_tables` does.

        Parameters
        ----------
        source : RemoteSource
            The file.
        file : str
            Its path, for messages.
        target, choice, mark
            As for `copy_tables`.
        stop : threading.Event, optional
            Stops the copy when set (default: the event of the current run, if there is one).

        Raises
        ------
        NoSuchTable
            No table of the file is selected.
        IntegrityError, CtaflowsError
            As `read`. Errors that ``source`` raises pass unchanged.
        Stopped
            The event was set.
        """
        wanted = {
            "target": os.path.abspath(target),  # noqa: PTH100
            "tables": choice.tables,
            "drop": choice.drop,
            "mark": dict(mark),
        }
        request = {"path": file, "size_bytes": source.size, "copy": wanted}
        return self._answer(request, _partial_copy, source.size, source, stop)

    def start(self) -> None:
        """Start the process, unless it runs; the caller need not wait until it is ready."""
        self._process = self._process or self._new_process()

    def _answer(
        self,
        request: dict[str, Any],
        parse: Callable[[dict[str, Any]], T],
        size_bytes: int,
        source: RemoteSource | None = None,
        stop: threading.Event | None = None,
    ) -> T:
        """Send a request, serve the bytes that the process asks for, and return its answer."""
        where = request["path"]
        self.start()
        assert self._process is not None  # noqa: S101
        # only reading a remote file can be stopped: that of a local one is over soon
        connection = _Connection(
            self._process,
            self._least_s + size_bytes / _BYTES_PER_S,
            (stop or cancel.current()) if source is not None else None,
        )
        try:
            line = self._exchange(connection, request, source)
        except TimeoutError as why:
            self.close()
            raise _failed(where, f"it took more than {why} s") from None
        except _ProtocolError as why:
            self.close()
            raise _failed(where, str(why)) from None
        except BrokenPipeError:
            line = b""
        except BaseException:
            self.close()  # a late answer would be taken for that of the next file
            raise
        if not line.endswith(b"\n"):
            raise _failed(where, self._exit_text())
        try:
            answer = json.loads(line)
            error = _error(answer) if "error" in answer else None
            if error is None:
                return parse(answer)
        except (ValueError, KeyError, TypeError, AttributeError):
            self.close()
            raise _failed(where, _NONSENSE) from None
        raise error

    @staticmethod
    def _exchange(
        connection: _Connection, request: dict[str, Any], source: RemoteSource | None
    ) -> bytes:
        """Send a request and serve bytes of a remote file; return the line that is the answer."""
        connection.send(json.dumps(request).encode() + b"\n")
        line = connection.line()
        if source is None:
            return line
        n_left = _MOST_TIMES * source.size + _MORE_BYTES
        while line.endswith(b"\n") and line.startswith((b'{"read"', b'{"expect"')):
            n_left -= connection.serve(source, line)
            if n_left < 0:
                raise _ProtocolError("it reads the same again and again")
            line = connection.line()
        return line

    def _new_process(self) -> subprocess.Popen[bytes]:
        hint = "See how many processes and how much memory you may have: ulimit -a."
        what = "The process that reads files can't be started"
        with local_errors(None, what, hint=hint, kind=CtaflowsError):
            return self._popen()

    @staticmethod
    def _popen() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "ctaflows.dl1.reader_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={k: v for k, v in os.environ.items() if k.startswith(_PASSED_ON)} | _ONE_THREAD,
        )

    def _exit_text(self) -> str:
        """Clean up after a process that ended by itself; return its exit code or signal as text."""
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


class _Connection:
    """The pipes to and from the process, with a time limit for one file.

    Parameters
    ----------
    process : subprocess.Popen
        The process.
    limit_s : float
        Longest time to wait for the process in all, in seconds.
    stop : threading.Event or None
        Ends the wait when set.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], limit_s: float, stop: threading.Event | None
    ) -> None:
        self._in: Any = process.stdin
        self._out: Any = process.stdout
        self._limit_s = self._left_s = limit_s
        self._stop = stop

    def send(self, data: bytes) -> None:
        self._in.write(data)
        self._in.flush()

    def line(self) -> bytes:
        """Return the next line; an incomplete one where the process has ended."""
        found = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            while not found.endswith(b"\n"):
                self._wait(selector)
                part = os.read(self._out.fileno(), 2**16)
                if not part:
                    break
                found += part
                if len(found) > _MOST_ANSWER_BYTES:
                    raise _ProtocolError("it says more than there can be to say")
        return bytes(found)

    def _wait(self, selector: selectors.BaseSelector) -> None:
        while True:
            began = time.monotonic()
            wait_s = self._left_s if self._stop is None else min(self._left_s, cancel.GLANCE_S)
            is_readable = selector.select(max(0.0, wait_s))
            self._left_s -= time.monotonic() - began
            if is_readable:
                return
            if self._stop is not None:
                cancel.raise_if_cancelled(self._stop)
            if self._left_s <= 0:
                raise TimeoutError(f"{self._limit_s:.0f}")

    def serve(self, source: RemoteSource, line: bytes) -> int:
        """Do what the process asks for in a line; return the bytes sent, plus one for the line."""
        try:
            request = json.loads(line)
            spans = [(int(a), int(b)) for a, b in request.get("expect", ())]
            start, n_bytes = map(int, request.get("read", (0, 0)))
        except (ValueError, TypeError, AttributeError):
            raise _ProtocolError(_NONSENSE) from None
        if not 0 <= start <= start + n_bytes <= source.size:
            raise _ProtocolError("it asks for bytes that the file does not have")
        if "expect" in request:
            source.expect(spans)
            self.send(b".")
        for at in range(start, start + n_bytes, _PIECE_BYTES):
            self.send(source.read_at(at, min(_PIECE_BYTES, start + n_bytes - at)))
        return n_bytes + 1


def _size_bytes(path: StrPath) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116  also for text paths
    except (OSError, ValueError):
        return 0


def _folder() -> str | None:
    """Return the present working directory, which may have changed since the process began."""
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:  # the directory was removed
        return None


def _failed(where: str, said: str) -> IntegrityError:
    return IntegrityError(
        "the process that read the file failed, the file is damaged",
        where=where,
        said=said,
        hint="Fetch the file again and compare its checksum with the storage's.",
    )


def _summary(values: dict[str, Any]) -> DL1Summary:
    return DL1Summary.from_dict(values["summary"])


def _partial_copy(values: dict[str, Any]) -> PartialCopy:
    return PartialCopy.from_dict(values["kept"])


def _error(values: dict[str, Any]) -> CtaflowsError:
    """Return the error in an answer."""
    name = values.pop("error")
    kind = NoSuchTable if name == NoSuchTable.__name__ else getattr(errors, name, CtaflowsError)
    error = kind(values.pop("what"), **values)
    return error if isinstance(error, CtaflowsError) else CtaflowsError(name)


# -- a pool of processes ---------------------------------------------------------------------------
#
# Several files are read at once by several processes, not threads: the HDF5 library holds a global
# lock.

_MOST_WORKERS = 8
#: Number of remote files that are read at once.
MOST_REMOTE = 4


class _Pool:
    """A pool of reader processes, which are kept for further files.

    Parameters
    ----------
    size : int
        Largest number of processes.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.pid = os.getpid()
        self._free = threading.BoundedSemaphore(self.size)
        self._idle: queue.SimpleQueue[ReaderProcess] = queue.SimpleQueue()
        self._all: list[ReaderProcess] = []

    @contextlib.contextmanager
    def reader(self) -> Iterator[ReaderProcess]:
        """Lend a reader within the block; wait for one if all are busy."""
        with self._free:
            try:
                reader = self._idle.get_nowait()
            except queue.Empty:
                reader = ReaderProcess()
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
    """Return the number of processors this process may use; on macOS, of those in the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_pool: _Pool | None = None
_remote_pool: _Pool | None = None
_lock = threading.Lock()


def _readers() -> _Pool:
    """Return the pool for local files; a forked process gets its own, not its parent's pipes."""
    global _pool
    with _lock:
        if _pool is None or _pool.pid != os.getpid():
            _pool = _Pool(min(_n_processors(), _MOST_WORKERS))
            atexit.register(_pool.close)
        return _pool


def remote_reader() -> contextlib.AbstractContextManager[ReaderProcess]:
    """Lend a reader of remote files, which wait for the network rather than for processors.

    Returns
    -------
    context manager
        Gives a `ReaderProcess`; up to `MOST_REMOTE` are lent at once, further calls wait.
    """
    global _remote_pool
    with _lock:
        if _remote_pool is None or _remote_pool.pid != os.getpid():
            _remote_pool = _Pool(MOST_REMOTE)
            atexit.register(_remote_pool.close)
        return _remote_pool.reader()


def inspect_apart(path: StrPath, images: int | None = DEFAULT_IMAGES) -> DL1Summary:
    """Return a summary of a local file, as `inspect_file` does, but read by a child process.

    A damaged file may crash HDF5, and a hostile one may decompress to gigabytes: this ends the
    child process only, and raises an error here. The first call takes a quarter of a second more.

    Parameters
    ----------
    path : path
        The file.
    images : int or None, optional
        As for `inspect_file` (default: 1000).

    Returns
    -------
    DL1Summary
        The summary.

    Raises
    ------
    IntegrityError
        Also where the process crashed on the file, or took too much memory or time.
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
    """Inspect local files, several at once in child processes.

    Parameters
    ----------
    paths : sequence of path
        The files.
    workers : int, optional
        Number of files read at once (default: that of usable processors, up to 8, which is also
        the maximum). All calls of a program share the processes.
    images : int or None, optional
        As for `inspect_file` (default: 1000).

    Returns
    -------
    list of Inspection
        In the order of ``paths``; of a file that can't be read, with the error.
    """
    pool = _readers()
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for i in range(len(paths)):
        waiting.put(i)
    found: list[Inspection | None] = [None] * len(paths)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            try:
                i = waiting.get_nowait()
            except queue.Empty:
                return
            with pool.reader() as reader:
                found[i] = _inspected(reader, paths[i], images)

    n_workers = min(workers or pool.size, pool.size, len(paths))
    threads = []
    try:
        for _ in range(n_workers):
            thread = threading.Thread(target=work, daemon=True)
            if not started(thread):
                break
            threads.append(thread)
        if not threads:
            work()
        for thread in threads:
            thread.join()
    finally:
        stop.set()
    return [
        one or Inspection(str(path), error="CtaflowsError: the file was not read")
        for one, path in zip(found, paths, strict=True)
    ]


def _inspected(reader: ReaderProcess, path: StrPath, images: int | None) -> Inspection:
    try:
        return Inspection(str(path), reader.read(path, images))
    except CtaflowsError as why:
        return Inspection(str(path), error=error_text(why))
