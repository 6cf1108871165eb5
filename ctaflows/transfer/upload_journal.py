"""Temporary names at doors: each is given once, and kept on disk until the file has its own name.

A process that is killed leaves its files at the door, under names that nobody can guess. So while
it uploads it holds a journal, ``uploads/HOST.PID.RANDOM`` in ctaflows' folder, locked by `flock`:
the door's URL, and then a line for each temporary name begun (``+``) and ended (``-``). Who uploads
to the same door later removes what is named by journals that nobody holds. Where no journal can be
kept, uploads go on without.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import logging
import os
import re
import stat
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from ctaflows import cancel
from ctaflows.atomic_files import make_folder
from ctaflows.errors import AuthError, CtaflowsError, NetworkError, NotFound, Refused, Stopped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ctaflows.storage.webdav import WebDAVStorage

log = logging.getLogger("ctaflows.transfer")

_MAX_NAME_BYTES = 200
_ERRORS = "surrogateescape"
_TEMPORARY = re.compile(r"/\.[^/]*\.[0-9a-f]{12}\.part")
_TRIES = 10
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: What a killed process has sent may still arrive so long after its last line.
_ARRIVES_WITHIN_S = 60.0
#: A lock of another machine may not be seen here (NFS ``local_lock``, Lustre ``localflock``). This
#: long after its last line its process is gone, and what the door still can't remove is left.
_FORGOTTEN_AFTER_S = 7 * 86400.0


class Journal:
    """The temporary names that this process has begun at a door and not ended.

    Its file is made with the first of them. For many threads at once.

    Parameters
    ----------
    folder : Path
        Where its file goes.
    door_url : str
        The door.
    """

    def __init__(self, folder: Path, door_url: str) -> None:
        self._folder, self._door_url = folder, door_url
        self._lock = threading.Lock()
        self._begun: set[str] = set()
        self._file: Path | None = None
        self._descriptor: int | None = None
        self._lines = ""  # to be written
        self._is_lost = False  # can't be kept
        self.n_users = 0

    def begin(self, target: str) -> str:
        """Give a temporary name for a file: one that no process, thread or machine has besides.

        Chimera, dCache's name space, takes a name that begins with ``.(`` for a command
        (JdbcFs.inodeOf).
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
        """Note that nothing is there any more under a temporary name; written with the next one."""
        with self._lock:
            if temporary in self._begun:
                self._begun.remove(temporary)
                self._note("-", temporary)

    def _note(self, sign: str, path: str) -> None:
        """Make a line; it begins with the newline, lest one that was cut short spoil the next."""
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
            os.write(self._descriptor, lines.encode())  # a kill loses nothing that was written
        except (OSError, CtaflowsError) as why:
            log.debug("No journal of uploads: %s", why)
            self._is_lost = self._descriptor is None

    def _open(self) -> None:
        make_folder(self._folder)
        for _ in range(_TRIES):
            file = self._folder / f"{_host()}.{os.getpid()}.{os.urandom(4).hex()}"
            descriptor = os.open(file, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                if _holds(descriptor):  # else another process took it for one that nobody holds
                    os.write(descriptor, self._door_url.encode())
                    self._file, self._descriptor = file, descriptor
                    return
            except OSError:
                file.unlink(missing_ok=True)
                raise
            finally:
                if self._descriptor is None:
                    os.close(descriptor)
        raise OSError(errno.EBUSY, "Others hold it")

    def close(self) -> None:
        """Let go of the file; it stays where something is left at the door, for later uploads."""
        with self._lock:
            if self._begun:
                self._write()
            elif self._file is not None:
                with contextlib.suppress(OSError):
                    self._file.unlink()
        self.disown()

    def disown(self) -> None:
        """Let go of the file in this process: a lock ends with the last one that has it open."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._file, self._is_lost = None, None, True
        self._lock = threading.Lock()  # in a fork: a thread that is not there may hold the other


_kept: dict[tuple[Path, str], Journal] = {}
_keeping = threading.Lock()


def _forget() -> None:
    """Leave the journals to the first process: a fork has its own."""
    global _keeping
    _keeping = threading.Lock()
    for journal in _kept.values():
        journal.disown()
    _kept.clear()


os.register_at_fork(after_in_child=_forget)


@contextlib.contextmanager
def kept(door: WebDAVStorage, stop: threading.Event | None = None) -> Iterator[Journal]:
    """Keep a journal of what goes up to a door as long as the block lasts.

    Blocks of one process share it, and the first removes what killed processes have left.

    Parameters
    ----------
    door : WebDAVStorage
        The door. Its settings tell where journals are kept.
    stop : threading.Event, optional
        Ends the removing soon after it is set.
    """
    folder = door.settings.config_dir / "uploads"
    key = folder, door.settings.door_url
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
                if _kept.get(key) is journal:  # else this is a fork
                    del _kept[key]
                journal.close()


def _sweep(door: WebDAVStorage, folder: Path) -> None:
    """Remove what is named by journals that nobody holds, and those of which nothing is left."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208  seldom one, and no need of a Path
    except OSError:
        return
    for name in names:
        try:
            descriptor = os.open(folder / name, _FLAGS)
        except OSError:
            continue
        try:
            _go_through(door, folder / name, descriptor)
        except OSError as why:
            log.debug("A journal of uploads can't be read: %s", why)
        except Stopped:
            raise
        except CtaflowsError as why:
            log.info("What killed uploads left at the door stays there for now: %s", why)
            return
        finally:
            os.close(descriptor)


def _go_through(door: WebDAVStorage, file: Path, descriptor: int) -> None:
    about = os.fstat(descriptor)
    silent_s = time.time() - about.st_mtime
    is_forgotten = silent_s > _FORGOTTEN_AFTER_S
    is_from_here = file.name.rsplit(".", 2)[0] == _host()
    if not stat.S_ISREG(about.st_mode) or not (is_from_here or is_forgotten):
        return
    if not _holds(descriptor):
        return
    with open(descriptor, "rb", closefd=False) as stream:
        first = stream.readline().rstrip(b"\n")
        is_empty = os.fstat(descriptor).st_size == 0  # killed before it wrote a word
        if first != door.settings.door_url.encode() and not is_empty:
            return
        left = _begun(stream)
    are_gone = [_is_removed(door, path) for path in left]
    is_over = all(are_gone) or is_forgotten
    if is_over and (silent_s > _ARRIVES_WITHIN_S or not left):
        file.unlink(missing_ok=True)


def _begun(lines: Iterable[bytes]) -> list[str]:
    """Give what was begun and not ended; what does not look like a temporary name is left out."""
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


def _is_removed(door: WebDAVStorage, path: str) -> bool:
    """Remove what a killed upload left; False where that may go well another time.

    Raises
    ------
    NetworkError, AuthError
        Nothing can be removed now.
    """
    try:
        door.remove(path)
        log.info("Removed %s, which a killed upload left at the door", path)
    except NotFound:
        pass
    except Stopped:
        raise
    except CtaflowsError as why:
        if isinstance(why, NetworkError | AuthError) and not isinstance(why, Refused):
            raise
        log.warning("%s stays at the door: %s", path, why)
        return False  # such as another login's
    return True


def _holds(descriptor: int) -> bool:
    """Lock a journal, and say whether that was possible and its file still has its name."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(descriptor).st_nlink > 0


@functools.cache
def _host() -> str:
    """Name this machine, and this run of it: two may have one name, and one home."""
    name = re.sub(r"[^\w.-]", "-", os.uname().nodename)
    with contextlib.suppress(OSError):
        return f"{name}-{Path('/proc/sys/kernel/random/boot_id').read_text('ascii')[:8]}"
    return name
