"""The child process that reads DL1 files: requests on stdin, summaries on stdout.

A damaged file may crash HDF5 or decompress to gigabytes; here that does not harm the parent.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from ctaflows.dl1.content.inspect import inspect_file, inspect_stream
from ctaflows.errors import CtaflowsError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Limit of the process's data segment (RLIMIT_DATA), bytes; reading takes some 100 MB.
MEMORY_BYTES = 400 * 2**20


def answer(
    request: dict[str, Any], lend: Callable[[int], PipeFile] | None = None
) -> dict[str, Any]:
    """Return the answer to one request.

    Parameters
    ----------
    request : dict
        ``path``; for a local file also ``folder``, the directory that a relative path starts from;
        for a remote file also ``size_bytes``. ``images`` and, for a remote file, ``ends_only`` as
        for `inspect_file`; or ``copy`` with arguments of `copy_tables`.
    lend : Callable, optional
        Returns, for a size in bytes, a file whose bytes the parent reads; required for remote
        files.

    Returns
    -------
    dict
        ``summary``, or ``kept`` for a copy, or ``error`` with the name of the error's class, and
        the error's attributes.
    """
    try:
        if request.get("folder"):
            os.chdir(request["folder"])
        if lend is None or "size_bytes" not in request:
            return {"summary": inspect_file(request["path"], images=request["images"]).to_dict()}
        source = lend(request["size_bytes"])
        if "copy" in request:
            return {"kept": _copied(source, request)}
        return {"summary": _inspected(source, request)}
    except CtaflowsError as why:
        error = why
    except Exception as why:  # noqa: BLE001  whatever a damaged file causes is an error of that file
        error = IntegrityError(
            "the file can't be read", where=request["path"], said=f"{type(why).__name__}: {why}"
        )
    attributes = {k: getattr(error, k) for k in ("what", "where", "said", "hint")}
    return {"error": type(error).__name__, **attributes}


def _inspected(source: PipeFile, request: dict[str, Any]) -> dict[str, Any]:
    return inspect_stream(
        cast("IO[bytes]", source),
        file=request["path"],
        size_bytes=request["size_bytes"],
        ends_only=request["ends_only"],
        images=request["images"],
        expect=source.expect,
    ).to_dict()


def _copied(source: PipeFile, request: dict[str, Any]) -> dict[str, Any]:
    from ctaflows.dl1.hdf5.files import open_stream
    from ctaflows.dl1.hdf5.partial_copy import TableSelection, copy_tables

    wanted = request["copy"]
    where, size_bytes = request["path"], request["size_bytes"]
    with open_stream(cast("IO[bytes]", source), size_bytes, where) as opened:
        kept = copy_tables(
            opened,
            Path(wanted["target"]),
            TableSelection(tuple(wanted["tables"]), tuple(wanted["drop"])),
            where=where,
            size_bytes=size_bytes,
            mark=wanted["mark"],
            expect=source.expect,
        )
    return kept.to_dict()


def main() -> None:
    """Answer each line of JSON on stdin with one on stdout, until stdin is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # so that what libraries print is not taken for an answer
    requests = sys.stdin.buffer
    import h5py  # noqa: F401  loaded while the parent prepares its first request
    import hdf5plugin  # noqa: F401

    def lend(size_bytes: int) -> PipeFile:
        return PipeFile(size_bytes, out, requests)

    for line in iter(requests.readline, b""):
        out.write(json.dumps(answer(json.loads(line), lend)) + "\n")
        out.flush()


# -- a file read through a pipe --------------------------------------------------------------------
#
# A remote file whose bytes the parent reads, so that this process, which a hostile file may take
# over or crash, needs no token. The protocol is described in `ctaflows.dl1.reader_process`.

#: Longest list of ranges to announce; they only serve to read adjacent ones together.
_MAX_SPANS = 50_000


class PipeFile(io.RawIOBase):
    """A seekable, read-only file object for h5py, whose bytes the parent process reads.

    Parameters
    ----------
    size_bytes : int
        Size of the file.
    questions : text stream
        Stream to the parent: a line of JSON for each read.
    answers : binary stream
        Stream from the parent: the bytes asked for.
    """

    def __init__(self, size_bytes: int, questions: IO[str], answers: IO[bytes]) -> None:
        super().__init__()
        self._size = size_bytes
        self._questions, self._answers = questions, answers
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes from the beginning."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Change the position, which may be behind the end, and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"There is no position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, return the number of bytes read; fewer only at the end of the file."""
        view = memoryview(buffer).cast("B")
        n_bytes = max(0, min(len(view), self._size - self._position))
        if n_bytes:
            self._ask(read=[self._position, n_bytes])
            self._fill(view[:n_bytes])
            self._position += n_bytes
        return n_bytes

    def expect(self, spans: Sequence[tuple[int, int]]) -> None:
        """Announce byte ranges (begin, end) that will be read soon."""
        self._ask(expect=spans[:_MAX_SPANS])
        self._fill(memoryview(bytearray(1)))

    def _ask(self, **question: Any) -> None:
        self._questions.write(json.dumps(question) + "\n")
        self._questions.flush()

    def _fill(self, view: memoryview) -> None:
        while view:
            n_bytes = self._answers.readinto(view)  # type: ignore[attr-defined]
            if not n_bytes:
                raise SystemExit  # the parent has ended
            view = view[n_bytes:]


if __name__ == "__main__":
    main()
