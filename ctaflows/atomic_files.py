"""Local files that are replaced atomically, private files, and locks.

In folders that other users may write to, files with predictable names are opened without following
links, and anything but a regular file is never replaced by one. What the file
system refuses becomes an error of ours here, see `local_errors`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import logging
import os
import stat
import time
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from ctaflows.errors import AuthError, CtaflowsError, NoSpace, StorageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

log = logging.getLogger("ctaflows.files")

# -- errors of the file system ---------------------------------------------------------------------

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_BROKEN = (errno.EIO, errno.ESTALE)
_TOO_MUCH = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)


class NobodyReads(UsageError):
    """The reader of a pipe has closed it."""


def local_error(
    why: OSError,
    path: str | os.PathLike[str] | None,
    what: str = "The destination can't be written",
    *,
    hint: str | None = "Name a folder that you may write to.",
    kind: type[CtaflowsError] = UsageError,
) -> CtaflowsError:
    """Return our error for one of the file system here, or of the system.

    Parameters
    ----------
    why : OSError
        What the system said.
    path : path or None
        The file or folder concerned.
    what : str
        What can't be done, a clause.
    hint : str, optional
        What a person may do about it; a disk that is broken and the system's limits have hints of
        their own.
    kind : type of CtaflowsError
        Class for what a person can put right, such as missing rights.
    """
    said = why.strerror or str(why)
    where = None if path is None else os.fspath(path)
    if why.errno == errno.EPIPE:
        return NobodyReads("Nobody reads the pipe any more", where=where, said=said)
    if why.errno in _FULL:
        return NoSpace(
            f"{what}: no space is left here",
            where=where,
            said=said,
            hint="Make room, then do the same again." + (f" Or else: {hint}" if hint else ""),
        )
    if why.errno in _BROKEN:
        return StorageError(
            what,
            where=where,
            said=said,
            hint="The disk, or the server that it is on, fails: ask who looks after it.",
        )
    if why.errno == errno.EILSEQ:
        hint = "Set PYTHONUTF8=1, or a locale of UTF-8."
    if why.errno in _TOO_MUCH:
        kind, hint = UsageError, "See what this machine allows you: ulimit -a."
    return kind(what, where=where, said=said, hint=hint)


def refusal(why: Exception) -> OSError | None:
    """Return what the system said, where an exception is or stands for what it refused; else None.

    That is any OSError, and what Python raises in place of one for memory, for threads, and for
    names of files that the locale's encoding can't hold.
    """
    if isinstance(why, OSError):
        return why
    if isinstance(why, MemoryError):
        return OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    if isinstance(why, RuntimeError) and str(why) == "can't start new thread":
        return OSError(errno.EAGAIN, str(why))
    # in UTF-8 any name can be held: a lone surrogate there is a fault of ours
    if isinstance(why, UnicodeEncodeError) and why.encoding != "utf-8":
        return OSError(errno.EILSEQ, f"{why.encoding}, this locale's encoding, can't hold the name")
    return None


@contextmanager
def local_errors(
    path: str | os.PathLike[str] | None,
    what: str = "The destination can't be written",
    *,
    hint: str | None = "Name a folder that you may write to.",
    kind: type[CtaflowsError] = UsageError,
) -> Iterator[None]:
    """Turn what the system refuses in the block into ours; parameters as of `local_error`."""
    try:
        yield
    except (OSError, MemoryError, RuntimeError, UnicodeEncodeError) as why:
        told = refusal(why)
        if told is None:
            raise
        raise local_error(told, path, what, hint=hint, kind=kind) from why


# -- names that others can predict -----------------------------------------------------------------

_NOT_OURS = (errno.ELOOP, errno.ENXIO, errno.EMLINK)  # EMLINK: a link on FreeBSD


def open_ours(
    path: str | os.PathLike[str],
    flags: int,
    mode: int = 0o666,
    *,
    may_be_linked: bool = False,
    must_be_mine: bool = False,
) -> int:
    """Open a regular file whose name others can predict, and return its descriptor.

    Another user may have put something else there, so that bytes would be written elsewhere: a
    symbolic link, a hard link to a file of this user, a device, a pipe.

    Parameters
    ----------
    path : path
        The file.
    flags : int
        As for `os.open`; links are never followed.
    mode : int
        Permissions of a new file, before the umask; by default 0o666.
    may_be_linked : bool
        May the file have other hard links, as in a tree copied by ``cp -al``?
    must_be_mine : bool
        Must this user own it, as where its content is trusted?

    Raises
    ------
    UsageError
        There is something else than such a file; it is unchanged.
    OSError
        As for `os.open`.
    """
    try:
        # non-blocking: opening a pipe would wait for its other end
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    except OSError as why:
        if why.errno in _NOT_OURS:
            raise _refusal(path) from None
        raise
    about = os.fstat(descriptor)
    is_one = may_be_linked or about.st_nlink <= 1  # 0: just removed
    is_mine = not must_be_mine or about.st_uid == os.geteuid()
    if stat.S_ISREG(about.st_mode) and is_one and is_mine:
        return descriptor
    os.close(descriptor)
    raise _refusal(path)


def create(path: str | os.PathLike[str], flags: int = os.O_WRONLY, mode: int = 0o666) -> int:
    """Create a file where nothing was before, and return its descriptor.

    Parameters
    ----------
    path : path
        The file.
    flags : int
        ``O_WRONLY`` or ``O_RDWR``.
    mode : int
        Permissions before the umask, as for `open_ours`: the umask decides whether others of a
        group may resume a download.

    Raises
    ------
    FileExistsError
        Something is there, if only a link that leads nowhere.
    OSError
        As for `os.open`.
    """
    return os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes; one call of the system may write fewer."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def append_ours(path: str | os.PathLike[str], lines: bytes) -> None:
    """Append lines to a file, opened by `open_ours`; it is created if need be.

    They begin on a new line also where a kill or a full disk has cut the last one short.

    Raises
    ------
    UsageError, OSError
        As for `open_ours`.
    """
    descriptor = open_ours(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, may_be_linked=True)
    try:
        size_bytes = os.fstat(descriptor).st_size
        is_cut = size_bytes > 0 and os.pread(descriptor, 1, size_bytes - 1) != b"\n"
        write_all(descriptor, b"\n" + lines if is_cut else lines)
    finally:
        os.close(descriptor)


def read_ours(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a file, opened by `open_ours`; it may have other hard links."""
    with os.fdopen(open_ours(path, os.O_RDONLY, may_be_linked=True), "rb") as stream:
        return stream.read()


