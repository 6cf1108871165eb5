"""The client of the JupyterHub platform's services, as ctadata 0.5 and 0.6 had it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctaflows import settings as _settings
from ctaflows import tasks
from ctaflows.block_profiles import DOWNLOAD_SERVICE, BlockProfile, word_for
from ctaflows.ctadata.entries import ListedEntry, RemotePath, listed, remote_path
from ctaflows.ctadata.errors import (
    CertificateError,
    ClientSecretNotFound,
    DirectApiError,
    StorageException,
    TokenError,
    TokenExpiredError,
    translated,
)
from ctaflows.ctadata.files import FileClient
from ctaflows.errors import IntegrityError
from ctaflows.settings import CHUNK_BYTES, PLATFORM_URL

if TYPE_CHECKING:
    from ctaflows.ctadata.certificates import CertificateService
    from ctaflows.model import Entry, Transfer

__all__ = [
    "APIClient",
    "CertificateError",
    "ClientSecretNotFound",
    "DirectApiError",
    "StorageException",
    "TokenError",
    "TokenExpiredError",
]

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


class APIClient(FileClient):
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

    downloadservice = _FromEnvironment("CTADS_URL", f"{PLATFORM_URL}downloadservice/")
    certificateservice = _FromEnvironment(
        "CTACS_URL", _settings.PLATFORM_URL + "certificateservice/"
    )
    token = _Token()
    chunk_size: int = CHUNK_BYTES
    _word: str | None = None

    # -- files -------------------------------------------------------------------------------

    def as_profile(self) -> BlockProfile:
        """Return what this client says of the settings; the other ones are those in use."""
        return BlockProfile(
            base=os.environ.get("CTAFLOWS_PROFILE"),
            identity={
                "storage": "download-service",
                "service_url": self.downloadservice,
                "hub_token": self.token,
                "chunk_bytes": self.chunk_size,
            },
        )

    def profile_name(self) -> str:
        """Return what tasks take as ``profile``, for this client as it is in this process."""
        self._word = word_for(self, f"{DOWNLOAD_SERVICE}/ctadata", self._word)
        return self._word

    @translated
    def list_dir(self, path: RemotePath, recursive: bool = False) -> list[ListedEntry]:
        """List a directory, itself included; see `ctaflows.ctadata.list_dir`."""
        found = [tasks.stat(remote_path(path), checksums=False, profile=self.profile_name())]
        where = found[0].path
        if found[0].is_dir and recursive:
            found += self._below(where)
        elif found[0].is_dir:
            found += tasks.list_dir(where, profile=self.profile_name())
        return [listed(entry, self.downloadservice) for entry in found]

    @translated
    def upload_file(self, local_fn: str | os.PathLike[str], path: str) -> dict[str, Any]:
        """Upload a file; see `ctaflows.ctadata.upload_file`."""
        return super().upload_file(local_fn, os.fspath(path) or "/")

    @translated
    def webdav4_client(self) -> Any:
        """Make a webdav4 client; see `ctaflows.ctadata.webdav4_client`."""
        from ctaflows.ctadata.webdav import client

        return client(_settings.load(self.profile_name()), self)

    def _base_of(self, directory: Entry) -> str:
        """Return the remote directory that the working directory mirrors: the root."""
        return "/"

    def _fetched(self, path: str | Entry, dest: str | os.PathLike[str]) -> Transfer:
        try:
            return super()._fetched(path, dest)
        except IntegrityError as why:
            raise StorageException.of(why, hint=why.hint or _HIDDEN) from why

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

    def _certificates(self) -> CertificateService:
        from ctaflows.ctadata.certificates import CertificateService

        return CertificateService(_settings.load(), self.certificateservice, self.token)


api_client = APIClient()
