"""Temporary names of uploads, and a journal of those that are in use.

A process that is killed leaves its files at the storage under temporary names, which are random. So
a process that uploads has a journal, the file ``uploads/HOST.PID.RANDOM`` in ctaflows' folder,
locked by `flock`: the storage's URL, then a line for each temporary name that it begins (``+``) or
ends (``-``) to use. A later upload to the same storage removes what the journals without a lock
name. Where no journal can be written, uploads go on without one.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from ctaflows import cancel
from ctaflows.atomic_files import create, lock, make_folder, open_ours
from ctaflows.errors import (
    AuthError,
    CtaflowsError,
    NetworkError,
    NotFound,
    Refused,
    Stopped,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ctaflows.storage.protocol import Storage

log = logging.getLogger("ctaflows.transfer")

_MAX_NAME_BYTES = 200
_ERRORS = "surrogateescape"
_TEMPORARY = re.compile(r"/\.[^/]*\.[0-9a-f]{12}\.part")
_TRIES = 10
#: A request of a killed process may still take effect this long after its last line, seconds.
_ARRIVES_WITHIN_S = 60.0
#: Locks of other machines may be invisible (NFS ``local_lock``, Lustre ``localflock``). This long
#: after a journal's last line, seconds, its process counts as ended on whatever machine it ran, and
#: the journal is removed even if the storage still refuses to remove a file that it names.
_FORGOTTEN_AFTER_S = 7 * 86400.0


class Journal:
    """The temporary names that this process uses at a storage, in memory and in a file.

    The file is created with the first name. All methods may be called from many threads at once.

    Parameters
    ----------
    folder : Path
        Folder of the file.
    door_url : str
        Base URL of the storage.
    """

    def __init__(self, folder: Path, door_url: str) -> None:
        self._folder, self._door_url = folder, door_url
        self._lock = threading.Lock()
        self._begun: set[str] = set()
        self._file: Path | None = None
        self._descriptor: int | None = None
        self._lines = ""  # to be written
        self._is_lost = False  # the file can't be written
        self.n_users = 0

    def begin(self, target: str) -> str:
        """Return a temporary path beside a remote file that no other upload uses.

        No name begins with ``.(``: Chimera, dCache's name space, takes that for a command
        (JdbcFs.inodeOf, dCache 12.1), and a PUT to it ends in 500 (seen with 11.2.5).
        """
        folder, _, name = target.rpartition("/")
        short = name.encode("utf-8", _ERRORS)[:_MAX_NAME_BYTES].decode("utf-8", "ignore")
        temporary = f"{folder}/.{short.lstrip('(')}.{os.urandom(6).hex()}.part"
        with self._lock:
            self._begun.add(temporary)
            self._note("+", temporary)
            self._write()
        return temporary

    def end(self, temporary: str) -> None:
        """Note that a temporary path no longer exists; written together with the next `begin`."""
        with self._lock:
            if temporary in self._begun:
                self._begun.remove(temporary)
                self._note("-", temporary)

    def _note(self, sign: str, path: str) -> None:
        """Add a line, newline first: one that was cut short by a kill does not spoil the next."""
        if not self._is_lost:
            self._lines += f"\n{sign} {quote(path, errors=_ERRORS)}"

    def _write(self) -> None:
        lines, self._lines = self._lines, ""
        if self._is_lost:
            return
        try:
            if self._descriptor is None:
                self._open()
            assert self._descriptor is not None  # noqa: S101
            os.write(self._descriptor, lines.encode())  # unbuffered: a kill loses nothing
        except (OSError, CtaflowsError) as why:
            log.debug("No journal of uploads: %s", why)
            self._is_lost = self._descriptor is None

    def _open(self) -> None:
        make_folder(self._folder)
        for _ in range(_TRIES):
            file = self._folder / f"{_host()}.{os.getpid()}.{os.urandom(4).hex()}"
            descriptor = create(file, os.O_RDWR, 0o600)
            try:
                # else another process took it for that of a killed one
                if _lock(descriptor, file) is not False:
                    os.write(descriptor, self._door_url.encode())
                    self._file, self._descriptor = file, descriptor
                    return
            except OSError:
                file.unlink(missing_ok=True)
                raise
            finally:
                if self._descriptor is None:
                    os.close(descriptor)
        raise OSError(errno.EBUSY, "Other processes hold it")

    def close(self) -> None:
        """Close the file, and remove it unless a temporary name is still in use at the storage."""
        with self._lock:
            if self._begun:
                self._write()
            elif self._file is not None:
                with contextlib.suppress(OSError):
                    self._file.unlink()
        self.disown()

    def disown(self) -> None:
        """Close the file in this process; after a fork the lock stays with the other process."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._file, self._is_lost = None, None, True
        self._lock = threading.Lock()  # in a fork the old one may be held by a thread of the parent


_kept: dict[tuple[Path, str], Journal] = {}
_keeping = threading.Lock()


def _forget() -> None:
    """Leave the journals to the parent process after a fork."""
    global _keeping
    _keeping = threading.Lock()
    for journal in _kept.values():
        journal.disown()
    _kept.clear()


os.register_at_fork(after_in_child=_forget)


@contextlib.contextmanager
def kept(door: Storage, stop: threading.Event | None = None) -> Iterator[Journal]:
    """Keep a journal of the uploads to a storage as long as the block lasts.

    Concurrent blocks of one process share a journal. The first block removes at the storage what
    killed processes have left there.

    Parameters
    ----------
    door : Storage
        The storage; journals are in ``uploads`` below its setting ``config_dir``.
    stop : threading.Event, optional
        Ends that removal when it is set.
    """
    folder = door.settings.config_dir / "uploads"
    key = folder, door.url
    with _keeping:
        journal = _kept.setdefault(key, Journal(*key))
        is_first = journal.n_users == 0
        journal.n_users += 1
    try:
        if is_first:
            with cancel.scope(stop or cancel.current()):
                _sweep(door, folder)
        yield journal
    finally:
        with _keeping:
            journal.n_users -= 1
            if journal.n_users == 0:
                if _kept.get(key) is journal:  # not in a fork
                    del _kept[key]
                journal.close()


def _sweep(door: Storage, folder: Path) -> None:
    """Remove at the storage what journals of ended processes name, then these journals."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208  usually empty: names will do
    except OSError:
        return
    for name in names:
        try:
            descriptor = open_ours(folder / name, os.O_RDWR)
        except (OSError, UsageError):
            continue
        try:
            _clean_up(door, folder / name, descriptor)
        except OSError as why:
            log.debug("A journal of uploads can't be read: %s", why)
        except Stopped:
            raise
        except CtaflowsError as why:
            log.info("Files that killed uploads left at the storage stay there for now: %s", why)
            return
        finally:
            os.close(descriptor)


def _clean_up(door: Storage, file: Path, descriptor: int) -> None:
    """Remove what one journal names, if its process has ended, and then the journal."""
    about = os.fstat(descriptor)
    unchanged_s = time.time() - about.st_mtime
    is_forgotten = unchanged_s > _FORGOTTEN_AFTER_S
    is_local = file.name.rsplit(".", 2)[0] == _host()
    if not (is_local or is_forgotten):
        return
    is_locked = _lock(descriptor, file)
    if not is_locked and not (is_locked is None and is_forgotten):
        return
    with open(descriptor, "rb", closefd=False) as stream:
        first = stream.readline().rstrip(b"\n")
        is_empty = os.fstat(descriptor).st_size == 0  # killed before its first line
        if first != door.url.encode() and not is_empty:
            return
        left = _begun(stream)
    are_gone = [_is_removed(door, path) for path in left]
    is_over = all(are_gone) or is_forgotten
    if is_over and (unchanged_s > _ARRIVES_WITHIN_S or not left):
        file.unlink(missing_ok=True)


def _begun(lines: Iterable[bytes]) -> list[str]:
    """Return the paths that were begun and not ended, without what is no temporary path of ours."""
    begun: dict[str, None] = {}
    for line in lines:
        path = unquote(line[2:].rstrip(b"\n").decode("ascii", "replace"), errors=_ERRORS)
        if line.startswith(b"+ "):
            begun[path] = None
        elif line.startswith(b"- "):
            begun.pop(path, None)
    return [path for path in begun if path[:1] == "/" and _is_temporary(path)]


def _is_temporary(path: str) -> bool:
    return _TEMPORARY.fullmatch(path, path.rfind("/")) is not None


def _is_removed(door: Storage, path: str) -> bool:
    """Remove a temporary file; return False if it stays and may be removable later.

    Raises
    ------
    NetworkError, AuthError
        No file can be removed now.
    """
    try:
        door.remove(path)
        log.info("Removed %s, which a killed upload left at the storage", path)
    except NotFound:
        pass
    except Stopped:
        raise
    except CtaflowsError as why:
        if isinstance(why, NetworkError | AuthError) and not isinstance(why, Refused):
            raise
        log.warning("%s stays at the storage: %s", path, why)
        return False  # such as a file of another login
    return True


def _lock(descriptor: int, file: Path) -> bool | None:
    """Lock a journal, see `atomic_files.lock`; return False also if another process removed it."""
    is_locked = lock(descriptor, file)
    return is_locked if os.fstat(descriptor).st_nlink > 0 else False


@functools.cache
def _host() -> str:
    """Return this machine's name with its boot id: machines that share a home may have one name."""
    name = re.sub(r"[^\w.-]", "-", os.uname().nodename)
    with contextlib.suppress(OSError):
        return f"{name}-{Path('/proc/sys/kernel/random/boot_id').read_text('ascii')[:8]}"
    return name
