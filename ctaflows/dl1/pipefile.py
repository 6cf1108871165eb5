"""A file that another process reads for this one: places go out, bytes come in.

So a process without a token, which a hostile file may take over or bring down, reads a file at the
door. The talk is told in `ctaflows.dl1.hdf5.reader_process`.
"""

from __future__ import annotations

import io
import json
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

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
