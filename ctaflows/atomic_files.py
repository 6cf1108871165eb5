"""Files that are made or replaced, in folders that others may write to.

Names that others can predict are opened without following links, and what is no regular file is
never replaced by one.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from ctaflows.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

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
