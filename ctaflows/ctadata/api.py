"""The client of the JupyterHub platform's services, as ctadata 0.5 and 0.6 had it."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctaflows.ctadata.entries import ListedEntry, RemotePath, remote_path
from ctaflows.ctadata.errors import (
    CertificateError,
    ClientSecretNotFound,
    DirectApiError,
    StorageException,
    TokenError,
    TokenExpiredError,
    translated,
)
from ctaflows.errors import IntegrityError, PartialFailure, UsageError
from ctaflows.model import Report
from ctaflows.settings import PLATFORM_URL
from ctaflows.storage.download_service import CHUNK_BYTES, DownloadServiceStorage, connect

if TYPE_CHECKING:
    from ctaflows.ctadata.certificates import CertificateService
    from ctaflows.storage.download_service import DownloadServiceStorage

__all__ = [
    "APIClient",
    "CertificateError",
    "ClientSecretNotFound",
    "DirectApiError",
    "StorageException",
    "TokenError",
    "TokenExpiredError",
]

log = logging.getLogger("ctaflows.ctadata")

_HIDDEN = (
    "The service sends the storage's errors in place of a file: perhaps you may not read it, or it "
    "is not on disk now."
)


class _FromEnvironment:
    """A setting with the environment's value at the time it is read, until another one is set."""

    def __init__(self, variable: str, default: str) -> None:
        self._variable, self._default = variable, default

    def __get__(self, instance: object, owner: type) -> str:
        return os.environ.get(self._variable) or self._default


class _Token:
    """The hub's token: ``JUPYTERHUB_API_TOKEN`` when it is read, until another one is set."""

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is None:
            return self
        token = os.environ.get("JUPYTERHUB_API_TOKEN", "").strip()
        if not token:
            raise TokenError(
                "Invalid jupyterhub token: there is none",
                hint="Set JUPYTERHUB_API_TOKEN to one of the hub's (its control panel, Token). For "
                "the storage without the platform: from ctaflows.ctadata import direct as ctadata.",
            )
        return token


