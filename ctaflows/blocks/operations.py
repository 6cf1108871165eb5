"""Base of the storage blocks: their name is a profile, their methods are the tasks."""
# Annotations are not put off here: pydantic reads them.

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from ctaflows import block_profiles
from ctaflows import settings as _settings

if TYPE_CHECKING:
    from prefect.blocks.core import Block as _Block

    from ctaflows.dl1.night import Night
    from ctaflows.model import Entry, Report, StrPath, Transfer
    from ctaflows.settings import Settings
    from ctaflows.storage.protocol import Storage
else:
    _Block = object


class StorageTasks(_Block):
    """Methods of a block that is a profile: each is the task of that name, on its storage.

    No block itself, lest Prefect know it as a type of its own.
    """

    if TYPE_CHECKING:  # pydantic would take it for another attribute than the block's own
        _word: str | None

    def as_profile(self) -> block_profiles.BlockProfile:
        """Return what this block says of the settings."""
        raise NotImplementedError

    def profile_name(self) -> str:
        """Return what tasks take as ``profile``, for the block as it is in this process.

        Other processes know a saved block by its own name, see `ctaflows.block_profiles`.
        """
        slug = f"{self._block_type_slug}/{self._block_document_name or 'unsaved'}"
        self._word = block_profiles.word_for(self, slug, self._word)
        return self._word

    def settings(self) -> "Settings":
        """Return the settings that hold with this block: the environment wins over its values."""
        return _settings.load(self.profile_name())

    def get_client(self, *args: Any, **kwargs: Any) -> "Storage":
        """Return the storage, with the connections it has."""
        from ctaflows.storage.connect import connect

        return connect(self.profile_name())

    def list_dir(self, path: str) -> "list[Entry]":
        """List a directory; see `ctaflows.tasks.list_dir`."""
        from ctaflows.tasks import list_dir

        return list_dir(path, profile=self.profile_name())

    def find(
        self, path: str, *, include: Sequence[str] = (), exclude: Sequence[str] = ()
    ) -> "list[Entry]":
        """Find files below a directory; see `ctaflows.tasks.find`."""
        from ctaflows.tasks import find

        return find(path, include=include, exclude=exclude, profile=self.profile_name())

    def stat(self, path: str) -> "Entry":
        """Describe one file or directory; see `ctaflows.tasks.stat`."""
        from ctaflows.tasks import stat

        return stat(path, profile=self.profile_name())

    def list_night(self, date: str, *, version: str = "latest") -> "Night":
        """List all files of a night; see `ctaflows.tasks.list_night`."""
        from ctaflows.tasks import list_night

        return list_night(date, version=version, profile=self.profile_name())

    def fetch_file(self, path: "str | Entry", dest: "StrPath" = ".") -> "Transfer":
        """Fetch one file; see `ctaflows.tasks.fetch_file`."""
        from ctaflows.tasks import fetch_file

        return fetch_file(path, dest, profile=self.profile_name())

    def fetch_files(
        self,
        paths: "Sequence[str | Entry]",
        dest: "StrPath" = ".",
        *,
        base: str | None = None,
        manifest: "StrPath | None" = None,
        on_error: Literal["raise", "report"] = "raise",
    ) -> "Report":
        """Fetch many files at once; see `ctaflows.tasks.fetch_files`."""
        from ctaflows.tasks import fetch_files

        return fetch_files(
            paths,
            dest,
            base=base,
            manifest=manifest,
            on_error=on_error,
            profile=self.profile_name(),
        )

    def fetch_dir(
        self,
        path: str,
        dest: "StrPath" = ".",
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        manifest: "StrPath | None" = None,
    ) -> "Report":
        """Fetch a directory with all that is below it; see `ctaflows.tasks.fetch_dir`."""
        from ctaflows.tasks import fetch_dir

        return fetch_dir(
            path,
            dest,
            include=include,
            exclude=exclude,
            manifest=manifest,
            profile=self.profile_name(),
        )

    def upload_file(self, local: "StrPath", path: str, *, overwrite: bool = False) -> "Transfer":
        """Upload one file; see `ctaflows.tasks.upload_file`."""
        from ctaflows.tasks import upload_file

        return upload_file(local, path, overwrite=overwrite, profile=self.profile_name())

    def upload_dir(self, local: "StrPath", path: str, *, overwrite: bool = False) -> "Report":
        """Upload a directory; see `ctaflows.tasks.upload_dir`."""
        from ctaflows.tasks import upload_dir

        return upload_dir(local, path, overwrite=overwrite, profile=self.profile_name())