def replace_ours(path: Path, data: bytes) -> None:
    """Replace a file atomically, by way of ``PATH.new``; for one process at a time.

    Parameters
    ----------
    path : Path
        The file.
    data : bytes
        Its new content.

    Raises
    ------
    OSError
        It can't be written; the old file is unchanged.
    """
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)  # left by a killed process, or not ours
    with os.fdopen(create(temporary), "wb") as stream:
        stream.write(data)
    temporary.replace(path)


def is_special(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a device, a pipe or a socket, which must not be replaced by a file.

    Names of open files, such as ``/dev/stderr``, count too.

    Raises
    ------
    OSError
        As for `os.stat`, except that False is returned where there is nothing.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  called for each file
        if stat.S_ISREG(mode):
            return os.path.islink(path) and "/proc/" in os.readlink(path)  # noqa: PTH114, PTH115
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not stat.S_ISDIR(mode)


def open_special(path: str | os.PathLike[str]) -> int:
    """Open a character device or a pipe for writing, and return its descriptor.

    Raises
    ------
    UsageError
        It is a block device or a socket, or the pipe has no reader.
    OSError
        As for `os.open`.
    """
    mode = os.stat(path).st_mode  # noqa: PTH116
    if stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
        try:
            # non-blocking: opening a pipe would wait for a reader
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


# -- locks -----------------------------------------------------------------------------------------

#: Errors of flock(2) where there are no locks: Lustre mounted ``noflock``, NFS without lockd, some
#: file systems in user space.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
_warned_of: set[int] = set()  # devices


class NoLocks(UsageError):
    """The file system has no locks, and one is required."""


def lock(
    descriptor: int,
    path: str | os.PathLike[str],
    *,
    shared: bool = False,
    required: bool = False,
) -> bool | None:
    """Lock an open file by flock(2), without waiting, and return whether that succeeded.

    Parameters
    ----------
    descriptor : int
        The file. The lock is released when it is closed.
    path : path
        Its name, for messages.
    shared : bool
        Lock it together with others that do so, too.
    required : bool
        Refuse to work without locks, as for a token that can be used once. Otherwise a file system
        without locks keeps nobody from working.

    Returns
    -------
    bool or None
        True if it is locked now, False if another process holds the lock. None where the file
        system has no locks, so that this is unknown; a warning says so, once.

    Raises
    ------
    NoLocks
        The file system has no locks, and one is required.
    OSError
        As for `fcntl.flock`.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as why:
        if why.errno not in _NO_LOCKS:
            raise
        if required:
            raise NoLocks(
                "The file system has no locks, without which two processes could use a token that "
                "is good once",
                where=os.fspath(path),
                said=why.strerror,
                hint="Name a folder on another file system in CTAFLOWS_CONFIG_DIR.",
            ) from why
        device = os.fstat(descriptor).st_dev
        if device not in _warned_of:
            _warned_of.add(device)
            log.warning(
                "The file system of %s has no locks (%s): do not let two commands work on the same "
                "files there at once",
                os.fspath(path),
                why.strerror,
            )
        return None
    return True


# -- private files ---------------------------------------------------------------------------------
#
# Files that only this user can read: mode 0600 in a 0700 folder, from the first byte.

_POLL_S = 0.01
#: Without locks, a temporary file as old as this, seconds, is left by a killed process: a renewal
#: takes less than a minute.
_LEFT_AFTER_S = 3600.0


def make_folder(folder: Path) -> None:
    """Create a folder with mode 0700, and so its missing parents, lest another user replace it.

    Raises
    ------
    NoSpace, UsageError
        It can't be created.
    """
    with _private_errors(folder):
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        for one in reversed(missing):
            with contextlib.suppress(FileExistsError):
                one.mkdir(mode=0o700)


def write_private(file: Path, text: str) -> None:
    """Replace a private file atomically.

    Parameters
    ----------
    file : Path
        The file. Its folder is created with mode 0700.
    text : str
        Its new content.

    Raises
    ------
    NoSpace, UsageError
        It can't be written; the old file is unchanged.
    """
    with Room(file) as room:
        room.fill(text)


class Room:
    """A temporary file that will replace a private file, with reserved disk space.

    As a context manager it removes the temporary file at the end. That file is locked as long as it
    is in use: one without a lock was left by a killed process.

    Parameters
    ----------
    file : Path
        The private file. Its folder is created with mode 0700.
    n_bytes : int
        Space to reserve, by writing as many bytes, for a content that is not known yet but must
        not be lost.

    Raises
    ------
    NoSpace, UsageError
        It can't be written; nothing is left.
    """

    def __init__(self, file: Path, n_bytes: int = 0) -> None:
        make_folder(file.parent)
        self._file = file
        self._temporary = file.with_name(f".{file.name}.{os.getpid()}.{time.monotonic_ns()}")
        with _private_errors(file):
            self._descriptor = create(self._temporary, os.O_RDWR, 0o600)
            try:
                lock(self._descriptor, self._temporary)
                if n_bytes:
                    self._write(os.urandom(n_bytes))  # random: file systems may compress
            except OSError:
                self.close()
                raise

    def fill(self, text: str) -> None:
        """Write the content, and replace the private file atomically.

        Raises
        ------
        NoSpace, UsageError
            It can't be written; the old file is unchanged.
        """
        with _private_errors(self._file):
            self._write(text.encode())
            try:
                self._temporary.replace(self._file)
            except FileNotFoundError:  # removed by another machine, which does not see our lock
                write_private(self._file, text)
            else:
                _fsync_folder(os.fspath(self._file.parent))  # the old text may be a used token

    def close(self) -> None:
        """Remove the temporary file, if it has not replaced the private file."""
        with contextlib.suppress(OSError):
            self._temporary.unlink()
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        # overwrites the reserved space in place
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        write_all(self._descriptor, data)
        os.ftruncate(self._descriptor, len(data))
        os.fsync(self._descriptor)


class LockTimeout(AuthError):
    """Another process holds a lock for longer than the time to wait for it."""


@contextlib.contextmanager
def locked(file: Path, wait_s: float, *, required: bool = True) -> Iterator[None]:
    """Hold a lock file against all other processes and threads, by `flock`.

    Parameters
    ----------
    file : Path
        The lock file, which is created and stays.
    wait_s : float
        How long to wait for another holder, seconds; a suspended process may hold it for ever.
    required : bool
        As for `lock`.

    Raises
    ------
    LockTimeout
        Another process or thread holds it longer than that.
    NoLocks
        The file system has no locks, and one is required.
    UsageError
        The lock file can't be created.
    """
    make_folder(file.parent)
    with _private_errors(file):
        descriptor = open_ours(file, os.O_RDWR | os.O_CREAT, 0o600, may_be_linked=True)
    try:
        ends_at = time.monotonic() + wait_s
        with _private_errors(file):
            while lock(descriptor, file, required=required) is False:
                if time.monotonic() >= ends_at:
                    raise LockTimeout(
                        "Another process is renewing the token and does not end", where=str(file)
                    )
                time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _private_errors(path: Path) -> contextlib.AbstractContextManager[None]:
    hint = "Name a folder that you may write to in CTAFLOWS_CONFIG_DIR."
    return local_errors(path, "The tokens can't be kept", hint=hint)


def remove_private(file: Path) -> None:
    """Remove a private file, and temporary files of it that killed processes left.

    Raises
    ------
    UsageError
        It can't be removed.
    """
    with local_errors(file, "The tokens can't be removed", hint="Remove the file by hand."):
        file.unlink(missing_ok=True)
    remove_left(file)


def remove_left(file: Path) -> None:
    """Remove temporary files that killed processes left of a private file: secrets, perhaps."""
    for left in file.parent.glob(f".{glob.escape(file.name)}.[0-9]*"):
        with contextlib.suppress(OSError, UsageError):
            descriptor = open_ours(left, os.O_RDWR)
            try:
                is_held = lock(descriptor, left)
                silent_s = time.time() - os.fstat(descriptor).st_mtime
                if is_held or (is_held is None and silent_s > _LEFT_AFTER_S):
                    left.unlink()
            finally:
                os.close(descriptor)


def read_private(file: Path) -> str | None:
    """Return a small file's text without surrounding white space; None if empty or not readable."""
    try:
        return file.read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError):
        return None


