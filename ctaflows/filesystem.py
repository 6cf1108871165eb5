"""The storage as an fsspec filesystem, ``cta://``, for pandas, dask and others.

::

    fsspec.open("cta://lst/DL1/20241114/v0.10/tailcut84/dl1_LST-1.Run11111.0000.h5")
    pandas.read_csv("cta://lst/users/me/table.csv", storage_options={"profile": "cscs-dev"})

It is read-only: `ctaflows.upload_file` uploads a file and verifies it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.spec import AbstractFileSystem
from fsspec.utils import isfilelike

from ctaflows.errors import CtaflowsError, NotFound, Refused, StorageError, UsageError
from ctaflows.storage.connect import connect
from ctaflows.storage.remote_file import CACHE_BYTES, RemoteFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ctaflows.model import Entry
    from ctaflows.storage.protocol import Storage


class CtaFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The files at the storage of a profile, read-only.

    Parameters
    ----------
    profile : str, optional
        Profile of the settings, see `ctaflows.settings.load`.
    cache_bytes : int, optional
        Size of the cache of each open file.
    **options : Any
        Options of fsspec, such as ``skip_instance_cache``.
    """

    protocol = "cta"
    root_marker = "/"

    def __init__(
        self, profile: str | None = None, *, cache_bytes: int = CACHE_BYTES, **options: Any
    ) -> None:
        super().__init__(**options)
        self.profile = profile
        self.cache_bytes = cache_bytes

    @property
    def fsid(self) -> str:
        """Identifier of the storage: its URL."""
        return f"cta_{self._door.url}"

    @property
    def _door(self) -> Storage:
        return connect(self.profile)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        """Return the path from the storage's root; the first part after ``cta://`` is no host."""
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return "/" + super()._strip_protocol(path).strip("/")

    # -- reading -------------------------------------------------------------------------------

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """Return the entries of a directory; for a file, the file itself.

        Parameters
        ----------
        path : str
            Path, with or without ``cta://``.
        detail : bool
            Return for each entry what `info` returns; with False its path.

        Raises
        ------
        StorageError
            The storage can't describe an entry, which `find` and `glob` would leave out.
        FileNotFoundError, PermissionError
            There is nothing at that path, or it is not readable.
        """
        with _as_os_errors(path):
            entries = list(self._door.list(self._strip_protocol(path)))
        for entry in entries:
            if entry.error is not None:
                raise StorageError(
                    "It is there, but the storage can't describe it",
                    where=entry.path,
                    said=entry.error,
                )
        where = self._strip_protocol(path)
        found = [_details(entry, is_listed=entry.path != where) for entry in entries]
        return found if detail else [entry["name"] for entry in found]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return name, size, type, mtime, etag, checksums and locality of a file or directory.

        The size is in bytes, mtime an aware UTC time, and checksums a dict by algorithm. A symbolic
        link is described as what it leads to, and islink is None: only `ls` of the directory above
        tells. There, a link to a file is a file whose islink is True, and the type of one to a
        directory, or to nothing, is ``link``: `find` and `walk` do not enter it.
        """
        with _as_os_errors(path):
            return _details(self._door.stat(self._strip_protocol(path)), is_listed=False)

    def exists(self, path: str, **_: Any) -> bool:
        """Return whether there is anything at a path.

        Any error but FileNotFoundError is raised, where fsspec would return False.
        """
        return self._type(path) is not None

    def isfile(self, path: str) -> bool:
        """Return whether there is a file at a path; errors as for `exists`."""
        return self._type(path) == "file"

    def isdir(self, path: str) -> bool:
        """Return whether there is a directory at a path; errors as for `exists`."""
        return self._type(path) == "directory"

    def _type(self, path: str) -> str | None:
        try:
            return str(self.info(path)["type"])
        except FileNotFoundError:
            return None

    def modified(self, path: str) -> datetime | None:
        """Return the time of the last modification, aware UTC; None where it is not known."""
        found: datetime | None = self.info(path)["mtime"]
        return found

    def ukey(self, path: str) -> str:
        """Return a key that changes when the file is written again."""
        about = self.info(path)
        return repr((about["name"], about["size"], about["mtime"], about["etag"]))

    def _open(self, path: str, mode: str = "rb", **_: Any) -> RemoteFile:
        if mode != "rb":
            self._refuse(path)
        with _as_os_errors(path):
            door = self._door
            return RemoteFile(door, door.stat(path), cache_bytes=self.cache_bytes)

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **options: Any
    ) -> bytes:
        """Return a file's bytes from `start` to `end`; negative offsets count from the end."""
        with _as_os_errors(path):
            data: bytes = super().cat_file(path, start, end, **options)
        return data

    def get_file(
        self,
        rpath: str,
        lpath: Any = None,
        callback: Any = DEFAULT_CALLBACK,
        outfile: Any = None,
        **options: Any,
    ) -> None:
        """Fetch a file as `ctaflows get` does: resumed, and verified before it gets its name.

        Parameters
        ----------
        rpath, lpath : str
            Remote and local path. The local one may be a file object; a file is then neither
            resumed nor verified.
        callback, outfile, **options
            As for fsspec.

        Raises
        ------
        FileNotFoundError, PermissionError
            There is no such file, or it is not readable.
        CtaflowsError
            It can't be fetched, or is not the file that the storage describes.
        """
        from ctaflows.transfer.batch import fetch_alone
        from ctaflows.transfer.download import Job

        if outfile is not None or isfilelike(lpath) or self.isdir(rpath):
            super().get_file(rpath, lpath, callback=callback, outfile=outfile, **options)
            return
        with _as_os_errors(rpath):
            door = self._door
            entry = door.stat(self._strip_protocol(rpath))
            callback.set_size(entry.size_bytes)
            fetch_alone(door, Job(entry, Path(lpath)))
            callback.absolute_update(entry.size_bytes)

    # -- no writing ----------------------------------------------------------------------------

    def _refuse(self, path: Any, *_: Any, **__: Any) -> NoReturn:
        raise OSError(
            errno.EROFS,
            "cta:// is read-only; `ctaflows put` uploads files and verifies them",
            str(path),
        )

    mkdir = makedirs = rmdir = touch = cp_file = _rm = rm_file = rm = mv = _refuse
    put_file = pipe_file = _refuse


def _details(entry: Entry, *, is_listed: bool) -> dict[str, Any]:
    return {
        "name": entry.path,
        "size": entry.size_bytes if entry.kind == "file" else 0,
        "type": entry.kind,
        "mtime": entry.mtime,
        "etag": entry.etag,
        "checksums": {c.algorithm: c.value for c in entry.checksums},
        "locality": entry.locality,
        "islink": entry.link is not None if is_listed else None,
    }


@contextlib.contextmanager
def _as_os_errors(path: str) -> Iterator[None]:
    """Raise our errors about a missing, forbidden or wrong path as the OSErrors of fsspec."""
    try:
        yield
    except NotFound as why:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from why
    except Refused as why:
        raise PermissionError(errno.EACCES, str(why), path) from why
    except UsageError as why:
        if "directory" in why.what:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path) from why
        raise
    except CtaflowsError:
        raise