class APIClient:
    """The platform's download and certificate service.

    Class attributes are settings for all clients, attributes of an instance for itself.

    Attributes
    ----------
    downloadservice, certificateservice : str
        Their addresses; ``CTADS_URL`` and ``CTACS_URL``, else those of the Swiss data centre.
    token : str
        ``JUPYTERHUB_API_TOKEN``. It is sent in a header, never in an address.
    chunk_size : int
        In which pieces the service reads a file, bytes.
    """

    downloadservice = _FromEnvironment("CTADS_URL", PLATFORM_URL + "downloadservice/")
    certificateservice = _FromEnvironment("CTACS_URL", PLATFORM_URL + "certificateservice/")
    token = _Token()
    chunk_size: int = CHUNK_BYTES

    # -- files -------------------------------------------------------------------------------

    @translated
    def list_dir(self, path: RemotePath, recursive: bool = False) -> list[ListedEntry]:
        """List a directory, itself included; see `ctaflows.ctadata.list_dir`."""
        service = self._service()
        found = service.listing(remote_path(path))
        if recursive:
            for one in found:  # grows meanwhile
                if one.entry.is_dir and not one.is_itself:
                    found += [f for f in service.listing(one.entry.path) if not f.is_itself]
        return [ListedEntry.of(one) for one in found]

    @translated
    def fetch_and_save_file(
        self, path: RemotePath, save_to_fn: str | os.PathLike[str] | None = None
    ) -> int:
        """Fetch a file; see `ctaflows.ctadata.fetch_and_save_file`."""
        return _size(self._fetched_file(path, save_to_fn))

    @translated
    def fetch_and_save_file_or_dir(self, path: RemotePath, recursive: bool = False) -> int:
        """Fetch a file or directory; see `ctaflows.ctadata.fetch_and_save_file_or_dir`."""
        report = self.fetch(path, recursive=recursive)
        if report.failed:
            raise PartialFailure.of(report)
        return _size(report)

    @translated
    def fetch(self, path: RemotePath, *, recursive: bool = False) -> Report:
        """Fetch a file to its name, or a directory's files to their whole paths, below here."""
        if not recursive:
            return self._fetched_file(path)
        from ctaflows.storage.paths import local_path
        from ctaflows.storage.walk import files_below
        from ctaflows.transfer.fetch import Job
        from ctaflows.transfer.many import fetch_many

        service = self._service()
        entry = service.stat(remote_path(path))
        if not entry.is_dir:
            return self._fetched_file(entry)
        storage = service
        jobs = [
            Job(found, local_path(found.path, "/", Path()))
            for found in files_below(storage, entry.path)
        ]
        return fetch_many(storage, jobs)

    @translated
    def upload_file(self, local_fn: str | os.PathLike[str], path: str) -> dict[str, Any]:
        """Upload a file; see `ctaflows.ctadata.upload_file`."""
        from ctaflows.ctadata import uploads

        answer, _ = uploads.upload(self._service(), Path(local_fn), os.fspath(path))
        return answer

    @translated
    def upload_dir(self, local_dir: str | os.PathLike[str], path: str) -> list[dict[str, Any]]:
        """Upload a directory; see `ctaflows.ctadata.upload_dir`."""
        from ctaflows.ctadata import uploads

        pairs = uploads.files_in(local_dir, path)
        answers, report = uploads.upload_many(self._service(), pairs)
        if report.failed:
            raise PartialFailure.of(report, hint="The others are there; the same call goes on.")
        return answers

    @translated
    def webdav4_client(self) -> Any:
        """Make a webdav4 client; see `ctaflows.ctadata.webdav4_client`."""
        from ctaflows.ctadata.webdav import client

        return client(self._service(), self)

    # -- certificates ------------------------------------------------------------------------

    @translated
    def upload_certificate(self, certificate_file_path: str | os.PathLike[str]) -> dict[str, Any]:
        """Delegate a certificate for everything; see `ctaflows.ctadata.upload_certificate`."""
        from ctaflows.ctadata import certificates

        proxy = certificates.load(Path(certificate_file_path))
        answer: dict[str, Any] = {}
        with self._certificates() as service:
            for key in certificates.allowed_keys():
                answer = service.store_personal(proxy, key)
        return answer

    @translated
    def upload_personal_certificate(
        self,
        certificate_file_path: str | os.PathLike[str],
        certificate_key: str,
        user: str | None = None,
    ) -> dict[str, Any]:
        """Delegate a certificate; see `ctaflows.ctadata.upload_personal_certificate`."""
        from ctaflows.ctadata import certificates

        proxy = certificates.load(Path(certificate_file_path))
        allowed = certificates.allowed_keys()
        if certificate_key not in allowed:
            raise CertificateError(
                f"Certificate key invalid: {certificate_key}",
                hint=f"Allowed are {', '.join(allowed)}; CTACS_ALLOWED_CERT_KEYS names others.",
            )
        with self._certificates() as service:
            return service.store_personal(proxy, certificate_key, user)

    @translated
    def upload_shared_certificate(
        self, certificate_file_path: str | os.PathLike[str]
    ) -> dict[str, Any]:
        """Replace the shared certificate; see `ctaflows.ctadata.upload_shared_certificate`."""
        from ctaflows.ctadata import certificates

        proxy = certificates.load(Path(certificate_file_path))
        with self._certificates() as service:
            return service.store_shared(proxy)

    # -- within ------------------------------------------------------------------------------

    def _service(self) -> DownloadServiceStorage:
        chunk_bytes = self.chunk_size
        if not isinstance(chunk_bytes, int) or chunk_bytes < 1:
            raise UsageError(
                f"chunk_size can't be {chunk_bytes!r}", hint="It is a number of bytes."
            )
        log.info("download service %s", self.downloadservice)
        return connect(self.downloadservice, self.token, chunk_bytes=chunk_bytes)

    def _certificates(self) -> CertificateService:
        from ctaflows import settings
        from ctaflows.ctadata.certificates import CertificateService

        return CertificateService(settings.load(), self.certificateservice, self.token)

    def _fetched_file(
        self, path: RemotePath, save_to_fn: str | os.PathLike[str] | None = None
    ) -> Report:
        from ctaflows.transfer.fetch import Job, destination
        from ctaflows.transfer.many import fetch_alone

        service = self._service()
        entry = service.stat(remote_path(path))
        if entry.is_dir:
            raise UsageError(
                "That is a directory", where=entry.path, hint="Fetch it with recursive=True, or -r."
            )
        job = Job(entry, destination(save_to_fn or ".", entry.name))
        try:
            done = fetch_alone(service, job)
        except IntegrityError as why:
            raise StorageException.of(why, hint=why.hint or _HIDDEN) from why
        return Report((done,), done.seconds)


def _size(report: Report) -> int:
    return sum(done.size_bytes or 0 for done in report.transfers if done.ok)


api_client = APIClient()
