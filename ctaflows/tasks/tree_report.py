"""The result of mirroring a directory: a record for each file, and a verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ctaflows.errors import PartialFailure, printable
from ctaflows.text import human_bytes, shortened
from ctaflows.tracking.opaque import OpaqueSequence

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from ctaflows.model import Transfer

#: Files listed on a terminal at most; the manifest has all.
_MAX_LINES = 200
_COLUMNS = ("path", "local", "size_bytes", "checksum", "verified", "moved_bytes", "error")


@dataclass(frozen=True)
class TreeReport:
    """The result of the flows mirror and upload-results.

    Attributes
    ----------
    title : str
        What was done, such as ``Mirror of /cta/DL1/20241114``.
    dest : str
        The destination: a local folder, or a remote directory.
    manifest : str or None
        Local file with the record of each file.
    transfers : sequence of Transfer
        The result for each file, and for each directory that can't be read.
    deleted : tuple of str
        Local files that were deleted (in a dry run: would be), relative to ``dest``.
    kept : tuple of str
        Local files that are not in the remote listing, but were not deleted, since it is unknown
        whether the storage has them, see `Tree.empty`.
    dry_run : bool
        True if nothing was done; the notes of the transfers say what would be.
    """

    title: str
    dest: str
    manifest: str | None = None
    transfers: Sequence[Transfer] = ()
    deleted: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    dry_run: bool = False

    def having(self, transfers: Iterable[Transfer], **changes: Any) -> TreeReport:
        """Return the report with these transfers, and with other changes."""
        return replace(self, transfers=OpaqueSequence(transfers), **changes)

    @property
    def failed(self) -> tuple[Transfer, ...]:
        """The files that are not in place."""
        return tuple(t for t in self.transfers if not t.ok)

    @property
    def moved(self) -> tuple[Transfer, ...]:
        """The files that went over the network."""
        return tuple(t for t in self.transfers if t.ok and not t.skipped)

    @property
    def moved_bytes(self) -> int:
        """Number of bytes that went over the network."""
        return sum(t.moved_bytes for t in self.transfers)

    def records(self) -> list[dict[str, Any]]:
        """Return a dict for each file, of values that JSON can represent."""
        return [t.to_dict() for t in self.transfers]

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of a table to display: failed files, then transferred ones."""
        records = [t.to_dict() for t in (*self.failed, *self.moved)]
        return [{key: record[key] for key in _COLUMNS} for record in records]

    # not a Record: in JSON the key of the transfers is ``files``, and it comes last
    def to_dict(self) -> dict[str, Any]:
        """Return the report as a dict of values that JSON can represent."""
        return {
            "title": self.title,
            "dest": self.dest,
            "manifest": self.manifest,
            "dry_run": self.dry_run,
            "deleted": list(self.deleted),
            "kept": list(self.kept),
            "files": self.records(),
        }

    def verdict(self) -> str:
        """Return the result in one line."""
        n_files, n_here = len(self.transfers), sum(t.skipped for t in self.transfers)
        if self.dry_run:
            size = human_bytes(sum(t.size_bytes or 0 for t in self.transfers if not t.skipped))
            text = f"dry run: {n_files - n_here} files to move ({size}), {n_here} in place"
            return text + (f", {len(self.deleted)} to delete" if self.deleted else "")
        n_verified = sum(t.verified for t in self.transfers)
        moved = f"{len(self.moved)} moved ({human_bytes(self.moved_bytes)})"
        text = f"{n_files - len(self.failed)} of {n_files} files in place, {n_verified} verified, "
        text += moved if self.moved else "nothing moved"
        text += f", {len(self.deleted)} deleted" if self.deleted else ""
        return text + (f", {len(self.failed)} failed" if self.failed else "")

    def raise_if_failed(self) -> None:
        """Raise if files are not in place.

        Raises
        ------
        PartialFailure
            Some are not; its ``report`` is this one.
        """
        if self.failed:
            raise PartialFailure(
                f"{self.title}: {self.verdict()}, the first: "
                f"{self.failed[0].path}: {self.failed[0].error}",
                report=self,
                hint="The same run again goes on with the files that failed.",
            )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        shown = [t for t in self.transfers if not t.skipped]
        for transfer in shown[:_MAX_LINES]:
            yield Text(_line(transfer, is_plan=self.dry_run), style="red" if transfer.error else "")
        if len(shown) > _MAX_LINES:
            yield Text(f"… and {len(shown) - _MAX_LINES} more")
        yield Text(f"{self.title}: {self.verdict()}", style="red" if self.failed else "green")
        if self.deleted:
            yield Text(f"{'delete' if self.dry_run else 'deleted'}  {_names(self.deleted)}")
        if self.kept:
            why = "it is unknown whether the storage has them"
            yield Text(f"{len(self.kept)} files stay, since {why}: {_names(self.kept)}")
        if self.manifest and not self.dry_run:
            yield Text(f"manifest {printable(self.manifest)}")


def _names(names: Iterable[str]) -> str:
    return printable(shortened(names)).replace("\n", "\ufffd")


def _line(transfer: Transfer, *, is_plan: bool) -> str:
    if transfer.error:
        outcome = transfer.error
    elif is_plan:
        outcome = transfer.note or ""
    else:
        outcome = "verified" if transfer.verified else "unverified"
    return printable(f"{transfer.path}  {outcome}".replace("\n", "\ufffd"))
