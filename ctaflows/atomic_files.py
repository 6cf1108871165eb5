"""Files that are made or replaced, in folders that others may write to.

Names that others can predict are opened without following links, and what is no regular file is
never replaced by one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import stat
import time
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from ctaflows.errors import AuthError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOT_OURS = (errno.ELOOP, errno.ENXIO, errno.EMLINK)  # EMLINK: a link on FreeBSD


def open_ours(
    path: str | os.PathLike[str], flags: int, mode: int = 0o666, *, may_be_linked: bool = False
) -> int:
    """Return a descriptor of a regular file whose name others can predict.

    Somebody else may have put something of that name there, so that what is written would go
    elsewhere: a symbolic link, a hard link to a file of ours, a device, a pipe.

    Parameters
    ----------
    path : path
        The file.
    flags : int
        As for `os.open`.
    mode : int
        Of a file that is made, less the umask.
    may_be_linked : bool
        May the file have other names, as in a tree that was copied by ``cp -al``?

    Raises
    ------
    UsageError
        What is there is no regular file of one name; it is left as it is.
    OSError
        As of `os.open`.
    """
    try:
        # non-blocking: to open a pipe would wait for its other end
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    except OSError as why:
        if why.errno in _NOT_OURS:
            raise _refusal(path) from None
        raise
    about = os.fstat(descriptor)
    if stat.S_ISREG(about.st_mode) and (may_be_linked or about.st_nlink <= 1):  # 0: just removed
        return descriptor
    os.close(descriptor)
    raise _refusal(path)


def read_ours(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a file as `open_ours` opens it."""
    with os.fdopen(open_ours(path, os.O_RDONLY, may_be_linked=True), "rb") as stream:
        return stream.read()


def replace_ours(path: Path, data: bytes) -> None:
    """Replace a file in one step, by way of ``PATH.new``; for one process at a time.

    Parameters
    ----------
    path : Path
        The file.
    data : bytes
        All of its content.

    Raises
    ------
    OSError
        It can't be written; the old file stands.
    """
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)  # as a kill left it, or anything else
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, 0o666), "wb") as stream:
        stream.write(data)
    temporary.replace(path)


def is_special(path: str | os.PathLike[str]) -> bool:
    """Tell whether a device, a pipe or a socket stands at a path: to be written into, or refused.

    Names of open files, such as ``/dev/stderr``, are special, too.

    Raises
    ------
    OSError
        As of `os.stat`; not where nothing is there.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  the cheapest
        if stat.S_ISREG(mode):
            return os.path.islink(path) and "/proc/" in os.readlink(path)  # noqa: PTH114, PTH115
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not stat.S_ISDIR(mode)


def open_special(path: str | os.PathLike[str]) -> int:
    """Return a descriptor to write into a character device or a pipe.

    Raises
    ------
    UsageError
        It is a disk or a socket, or nobody reads from the pipe.
    OSError
        As of `os.open`.
    """
    mode = os.stat(path).st_mode  # noqa: PTH116
    if stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
        try:
            # non-blocking: to open a pipe would wait until somebody reads
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as why:
            if why.errno != errno.ENXIO:
                raise
        else:
            os.set_blocking(descriptor, True)
            return descriptor
    raise UsageError(
        "This is no file, and can't be written into",
        where=os.fspath(path),
        said="a pipe that nobody reads" if stat.S_ISFIFO(mode) else "no pipe, and no terminal",
        hint="Name another destination; - stands for the standard output.",
    )


def _refusal(path: str | os.PathLike[str]) -> UsageError:
    return UsageError(
        "Something else lies where a file of ours is to be: a link, a device or a pipe",
        where=os.fspath(path),
        hint="It was left as it is. Move it away if it is yours, or name another destination.",
    )


# -- private files ---------------------------------------------------------------------------------
#
# Files that are ours alone: 0600 in a 0700 folder from the first byte, replaced in one step.

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
        raise _private_error(why, folder) from why


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
            raise _private_error(why, file) from why
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if n_bytes:
                self._write(os.urandom(n_bytes))  # what file systems can't make smaller
        except OSError as why:
            self.close()
            raise _private_error(why, file) from why

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
            raise _private_error(why, self._file) from why

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


class LockTimeout(AuthError):
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
        raise _private_error(why, file) from why
    with os.fdopen(descriptor, "r+") as stream:
        ends_at = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= ends_at:
                    raise LockTimeout(
                        "Another process is renewing the token and does not end", where=str(file)
                    ) from None
            time.sleep(_GLANCE_S)
        yield


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def _private_error(why: OSError, where: Path) -> UsageError:
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


# -- whole files -----------------------------------------------------------------------------------
#
# A file that is there as a whole, or as it was before.


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


# -- folders ---------------------------------------------------------------------------------------
#
# Folders that files come into: made when need be, and brought to disk once for many files.

_changed_folders: ContextVar[set[str] | None] = ContextVar("ctaflows_folders", default=None)


def make_folders(folder: str) -> None:
    """Make a folder and those above it."""
    Path(folder).mkdir(parents=True, exist_ok=True)


def note_changed(folder: str) -> None:
    """Say that a file got its name in a folder: the name must reach the disk too."""
    waiting = _changed_folders.get()
    if waiting is None:
        _fsync_folder(folder)
    else:
        waiting.add(folder)


@contextlib.contextmanager
def fsync_folders_once() -> Iterator[None]:
    """Bring each folder that changes within to disk once, at the end."""
    folders: set[str] = set()
    token = _changed_folders.set(folders)
    try:
        yield
    finally:
        _changed_folders.reset(token)
        for folder in folders:
            with contextlib.suppress(FileNotFoundError):
                _fsync_folder(folder)


def _fsync_folder(folder: str) -> None:
    descriptor = os.open(folder or ".", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
