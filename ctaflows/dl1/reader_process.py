"""A process that reads DL1 files for this one, and the talk with it.

A request is a line of JSON on its stdin, the answer one on its stdout. Of a file that is not here
it asks meanwhile ``{"read": [offset, size]}`` and gets just these bytes, and tells with
``{"expect": [[begin, end], …]}`` what it will read, and gets one byte. It never gets a token or a
connection.
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
from ctaflows.dl1.content.images import DEFAULT_IMAGES
from ctaflows.dl1.content.summary import DL1Summary
from ctaflows.dl1.hdf5.partial_copy import NoSuchTable, PartialCopy
from ctaflows.dl1.quality.checks import Inspection
from ctaflows.errors import CtaflowsError, IntegrityError, error_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ctaflows.dl1.hdf5.partial_copy import Spans, TableSelection
    from ctaflows.model import StrPath

T = TypeVar("T")

#: Longest time for a file: so much, and so many bytes a second. That of a network does not count.
_LEAST_S = 60.0
_BYTES_PER_S = 2e6
#: Of a file that is not here the process may ask for so many times its bytes, and so many more.
_MOST_TIMES, _MORE_BYTES = 4, 64 << 20
#: An answer is not longer: that of a subrun has 30 kB.
_MOST_ANSWER_BYTES = 16 << 20
#: Pieces in which bytes are handed on.
_PIECE_BYTES = 1 << 20
_NONSENSE = "what it answered can't be understood"
#: One thread each: the arrays are small, and there are as many processes as are wanted.
_ONE_THREAD = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLOSC_NTHREADS"), "1"
)
#: Of the environment, what Python and HDF5 go by: hostile files are read where there is no token.
_PASSED_ON = (
    "PATH", "HOME", "LANG", "LC_", "TMPDIR", "PYTHON", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "HDF5_",
)  # fmt: skip


class _Odd(Exception):
    """The process behaves as none of ours does."""


class RemoteSource(Protocol):
    """A file that is not here, see `ctaflows.storage.remote_file.RemoteFile`."""

    size: int

    def read_at(self, offset: int, size: int) -> bytes:
        """Give so many bytes from a place."""

    def expect(self, spans: Spans) -> object:
        """Hear what will be read soon."""


class ReaderProcess:
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
        """Tell what is in a file here, as `inspect_file`.

        Raises
        ------
        IntegrityError
            Also where the process crashed on it, took too much memory or too long.
        CtaflowsError
            As `inspect_file`.
        """
        request = {"path": os.fspath(path), "images": images, "folder": _folder()}
        return self._answer(request, _summary, _size_bytes(path))

    def read_source(
        self, source: RemoteSource, file: str, *, ends_only: bool, images: int | None = 0
    ) -> DL1Summary:
        """Tell what is in a file that is not here, as `inspect_stream`.

        Raises
        ------
        IntegrityError, CtaflowsError
            As `read`; what ``source`` raises passes.
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
        """Copy some tables of a file that is not here, as `copy_tables`.

        Raises
        ------
        NoSuchTable
            It has none of them.
        IntegrityError, CtaflowsError
            As `read`; what ``source`` raises passes.
        Stopped
            The event was set meanwhile.
        """
        wanted = {
            "target": os.path.abspath(target),  # noqa: PTH100
            "tables": choice.tables,
            "drop": choice.drop,
            "mark": dict(mark),
        }
        request = {"path": file, "size_bytes": source.size, "copy": wanted}
        return self._answer(request, _kept, source.size, source, stop)

    def start(self) -> None:
        """Let the process begin, if it has not: while it does, something else can be done."""
        self._process = self._process or self._started()

    def _answer(
        self,
        request: dict[str, Any],
        understood: Callable[[dict[str, Any]], T],
        size_bytes: int,
        source: RemoteSource | None = None,
        stop: threading.Event | None = None,
    ) -> T:
        """Ask, serve what it asks for meanwhile, and give the answer."""
        where = request["path"]
        self.start()
        assert self._process is not None  # noqa: S101
        # what is read here ends by itself; what comes from elsewhere can be stopped
        talk = _Talk(
            self._process,
            self._least_s + size_bytes / _BYTES_PER_S,
            (stop or cancel.current()) if source is not None else None,
        )
        try:
            line = self._served(talk, request, source)
        except TimeoutError as why:
            self.close()
            raise _failed(where, f"it took more than {why} s") from None
        except _Odd as why:
            self.close()
            raise _failed(where, str(why)) from None
        except BrokenPipeError:
            line = b""
        except BaseException:
            self.close()  # its answer would be taken for that of another file
            raise
        if not line.endswith(b"\n"):
            raise _failed(where, self._end())
        try:
            answer = json.loads(line)
            error = _error(answer) if "error" in answer else None
            if error is None:
                return understood(answer)
        except (ValueError, KeyError, TypeError, AttributeError):
            self.close()
            raise _failed(where, _NONSENSE) from None
        raise error

    @staticmethod
    def _served(talk: _Talk, request: dict[str, Any], source: RemoteSource | None) -> bytes:
        """Ask, and serve until a line comes that is no question."""
        talk.say(json.dumps(request).encode() + b"\n")
        line = talk.line()
        if source is None:
            return line
        n_left = _MOST_TIMES * source.size + _MORE_BYTES
        while line.endswith(b"\n") and line.startswith((b'{"read"', b'{"expect"')):
            n_left -= talk.serve(source, line)
            if n_left < 0:
                raise _Odd("it reads the same again and again")
            line = talk.line()
        return line

    def _started(self) -> subprocess.Popen[bytes]:
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
            [sys.executable, "-P", "-m", "ctaflows.dl1.reader_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={k: v for k, v in os.environ.items() if k.startswith(_PASSED_ON)} | _ONE_THREAD,
        )

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


