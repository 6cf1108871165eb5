"""A file that is there as a whole, or as it was before."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ctaflows.atomic_files import is_special, open_special
from ctaflows.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def replaced(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Give a stream whose bytes take the file's place in one step, once the block is through.

    Folders are made if need be. After an error the file is as it was. Into a device or a pipe the
    bytes are written as they come.

    Parameters
    ----------
    path : path
        The file.

    Raises
    ------
    UsageError
        It can't be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    try:
        if is_special(path):
            with os.fdopen(open_special(path), "wb") as stream:
                yield stream
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as why:
        raise UsageError(
            "The file can't be written",
            where=str(path),
            said=why.strerror or str(why),
            hint="Name a file in a folder that you may write to, with space left.",
        ) from None
    finally:
        with suppress(OSError):
            temporary.unlink()
