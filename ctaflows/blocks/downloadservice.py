"""The block CTADownloadService: the download service of a JupyterHub platform."""
# Annotations are not put off here: pydantic reads them.

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from prefect.blocks.abstract import CredentialsBlock
from pydantic import ConfigDict, Field, SecretStr, field_validator

from ctaflows import settings as _settings
from ctaflows.blocks.site import page
from ctaflows.errors import TokenMissing, UsageError
from ctaflows.storage.download_service import CHUNK_BYTES
from ctaflows.tracking.task import task

if TYPE_CHECKING:
    from ctaflows.model import Entry, Report, StrPath, Transfer
    from ctaflows.storage.download_service import DownloadServiceStorage

_URL = _settings.PLATFORM_URL + "downloadservice/"


class CTADownloadService(CredentialsBlock):
    """The download service of a JupyterHub platform: CTAO and LST data with a token of the hub.

    It has no ranges, and tells a file's checksum only where it hands the question on to the
    storage; use a CTA Storage where you can.

    Example:
        Load a stored service, list a directory and fetch a file:
        ```python
        from ctaflows.blocks import CTADownloadService

        service = CTADownloadService.load("BLOCK_NAME")
        for entry in service.list_dir("lst/DL1"):
            print(entry.name, entry.size_bytes)
        service.fetch_file("lst/DL1/README", "data/")
        ```
    """

    # what does not validate is not repeated: it may be a secret
    model_config: ClassVar[ConfigDict] = ConfigDict(hide_input_in_errors=True)

    _block_type_name = "CTA Download Service"
    _block_type_slug = "cta-download-service"
    _logo_url = page("logo-downloadservice.png")
    _documentation_url = page("collection.html")

    url: str = Field(
        default=_URL,
        title="URL",
        description="Address of the service, which ends in /services/downloadservice/.",
    )
    token: SecretStr | None = Field(
        default=None,
        description="Token of the hub (its control panel, Token); the variable"
        " JUPYTERHUB_API_TOKEN where the flow runs if not given.",
    )
    profile: str | None = Field(
        default=None,
        description="Profile that timeouts and limits come from; the default one if not given.",
    )
    ca_file: Path | None = Field(
        default=None,
        title="CA file",
        description="CA bundle (file) or hashed directory where the flow runs; the system's if not"
        " given.",
    )
    chunk_bytes: int = Field(
        default=CHUNK_BYTES,
        ge=1,
        title="Chunk size (bytes)",
        description="In which pieces the service reads a file from the storage, in bytes.",
    )
    transfers: int | None = Field(
        default=None, ge=1, description="Files moved at once; that of the profile if not given."
    )
    stall_timeout_s: float | None = Field(
        default=None,
        ge=0,
        title="Stall timeout (s)",
        description="Longest wait for the next bytes, in seconds; that of the profile if not"
        " given.",
    )

    @field_validator("url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        return str(_settings.check("issuer_url", value)) + "/"

    def get_client(self, *args: Any, **kwargs: Any) -> "DownloadServiceStorage":
        """Give the service, with the connections it has.

        Raises
        ------
        TokenMissing
            The block has no token, and neither has the environment.
        """
        from ctaflows.storage.download_service import connect

        token = self.token.get_secret_value() if self.token else ""
        token = token or os.environ.get("JUPYTERHUB_API_TOKEN", "")
        if not token.strip():
            raise TokenMissing(
                "There is no JupyterHub token",
                where=self.url,
                hint="Put one of the hub's (its control panel, Token) into the block, or into "
                "JUPYTERHUB_API_TOKEN where the flow runs.",
            )
        return connect(
            self.url,
            token,
            chunk_bytes=self.chunk_bytes,
            profile=self.profile or None,
            ca_file=self.ca_file,
            transfers=self.transfers,
            stall_timeout_s=self.stall_timeout_s,
        )

    def list_dir(self, path: str) -> "list[Entry]":
        """List a directory, sorted by name; a file lists itself."""
        return service_list_dir(self, path)

    def find(
        self, path: str, *, include: Sequence[str] = (), exclude: Sequence[str] = ()
    ) -> "list[Entry]":
        """Find files below a directory; patterns are those of `ctaflows.tasks.find`."""
        return service_find(self, path, include=include, exclude=exclude)

    def stat(self, path: str) -> "Entry":
        """Describe one file or directory."""
        return service_stat(self, path)

    def fetch_file(self, path: "str | Entry", dest: "StrPath" = ".") -> "Transfer":
        """Fetch one file into a folder, or to a name; one that is here and proven is not moved."""
        return service_fetch_file(self, path, dest)

    def fetch_files(
        self,
        paths: "Sequence[str | Entry]",
        dest: "StrPath" = ".",
        *,
        base: str | None = None,
        manifest: "StrPath | None" = None,
        on_error: Literal["raise", "report"] = "raise",
    ) -> "Report":
        """Fetch many files at once; parameters are those of `ctaflows.tasks.fetch_files`."""
        return service_fetch_files(
            self, paths, dest, base=base, manifest=manifest, on_error=on_error
        )

    def upload_file(self, local: "StrPath", path: str) -> "Transfer":
        """Upload one file below your own directory, replacing what is there."""
        return service_upload_file(self, local, path)


@task(name="service-list-dir", tags=["ctaflows"])
def service_list_dir(service: CTADownloadService, path: str) -> "list[Entry]":
    """List a directory of a download service, sorted by name."""
    return sorted(service.get_client().list(path), key=lambda e: e.path)


@task(name="service-find", tags=["ctaflows"])
def service_find(
    service: CTADownloadService,
    path: str,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> "list[Entry]":
    """Find files below a directory of a download service."""
    from ctaflows.storage.walk import files_below

    return list(files_below(service.get_client(), path, include, exclude))


@task(name="service-stat", tags=["ctaflows"])
def service_stat(service: CTADownloadService, path: str) -> "Entry":
    """Describe one file or directory of a download service."""
    return service.get_client().stat(path)


@task(name="service-fetch-file", tags=["ctaflows"])
def service_fetch_file(
    service: CTADownloadService, path: "str | Entry", dest: "StrPath" = "."
) -> "Transfer":
    """Fetch one file from a download service."""
    from ctaflows.transfer.fetch import Job, destination
    from ctaflows.transfer.many import fetch_alone

    client = service.get_client()
    entry = _file(client, path)
    return fetch_alone(client, Job(entry, destination(dest, entry.name)))


@task(name="service-fetch-files", tags=["ctaflows"])
def service_fetch_files(
    service: CTADownloadService,
    paths: "Sequence[str | Entry]",
    dest: "StrPath" = ".",
    *,
    base: str | None = None,
    manifest: "StrPath | None" = None,
    on_error: Literal["raise", "report"] = "raise",
) -> "Report":
    """Fetch many files at once from a download service."""
    from ctaflows.errors import PartialFailure
    from ctaflows.storage.paths import common_parent, local_path
    from ctaflows.transfer.fetch import Job
    from ctaflows.transfer.manifest import Manifest
    from ctaflows.transfer.many import fetch_many

    client = service.get_client()
    entries = [_file(client, path) for path in paths]
    root = client.normalise(base) if base else common_parent(e.path for e in entries)
    jobs = [Job(e, local_path(e.path, root, Path(dest))) for e in entries]
    proofs = Manifest(Path(manifest)) if manifest else None
    report = fetch_many(client, jobs, manifest=proofs)
    if report.failed and on_error == "raise":
        raise PartialFailure.of(report)
    return report


@task(name="service-upload-file", tags=["ctaflows"])
def service_upload_file(service: CTADownloadService, local: "StrPath", path: str) -> "Transfer":
    """Upload one file through a download service, and compare what is there with what was sent."""
    from ctaflows.ctadata.uploads import upload

    return upload(service.get_client(), Path(local), path)[1]


def _file(client: "DownloadServiceStorage", path: "str | Entry") -> "Entry":
    entry = client.stat(path) if isinstance(path, str) else path
    if entry.is_dir:
        raise UsageError(
            "That is a directory", where=entry.path, hint="Find its files, and fetch_files them."
        )
    return entry
