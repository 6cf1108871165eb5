"""The block CTADownloadService: the download service of a JupyterHub platform."""
# Annotations are not put off here: pydantic reads them.

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from prefect.blocks.abstract import CredentialsBlock
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, field_validator

from ctaflows import block_profiles
from ctaflows import settings as _settings
from ctaflows.blocks.operations import StorageTasks
from ctaflows.blocks.site import page

if TYPE_CHECKING:
    from ctaflows.model import Report, StrPath, Transfer

_URL = _settings.PLATFORM_URL + "downloadservice/"


class CTADownloadService(StorageTasks, CredentialsBlock):
    """The download service of a JupyterHub platform: CTAO and LST data with a token of the hub.

    It has no ranges, and tells a file's checksum only where it hands the question on to the
    storage; use a CTA Storage where you can. Flows and tasks take its name as their profile:
    `profile="block:cta-download-service/BLOCK_NAME"`.

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
    _block_type_slug = block_profiles.DOWNLOAD_SERVICE
    _logo_url = page("logo-downloadservice.png")
    _documentation_url = page("collection.html")
    _word: str | None = PrivateAttr(default=None)

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
        default=_settings.CHUNK_BYTES,
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
        return str(_settings.check("service_url", value)) + "/"

    def as_profile(self) -> block_profiles.BlockProfile:
        """Return what this block says of the settings."""
        values = {name: getattr(self, name) for name in ("ca_file", "transfers", "stall_timeout_s")}
        identity = {
            "storage": "download-service",
            "service_url": self.url,
            "chunk_bytes": self.chunk_bytes,
        }
        token = self.token.get_secret_value().strip() if self.token else ""
        if token:
            identity["hub_token"] = token
        return block_profiles.BlockProfile(
            base=self.profile or None,
            values={k: v for k, v in values.items() if v is not None},
            identity=identity,
        )

    def upload_file(self, local: "StrPath", path: str, *, overwrite: bool = True) -> "Transfer":
        """Upload one file below your own directory, replacing what is there.

        The service can't do otherwise: without ``overwrite`` it takes none.
        """
        return super().upload_file(local, path, overwrite=overwrite)

    def upload_dir(self, local: "StrPath", path: str, *, overwrite: bool = True) -> "Report":
        """Upload a directory below your own one; see `upload_file`."""
        return super().upload_dir(local, path, overwrite=overwrite)
