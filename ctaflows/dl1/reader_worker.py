"""The process that reads DL1 files for others: paths come in, what is in them goes out.

A damaged file may make HDF5 crash, or unpack to gigabytes: here neither harms who asked.
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

#: Data segment of the process in bytes; reading takes some 100 MB of it.
MEMORY_BYTES = 400 * 2**20


def answer(
    request: dict[str, Any], lend: Callable[[int], PipeFile] | None = None
) -> dict[str, Any]:
    """Do one request.

    Parameters
    ----------
    request : dict
        ``path``, and ``folder`` which a path may be relative to. With ``size_bytes`` it is a file
        that who asks reads for us. ``images`` and ``ends_only`` are as for `inspect_file`; with
        ``copy`` it is what `copy_tables` takes.
    lend : Callable, optional
        Gives a file of so many bytes that who asks reads for us.

    Returns
    -------
    dict
        ``summary`` or ``kept``, or ``error`` with the error's class and its attributes.
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
    except Exception as why:  # noqa: BLE001  whatever a file brings about is told of that file
        error = IntegrityError(
            "the file can't be read", where=request["path"], said=f"{type(why).__name__}: {why}"
        )
    told = {k: getattr(error, k) for k in ("what", "where", "said", "hint")}
    return {"error": type(error).__name__, **told}


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
    """Answer one line of JSON with another until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asked ends this process by closing its pipe
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    asked = sys.stdin.buffer
    import h5py  # noqa: F401  while who asked still looks for the file
    import hdf5plugin  # noqa: F401

    def lend(size_bytes: int) -> PipeFile:
        return PipeFile(size_bytes, out, asked)

    for line in iter(asked.readline, b""):
        out.write(json.dumps(answer(json.loads(line), lend)) + "\n")
        out.flush()


# -- a file read through a pipe --------------------------------------------------------------------
#
# A file that another process reads for this one: places go out, bytes come in.
#
# So a process without a token, which a hostile file may take over or bring down, reads a file at
# the door. The talk is told in `ctaflows.dl1.reader_process`.

#: More spans are of no use: they are told to have what lies close together at once.
_MAX_SPANS = 50_000


class PipeFile(io.RawIOBase):
    """Seekable and read-only, as h5py takes it.

    Parameters
    ----------
    size_bytes : int
        Of the file.
    questions : text stream
        Gets a line of JSON for each read.
    answers : binary stream
        Gives just the bytes that were asked for.
    """

    def __init__(self, size_bytes: int, questions: IO[str], answers: IO[bytes]) -> None:
        super().__init__()
        self._size = size_bytes
        self._questions, self._answers = questions, answers
        self._position = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Give the position, bytes from the begin."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, which may lie behind the end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"There is no position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer, as much as it takes; less at the end of the file alone."""
        view = memoryview(buffer).cast("B")
        n_bytes = max(0, min(len(view), self._size - self._position))
        if n_bytes:
            self._ask(read=[self._position, n_bytes])
            self._fill(view[:n_bytes])
            self._position += n_bytes
        return n_bytes

    def expect(self, spans: Sequence[tuple[int, int]]) -> None:
        """Say which ranges will be read soon."""
        self._ask(expect=spans[:_MAX_SPANS])
        self._fill(memoryview(bytearray(1)))

    def _ask(self, **question: Any) -> None:
        self._questions.write(json.dumps(question) + "\n")
        self._questions.flush()

    def _fill(self, view: memoryview) -> None:
        while view:
            n_bytes = self._answers.readinto(view)  # type: ignore[attr-defined]
            if not n_bytes:
                raise SystemExit  # who asked has gone
            view = view[n_bytes:]


if __name__ == "__main__":
    main()
