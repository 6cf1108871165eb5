"""The storage itself, a dCache door, as ctadata 0.6's ``ctadata.direct`` and all of 0.7.

::

    from ctaflows.ctadata import direct as ctadata

    for path in ctadata.list_dir("cta"):
        print(path)

Neither davix nor oidc-agent is needed. ``dev_instance=True`` means the development instance.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os

    from ctaflows.ctadata.direct.api import APIClient
    from ctaflows.ctadata.entries import Name, RemotePath
    from ctaflows.ctadata.errors import (
        ClientSecretNotFound,
        DirectApiError,
        StorageException,
        TokenError,
        TokenExpiredError,
    )

__all__ = [
    "APIClient",
    "ClientSecretNotFound",
    "DirectApiError",
    "StorageException",
    "TokenError",
    "TokenExpiredError",
    "fetch_and_save_file",
    "fetch_and_save_file_or_dir",
    "list_dir",
    "start_agent_daemon",
    "upload_dir",
    "upload_file",
]


def list_dir(
    path: RemotePath, recursive: bool = False, n_threads: int = 2, *, dev_instance: bool = False
) -> list[Name]:
    """List a directory.

    Parameters
    ----------
    path : str
        A directory at the door.
    recursive : bool
        All below it, as paths from the root without a leading slash; else its names.
    n_threads : int
        Has no meaning any more.
    dev_instance : bool
        Ask the development instance.

    Returns
    -------
    list of str
        Decoded and sorted. Each knows its whole path, so that it can be handed to the next call.

    Raises
    ------
    StorageException
        Nothing there, not allowed, or the door can't be reached.
    TokenError
        There is no token, or it has expired.
    """
    return _client(dev_instance).list_dir(path, recursive, n_threads)


def fetch_and_save_file(
    path: RemotePath,
    save_to_fn: str | os.PathLike[str] | None = None,
    *,
    dev_instance: bool = False,
) -> int:
    """Fetch a file, resumed and compared with the storage's checksum.

    Parameters
    ----------
    path : str
        A file at the door.
    save_to_fn : path, optional
        Its new name, or a folder; None means its own name, here.
    dev_instance : bool
        As for `list_dir`.

    Returns
    -------
    int
        Size in bytes; a file that is here already and proven is not moved again.

    Raises
    ------
    StorageException, TokenError
        As for `list_dir`; also where the path is a directory.
    """
    return _client(dev_instance).fetch_and_save_file(path, save_to_fn)


def fetch_and_save_file_or_dir(
    path: RemotePath, recursive: bool = False, *, dev_instance: bool = False
) -> int:
    """Fetch a file, or with ``recursive`` a directory into one of its name.

    Returns
    -------
    int
        Size of all files in bytes.

    Raises
    ------
    StorageException
        Also where some of many files failed: ``report`` tells of each, the others are here.
    """
    return _client(dev_instance).fetch_and_save_file_or_dir(path, recursive)


def upload_file(
    local_fn: str | os.PathLike[str], path: str, *, dev_instance: bool = False
) -> dict[str, Any]:
    """Upload a file under a temporary name, compare it, and give it its own.

    Parameters
    ----------
    local_fn : path
        A file here.
    path : str
        Its path at the door, where it replaces what is there; one that ends in ``/`` is completed
        with the file's name.
    dev_instance : bool
        As for `list_dir`.

    Returns
    -------
    dict
        ``path``, ``status``, ``total_written``.
    """
    return _client(dev_instance).upload_file(local_fn, path)


def upload_dir(
    local_dir: str | os.PathLike[str], path: str, *, dev_instance: bool = False
) -> list[dict[str, Any]]:
    """Upload the files of a directory straight below ``path``, each in its sub-directory.

    Returns
    -------
    list of dict
        One for each file, as `upload_file` gives.
    """
    return _client(dev_instance).upload_dir(local_dir, path)


def start_agent_daemon(*, dev_instance: bool = False) -> None:
    """Keep the token warm in a process of its own; asks a person to log in first if need be."""
    _client(dev_instance).start_agent_daemon()


def _client(dev_instance: bool) -> APIClient:
    from ctaflows.ctadata.direct.api import APIClient

    return APIClient(dev_instance=dev_instance)


def __getattr__(name: str) -> Any:
    if name == "direct":  # ctadata's README writes ctadata.direct.upload_file of this module
        return sys.modules[__name__]
    if name == "APIClient":
        return importlib.import_module("ctaflows.ctadata.direct.api").APIClient
    if name in __all__:
        return getattr(importlib.import_module("ctaflows.ctadata.errors"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