# -- files written as streams ----------------------------------------------------------------------


@contextmanager
def replaced(
    path: str | os.PathLike[str],
    what: str = "The file can't be written",
    *,
    hint: str = "Name a file in a folder that you may write to.",
    is_ours: bool = False,
) -> Iterator[IO[bytes]]:
    """Yield a binary stream whose content replaces a file atomically at the end of the block.

    After an error the file is unchanged. A device or a pipe that a person named is written to
    directly. A link is replaced, not the file that it leads to.

    Parameters
    ----------
    path : path
        The file. Its folder is created if need be.
    what, hint : str
        Of the error, as for `local_error`.
    is_ours : bool
        Whether the name was not chosen by a person, so that a device or a pipe there is refused.

    Raises
    ------
    NoSpace, UsageError
        It can't be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    try:
        if is_special(path):
            if is_ours:
                raise _refusal(path)
            with os.fdopen(open_special(path), "wb") as stream:
                yield stream
            return
        make_folders(os.fspath(path.parent))
        with os.fdopen(create(temporary), "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        note_changed(os.fspath(path.parent))
    except OSError as why:
        raise local_error(why, path, what, hint=hint) from None
    finally:
        with suppress(OSError):
            temporary.unlink()


# -- folders ---------------------------------------------------------------------------------------
#
# A new file's name is on disk only when its folder has been synced: once for many files.

_changed_folders: ContextVar[set[str] | None] = ContextVar("ctaflows_folders", default=None)


def make_folders(folder: str) -> None:
    """Create a folder and its parents."""
    Path(folder).mkdir(parents=True, exist_ok=True)


def note_changed(folder: str) -> None:
    """Sync a folder in which a file was renamed, or leave that to `fsync_folders_once`."""
    waiting = _changed_folders.get()
    if waiting is None:
        _fsync_folder(folder)
    else:
        waiting.add(folder)


@contextlib.contextmanager
def fsync_folders_once() -> Iterator[None]:
    """Sync each folder noted in the block once, at the end of the block."""
    folders: set[str] = set()
    token = _changed_folders.set(folders)
    try:
        yield
    finally:
        _changed_folders.reset(token)
        for folder in folders:
            _fsync_folder(folder)


def _fsync_folder(folder: str) -> None:
    """Bring a folder's names to disk; where that can't be done the files are in place all the same.

    CIFS and some file systems in user space answer EINVAL or ENOSYS.
    """
    try:
        descriptor = os.open(folder or ".", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        pass  # removed by somebody else
    except OSError as why:
        log.warning("A power cut may lose names in %s: %s", folder or ".", why.strerror)


# -- bytes on disk ---------------------------------------------------------------------------------
#
# A file gets its name when its bytes are on disk. For many files one syncfs(2) takes a tenth of the
# time of an fsync each, but it waits for all that anybody has written to the same file system.

#: Where syncfs takes longer, seconds, each file is synced by itself from then on.
_SLOW_S = 1.0
_SYNC_THREADS = 8
#: File systems of other machines, which syncfs would keep waiting for others' files.
_REMOTE = ("nfs", "cifs", "smb", "lustre", "ceph", "gpfs", "beegfs", "afs", "9p", "fuse", "panfs")
_CANT_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EROFS)
_synced_alone: dict[int, bool] = {}  # by device


def sync_together(files: Sequence[tuple[int, str]]) -> list[OSError | None]:
    """Bring the bytes of files to disk.

    Parameters
    ----------
    files : sequence of (int, str)
        The descriptor of each, and its path for messages.

    Returns
    -------
    list of OSError or None
        What the system refused for each file. Where a file system can't sync at all that is
        nothing: a warning says so, once.
    """
    of_device: dict[int, list[int]] = {}
    for n, (descriptor, _) in enumerate(files):
        of_device.setdefault(os.fstat(descriptor).st_dev, []).append(n)
    refused: list[OSError | None] = [None] * len(files)
    for device, places in of_device.items():
        if (
            len(places) > 1
            and not _is_synced_alone(device)
            and _syncfs(files[places[0]][0], device)
        ):
            continue
        some = [files[n] for n in places]
        for n, why in zip(places, _each_synced(some), strict=True):
            refused[n] = why
    return refused


def _each_synced(files: Sequence[tuple[int, str]]) -> list[OSError | None]:
    """Sync files each by itself: several at once, as far as this process may have threads."""
    found: dict[int, OSError | None] = {}

    def sync(n: int) -> None:
        if n not in found:  # only the first fsync after it tells that bytes were lost
            found[n] = _fsync(files[n])

    if len(files) > 1:
        from concurrent.futures import ThreadPoolExecutor  # as ctypes, some milliseconds

        with (
            suppress(RuntimeError),  # CPython's, for any refusal of the system
            ThreadPoolExecutor(min(len(files), _SYNC_THREADS)) as threads,
        ):
            for n in range(len(files)):
                threads.submit(sync, n)
    for n in range(len(files)):
        sync(n)
    return [found[n] for n in range(len(files))]


def _fsync(file: tuple[int, str]) -> OSError | None:
    descriptor, path = file
    try:
        os.fsync(descriptor)
    except OSError as why:
        if why.errno not in _CANT_SYNC:
            return why
        device = os.fstat(descriptor).st_dev
        if device not in _warned_of_sync:
            _warned_of_sync.add(device)
            log.warning("A power cut may lose what is written to %s: %s", path, why.strerror)
    return None


_warned_of_sync: set[int] = set()  # devices


def _syncfs(descriptor: int, device: int) -> bool:
    """Sync a whole file system; return False where that can't be done."""
    import ctypes

    began = time.monotonic()
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            return False  # since Linux 5.8 also where bytes were lost: fsync tells of which file
    except (AttributeError, OSError):  # macOS
        _synced_alone[device] = True
        return False
    if time.monotonic() - began > _SLOW_S:
        _synced_alone[device] = True
    return True


def _is_synced_alone(device: int) -> bool:
    if device not in _synced_alone:
        _synced_alone[device] = _kind_of(device).startswith(_REMOTE)
    return _synced_alone[device]


def _kind_of(device: int) -> str:
    """Return the kind of file system of a device (proc(5), mountinfo); empty if unknown."""
    number = f"{os.major(device)}:{os.minor(device)}"
    with contextlib.suppress(OSError), Path("/proc/self/mountinfo").open(encoding="utf-8") as lines:
        for line in lines:
            fields = line.split()
            if fields[2] == number and "-" in fields:
                return fields[fields.index("-") + 1]
    return ""
