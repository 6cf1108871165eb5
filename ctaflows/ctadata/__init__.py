"""Everything that ctadata documents, by one changed import.

::

    from ctaflows import ctadata  # for import ctadata
    from ctaflows.ctadata import direct as ctadata  # for from ctadata import direct as ctadata

The functions here ask the download service of the JupyterHub platform, as ctadata 0.5 and 0.6 did,
wherever the hub's token is given (``JUPYTERHUB_API_TOKEN``, ``token=``, ``APIClient.token``). Where
there is none, or with ``dev_instance=True``, they ask the storage itself, as ctadata 0.7 did.
docs/migration.md has the old ways beside the new ones.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os

    from ctaflows.ctadata import api, certificates, direct
    from ctaflows.ctadata.api import APIClient
    from ctaflows.ctadata.entries import ListedEntry, Name, RemotePath
    from ctaflows.ctadata.errors import (
        CertificateError,
        ClientSecretNotFound,
        DirectApiError,
        StorageException,
        TokenError,
        TokenExpiredError,
    )

__all__ = [
    "APIClient",
    "CertificateError",
    "ClientSecretNotFound",
    "DirectApiError",
    "StorageException",
    "TokenError",
    "TokenExpiredError",
    "api",
    "certificates",
    "direct",
    "fetch_and_save_file",
    "fetch_and_save_file_or_dir",
    "list_dir",
    "start_agent_daemon",
    "upload_certificate",
    "upload_dir",
    "upload_file",
    "upload_personal_certificate",
    "upload_shared_certificate",
    "webdav4_client",
]


def list_dir(
    path: RemotePath, recursive: bool = False, **settings: Any
) -> list[ListedEntry] | list[Name]:
    """List a directory.

    Parameters
    ----------
    path : str
        Such as ``cta/DL1/20241114/v0.1/``, or what a listing gave.
    recursive : bool
        All below it.
    **settings : Any
        For this call alone: ``token``, ``downloadservice``, ``certificateservice``, ``chunk_size``;
        or ``dev_instance=True``.

    Returns
    -------
    list
        From the download service dictionaries with ``href``, ``url``, ``type``, ``size``, ``mtime``
        that also read as paths, the directory itself among them. From the storage itself names.

    Raises
    ------
    StorageException
        Nothing there, not allowed, or the service can't be reached.
    TokenError
        There is no token, or it has expired.
    """
    found: list[ListedEntry] | list[Name] = _client(settings).list_dir(path, recursive)
    return found


def fetch_and_save_file(
    path: RemotePath, save_to_fn: str | os.PathLike[str] | None = None, **settings: Any
) -> int:
    """Fetch a file; it appears under its name when it is whole.

    Parameters
    ----------
    path : str
        A file, or what a listing gave.
    save_to_fn : path, optional
        Its new name, or a folder; None means its own name, here.
    **settings : Any
        As for `list_dir`.

    Returns
    -------
    int
        Size in bytes; a file that is here already and proven is not moved again.

    Raises
    ------
    StorageException
        As for `list_dir`; also where the path is a directory, or fewer bytes came than listed.
    """
    size: int = _client(settings).fetch_and_save_file(path, save_to_fn)
    return size


def fetch_and_save_file_or_dir(path: RemotePath, recursive: bool = False, **settings: Any) -> int:
    """Fetch a file, or with ``recursive`` a directory with all that is below it.

    From the download service a directory's files come to lie at their whole paths below here, from
    the storage itself in a directory of its name.

    Returns
    -------
    int
        Size of all files in bytes.

    Raises
    ------
    StorageException
        Also where some of many files failed: ``report`` tells of each, the others are here.
    """
    size: int = _client(settings).fetch_and_save_file_or_dir(path, recursive)
    return size


def upload_file(local_fn: str | os.PathLike[str], path: str, **settings: Any) -> dict[str, Any]:
    """Upload a file, replacing what is there.

    Parameters
    ----------
    local_fn : path
        A file here.
    path : str
        Through the download service below one's own directory, else from the root; one that ends
        in ``/`` is completed with the file's name.
    **settings : Any
        As for `list_dir`.

    Returns
    -------
    dict
        ``path`` from the root, ``status``, ``total_written``.

    Raises
    ------
    StorageException
        Not allowed, or what is there afterwards is not what was sent.
    FileNotFoundError
        There is no such file here.
    """
    answer: dict[str, Any] = _client(settings).upload_file(local_fn, path)
    return answer


def upload_dir(
    local_dir: str | os.PathLike[str], path: str, **settings: Any
) -> list[dict[str, Any]]:
    """Upload the files of a directory straight below ``path``, each in its sub-directory.

    Returns
    -------
    list of dict
        One for each file, as `upload_file` gives.
    """
    answers: list[dict[str, Any]] = _client(settings).upload_dir(local_dir, path)
    return answers


def webdav4_client(**settings: Any) -> Any:
    """Make a `webdav4 client <https://skshetry.github.io/webdav4/>`_ of the download service.

    It may write below one's own directory alone; moving and removing are not there.
    """
    return _platform(settings).webdav4_client()


def upload_certificate(
    certificate_file_path: str | os.PathLike[str], **settings: Any
) -> dict[str, Any]:
    """Delegate a proxy certificate to the platform, for all that certificates are kept for.

    Parameters
    ----------
    certificate_file_path : path
        A certificate or proxy chain, PEM. What has expired, can't be parsed, or holds a private
        key that is not its proxy's, is not sent.
    **settings : Any
        As for `list_dir`.

    Returns
    -------
    dict
        What the service says.

    Raises
    ------
    CertificateError
        It may not be sent, or was not taken.
    FileNotFoundError
        There is no such file.
    """
    return _platform(settings).upload_certificate(certificate_file_path)


def upload_personal_certificate(
    certificate_file_path: str | os.PathLike[str],
    certificate_key: str,
    user: str | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Delegate a proxy certificate to the platform for one purpose.

    Parameters
    ----------
    certificate_file_path : path
        As for `upload_certificate`.
    certificate_key : str
        What it is for: ``cta``, ``lst`` or ``arc``, or what ``CTACS_ALLOWED_CERT_KEYS`` names.
    user : str, optional
        Somebody else, for administrators.
    **settings : Any
        As for `list_dir`.
    """
    return _platform(settings).upload_personal_certificate(
        certificate_file_path, certificate_key, user
    )


