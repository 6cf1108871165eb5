"""Calls of ctadata that both clients share, on the tasks of one profile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctaflows import tasks
from ctaflows.ctadata.entries import RemotePath, remote_path
from ctaflows.ctadata.errors import translated
from ctaflows.errors import PartialFailure
from ctaflows.model import Report

if TYPE_CHECKING:
    import os

    from ctaflows.model import Entry, Transfer


class FileClient:
    """Files of a profile, as ctadata's names ask for them; what is listed differs by client."""

    def profile_name(self) -> str | None:
        """Return what tasks take as ``profile``."""
        raise NotImplementedError

    @translated
    def fetch_and_save_file(
        self, path: RemotePath, save_to_fn: str | os.PathLike[str] | None = None
    ) -> int:
        """Fetch a file; see `ctaflows.ctadata.fetch_and_save_file`."""
        return self._fetched(remote_path(path), save_to_fn or ".").size_bytes or 0

    @translated
    def fetch_and_save_file_or_dir(self, path: RemotePath, recursive: bool = False) -> int:
        """Fetch a file or directory; see `ctaflows.ctadata.fetch_and_save_file_or_dir`."""
        report = self.fetch(path, recursive=recursive)
        if report.failed:
            raise PartialFailure.of(report)
        return sum(done.size_bytes or 0 for done in report.transfers)

    @translated
    def fetch(self, path: RemotePath, *, recursive: bool = False) -> Report:
        """Fetch a file to its name, or a directory's files below here; failed ones are told."""
        profile = self.profile_name()
        entry = tasks.stat(remote_path(path), checksums=False, profile=profile)
        if not (recursive and entry.is_dir):
            done = self._fetched(entry, ".")
            return Report((done,), done.seconds)
        from ctaflows.tasks.transfers import warn_of_links

        tree = tasks.list_tree(entry, profile=profile)
        warn_of_links(tree.links)
        base = self._base_of(entry)
        report: Report = tasks.fetch_files(
            tree.files, ".", base=base, on_error="report", profile=profile
        )
        return report + tree.unread_report(".", base)

    @translated
    def upload_file(self, local_fn: str | os.PathLike[str], path: str) -> dict[str, Any]:
        """Upload a file; see `ctaflows.ctadata.upload_file`."""
        local = Path(local_fn)
        if not local.exists():
            raise FileNotFoundError(f"There is no such file here: {local}")
        done = tasks.upload_file(local, path, overwrite=True, profile=self.profile_name())
        return _answer(done)

    @translated
    def upload_dir(self, local_dir: str | os.PathLike[str], path: str) -> list[dict[str, Any]]:
        """Upload a directory; see `ctaflows.ctadata.upload_dir`."""
        from ctaflows.tasks.transfers import find_uploads, upload_files

        base, root = Path(local_dir), path.rstrip("/")
        if not base.exists():
            raise FileNotFoundError(f"There is no such directory here: {local_dir}")
        if not base.is_dir():
            raise NotADirectoryError(f"That is no directory: {local_dir}")
        files = [Path(local) for local, _ in find_uploads([base], root)]
        pairs = [(local, f"{root}/{local.relative_to(base).as_posix()}") for local in files]
        report = upload_files(pairs, overwrite=True, profile=self.profile_name())
        return [_answer(done) for done in report.transfers]

    def _base_of(self, directory: Entry) -> str:
        """Return the remote directory that the working directory mirrors: by default the parent."""
        return directory.path.rpartition("/")[0] or "/"

    def _fetched(self, path: str | Entry, dest: str | os.PathLike[str]) -> Transfer:
        return tasks.fetch_file(path, dest, profile=self.profile_name())

    def _below(self, path: str) -> list[Entry]:
        """Return all entries below a directory, each directory before what is in it."""
        from ctaflows.tasks.namespace import iter_dir, refuse_undescribed

        batches = iter_dir(path, recursive=True, profile=self.profile_name())
        found = [entry for batch in batches for entry in batch]
        refuse_undescribed(found)
        return found


def _answer(done: Transfer) -> dict[str, Any]:
    """Return an upload's result in the download service's form."""
    return {
        "path": done.path.lstrip("/"),
        "status": "uploaded",
        "total_written": done.size_bytes,
    }
