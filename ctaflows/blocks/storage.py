"""The Prefect block CTAStorage: a WebDAV door and the settings of its use."""
# no `from __future__ import annotations`: pydantic evaluates the annotations of the fields

from pathlib import Path
from typing import ClassVar

from prefect.blocks.core import Block
from pydantic import ConfigDict, Field, PrivateAttr, ValidationInfo, field_validator

from ctaflows import block_profiles
from ctaflows import settings as _settings
from ctaflows.blocks.credentials import CTACredentials
from ctaflows.blocks.operations import StorageTasks
from ctaflows.blocks.site import page

#: Fields that have the names of settings.
_SETTINGS = (
    "door_url",
    "ca_file",
    "night_path",
    "transfers",
    "listings",
    "attempts",
    "connect_timeout_s",
    "stall_timeout_s",
    "listing_timeout_s",
)
_OF_PROFILE = "that of the profile if not given."


class CTAStorage(StorageTasks, Block):
    """A storage of CTAO and LST data behind a WebDAV door, and the settings of its use.

    Flows and tasks take its name as their profile: `profile="block:BLOCK_NAME"`.

    Example:
        Load a stored storage, list a night and fetch a file:
        ```python
        from ctaflows.blocks import CTAStorage

        storage = CTAStorage.load("BLOCK_NAME")
        for entry in storage.list_dir("cta/DL1/20241114"):
            print(entry.name, entry.size_bytes)
        storage.fetch_file("cta/DL1/20241114/v0.1/README", "data/")
        ```
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(hide_input_in_errors=True)

    _block_type_name = "CTA Storage"
    _block_type_slug = block_profiles.STORAGE
    _logo_url = page("logo.png")
    _documentation_url = page("collection.html")
    _word: str | None = PrivateAttr(default=None)

    profile: str | None = Field(
        default=None,
        description="Profile of all values that are not given here: cscs, cscs-dev, or one of"
        " config.toml where the flow runs; the default profile there if not given.",
    )
    door_url: str | None = Field(
        default=None,
        title="Door URL",
        description="URL of the WebDAV door; with a path, all remote paths are relative to it;"
        f" {_OF_PROFILE}",
    )
    ca_file: Path | None = Field(
        default=None,
        title="CA file",
        description="CA bundle (file) or hashed directory where the flow runs; the system's if not"
        " given.",
    )
    credentials: CTACredentials | None = Field(
        default=None,
        description="Login to use, a saved CTA Credentials block; without one the token comes from"
        " the token source.",
    )
    token_source: str | None = Field(
        default=None,
        description="Source of the token if there are no credentials: auto, environment, store,"
        f" or block:NAME of a Secret block; {_OF_PROFILE}",
    )
    night_path: str | None = Field(
        default=None,
        description="Path of a night, such as cta/DL1/{date}/{version}; " + _OF_PROFILE,
    )
    transfers: int | None = Field(
        default=None, ge=1, description=f"Number of concurrent file transfers; {_OF_PROFILE}"
    )
    listings: int | None = Field(
        default=None, ge=1, description=f"Number of concurrent listings; {_OF_PROFILE}"
    )
    attempts: int | None = Field(
        default=None,
        ge=1,
        description=f"Greatest number of attempts without progress; {_OF_PROFILE}",
    )
    connect_timeout_s: float | None = Field(
        default=None,
        ge=0,
        title="Connect timeout (s)",
        description=f"Longest wait for a connection, in seconds; {_OF_PROFILE}",
    )
    stall_timeout_s: float | None = Field(
        default=None,
        ge=0,
        title="Stall timeout (s)",
        description=f"Longest wait for the next bytes of a file, in seconds; {_OF_PROFILE}",
    )
    listing_timeout_s: float | None = Field(
        default=None,
        ge=0,
        title="Listing timeout (s)",
        description=f"Longest wait for the next bytes of a listing, in seconds; {_OF_PROFILE}",
    )

    @field_validator("door_url", "token_source")
    @classmethod
    def _is_setting(cls, value: str | None, info: ValidationInfo) -> str | None:
        return None if not value else str(_settings.check(str(info.field_name), value))

    def as_profile(self) -> block_profiles.BlockProfile:
        """Return the settings in this block."""
        values = {name: getattr(self, name) for name in (*_SETTINGS, "token_source")}
        if self.door_url:  # whatever the base profile is
            values["storage"] = "webdav"
        login = self.credentials.as_profile() if self.credentials else block_profiles.BlockProfile()
        return block_profiles.BlockProfile(
            base=self.profile or None,
            values={**login.values, **{k: v for k, v in values.items() if v is not None}},
            identity=login.identity,
            credentials=login.credentials,
        )
