"""Files that are ours alone: 0600 in a 0700 folder from the first byte, replaced in one step."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING

from ctaflows.errors import AuthError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_GLANCE_S = 0.01


def make_folder(folder: Path) -> None:
    """Make a folder that is ours alone, and so all above it that are missing, lest it be exchanged.

    Raises
    ------
    UsageError
        It can't be made.
    """
    try:
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        for one in reversed(missing):
            with contextlib.suppress(FileExistsError):
                one.mkdir(mode=0o700)
    except OSError as why:
        raise _error(why, folder) from why


def write_private(file: Path, text: str) -> None:
    """Replace a private file in one step: a reader sees the old text or the new one.

    Parameters
    ----------
    file : Path
        The file. Its folder is made, for us alone.
    text : str
        All of its new text.

    Raises
    ------
    UsageError
        It can't be written; the old text stands.
    """
    make_folder(file.parent)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.{time.monotonic_ns()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except OSError as why:
        raise _error(why, file) from why
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


class Busy(AuthError):
    """Another process holds what we need, and does not let go."""


@contextlib.contextmanager
def locked(file: Path, wait_s: float) -> Iterator[None]:
    """Hold a lock file against all other processes, and threads, of this home.

    Parameters
    ----------
    file : Path
        The lock file.
    wait_s : float
        How long to wait for another one that holds it; a process that was stopped holds it for
        ever.

    Raises
    ------
    Busy
        It is held longer.
    """
    make_folder(file.parent)
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as why:
        raise _error(why, file) from why
    with os.fdopen(descriptor, "r+") as stream:
        ends_at = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= ends_at:
                    raise Busy(
                        "Another process is renewing the token and does not end", where=str(file)
                    ) from None
            time.sleep(_GLANCE_S)
        yield


def _error(why: OSError, where: Path) -> UsageError:
    return UsageError(
        "The tokens can't be kept",
        where=str(where),
        said=why.strerror,
        hint="Name a folder that you may write to in CTAFLOWS_CONFIG_DIR.",
    )


def remove_private(file: Path) -> None:
    """Remove a private file, and what a killed process may have left of it."""
    file.unlink(missing_ok=True)
    for left in file.parent.glob(f".{file.name}.*"):
        left.unlink(missing_ok=True)


def read_private(file: Path) -> str | None:
    """Give a small file's text without white space around it; None where there is none."""
    try:
        return file.read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError):
        return None