def upload_shared_certificate(
    certificate_file_path: str | os.PathLike[str], **settings: Any
) -> dict[str, Any]:
    """Replace the certificate of those who have none of their own; for administrators."""
    return _platform(settings).upload_shared_certificate(certificate_file_path)


def start_agent_daemon(*, dev_instance: bool = False) -> None:
    """Keep the storage's token warm; see `ctaflows.ctadata.direct.start_agent_daemon`."""
    from ctaflows.ctadata import direct

    direct.start_agent_daemon(dev_instance=dev_instance)


def _platform(settings: dict[str, Any]) -> APIClient:
    """Make a client of the platform's services with the settings of one call."""
    from ctaflows.ctadata.service_selection import platform_client

    return platform_client(settings)


def _client(settings: dict[str, Any]) -> Any:
    """Make the client that a call is for."""
    from ctaflows.ctadata.service_selection import client

    return client(settings)


def __getattr__(name: str) -> Any:
    if name in ("api", "certificates", "direct"):
        return importlib.import_module(f"ctaflows.ctadata.{name}")
    if name == "APIClient":
        return importlib.import_module("ctaflows.ctadata.api").APIClient
    if name in __all__:
        return getattr(importlib.import_module("ctaflows.ctadata.errors"), name)
    if name == "__version__":
        from ctaflows._version import __version__

        return __version__
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
