"""Files that are ours alone: 0600 in a 0700 folder from the first byte, replaced in one step."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import time
from typing import TYPE_CHECKING, Self

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
    with Room(file) as room:
        room.fill(text)


class Room:
    """A private file's next text before it has its name; as a context it is removed at the end.

    Its temporary file is locked as long as it is in use: what nobody locks, a killed process left.

    Parameters
    ----------
    file : Path
        The file. Its folder is made, for us alone.
    n_bytes : int
        So much is really written, for a text that is not known yet but must not be lost then.

    Raises
    ------
    UsageError
        It can't be written; nothing is left.
    """

    def __init__(self, file: Path, n_bytes: int = 0) -> None:
        make_folder(file.parent)
        self._file = file
        self._temporary = file.with_name(f".{file.name}.{os.getpid()}.{time.monotonic_ns()}")
        try:
            self._descriptor = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as why:
            raise _error(why, file) from why
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if n_bytes:
                self._write(os.urandom(n_bytes))  # what file systems can't make smaller
        except OSError as why:
            self.close()
            raise _error(why, file) from why

    def fill(self, text: str) -> None:
        """Replace the file by this text, in one step.

        Raises
        ------
        UsageError
            It can't be written; the old text stands.
        """
        try:
            self._write(text.encode())
            try:
                self._temporary.replace(self._file)
            except FileNotFoundError:  # removed by a machine that does not share our locks
                write_private(self._file, text)
        except OSError as why:
            raise _error(why, self._file) from why

    def close(self) -> None:
        """Remove what was not given its name."""
        with contextlib.suppress(OSError):
            self._temporary.unlink()
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        # over what is there, which needs no room but what is lacking
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        left = memoryview(data)
        while left:
            left = left[os.write(self._descriptor, left) :]
        os.ftruncate(self._descriptor, len(data))
        os.fsync(self._descriptor)


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


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def _error(why: OSError, where: Path) -> UsageError:
    hint = "Name a folder that you may write to in CTAFLOWS_CONFIG_DIR."
    if why.errno in _FULL:
        hint = "Make room there, or name another folder in CTAFLOWS_CONFIG_DIR."
    return UsageError("The tokens can't be kept", where=str(where), said=why.strerror, hint=hint)


def remove_private(file: Path) -> None:
    """Remove a private file, and what a killed process may have left of it."""
    file.unlink(missing_ok=True)
    remove_left(file)


def remove_left(file: Path) -> None:
    """Remove what killed processes left beside a private file: it may hold a secret."""
    for left in file.parent.glob(f".{glob.escape(file.name)}.[0-9]*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(left, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()
            finally:
                os.close(descriptor)


def read_private(file: Path) -> str | None:
    """Give a small file's text without white space around it; None where there is none."""
    try:
        return file.read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError):
        return None