class _Talk:
    """What is said to the process, and heard of it, for one file.

    Parameters
    ----------
    process : subprocess.Popen
        The process.
    limit_s : float
        So long it may be waited for in all.
    stop : threading.Event or None
        Ends the wait.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], limit_s: float, stop: threading.Event | None
    ) -> None:
        self._in: Any = process.stdin
        self._out: Any = process.stdout
        self._limit_s = self._left_s = limit_s
        self._stop = stop

    def say(self, data: bytes) -> None:
        self._in.write(data)
        self._in.flush()

    def line(self) -> bytes:
        """Read a line; an incomplete one where the process ended."""
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
                    raise _Odd("it says more than there can be to say")
        return bytes(found)

    def _wait(self, selector: selectors.BaseSelector) -> None:
        while True:
            began = time.monotonic()
            glance_s = self._left_s if self._stop is None else min(self._left_s, cancel.GLANCE_S)
            is_there = selector.select(max(0.0, glance_s))
            self._left_s -= time.monotonic() - began
            if is_there:
                return
            if self._stop is not None:
                cancel.raise_if_cancelled(self._stop)
            if self._left_s <= 0:
                raise TimeoutError(f"{self._limit_s:.0f}")

    def serve(self, source: RemoteSource, line: bytes) -> int:
        """Do what the process asks for; say how many bytes it got."""
        try:
            question = json.loads(line)
            spans = [(int(a), int(b)) for a, b in question.get("expect", ())]
            start, n_bytes = map(int, question.get("read", (0, 0)))
        except (ValueError, TypeError, AttributeError):
            raise _Odd(_NONSENSE) from None
        if not 0 <= start <= start + n_bytes <= source.size:
            raise _Odd("it asks for bytes that the file does not have")
        if "expect" in question:
            source.expect(spans)
            self.say(b".")
        for at in range(start, start + n_bytes, _PIECE_BYTES):
            self.say(source.read_at(at, min(_PIECE_BYTES, start + n_bytes - at)))
        return n_bytes + 1


def _size_bytes(path: StrPath) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116  also for text paths
    except (OSError, ValueError):
        return 0


def _folder() -> str | None:
    """Give the working folder of now: it may be another one than when the process began."""
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:  # it was removed
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


def _kept(values: dict[str, Any]) -> PartialCopy:
    return PartialCopy.from_dict(values["kept"])


def _error(values: dict[str, Any]) -> CtaflowsError:
    """Give the error that an answer tells."""
    name = values.pop("error")
    kind = NoSuchTable if name == NoSuchTable.__name__ else getattr(errors, name, CtaflowsError)
    error = kind(values.pop("what"), **values)
    return error if isinstance(error, CtaflowsError) else CtaflowsError(name)


# -- a pool of processes ---------------------------------------------------------------------------
#
# Several DL1 files read at once, each in a process apart.
#
# HDF5 lets only one thread of a process read (its library holds a lock), hence processes.

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
        self._idle: queue.SimpleQueue[ReaderProcess] = queue.SimpleQueue()
        self._all: list[ReaderProcess] = []

    @contextlib.contextmanager
    def reader(self) -> Iterator[ReaderProcess]:
        """Lend a reader; wait for one if all are at work."""
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


def remote_reader() -> contextlib.AbstractContextManager[ReaderProcess]:
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


def _inspected(reader: ReaderProcess, path: StrPath, images: int | None) -> Inspection:
    try:
        return Inspection(str(path), reader.read(path, images))
    except CtaflowsError as why:
        return Inspection(str(path), error=error_text(why))
