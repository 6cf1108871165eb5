"""What a storage is to those who fetch from it: a dCache door and the download service are one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from ctaflows.model import Checksum, Entry
    from ctaflows.settings import Settings
    from ctaflows.transport import Head, Sink, Stream


class Storage(Protocol):
    """A place that files are listed at and fetched from; may be used by many threads."""

    @property
    def settings(self) -> Settings:
        """Timeouts, limits, number of tries."""

    @property
    def transfer_slots(self) -> AbstractContextManager[object]:
        """One slot for each file that may be moved at once."""

    def normalise(self, path: str) -> str:
        """Turn what a person writes into a path from the root, decoded, with a leading slash."""

    def list(self, path: str) -> Iterator[Entry]:
        """Give the entries of a directory, without itself; a file gives itself."""

    def stat(self, path: str) -> Entry:
        """Describe one file or directory."""

    def exists(self, path: str) -> Entry | None:
        """Describe what is at a path, or give None."""

    def checksums(self, path: str) -> tuple[Checksum, ...]:
        """Ask for a file's checksums; empty where none are to be had."""

    def open(
        self, path: str, *, start: int = 0, end: int | None = None
    ) -> AbstractContextManager[Stream]:
        """Open a file, or a range of it: status 206, or 200 for the whole where ranges are not."""

    def receive(
        self,
        path: str,
        sink: Sink,
        *,
        start: int = 0,
        end: int | None = None,
        stop: threading.Event | None = None,
    ) -> Head:
        """Read a file, or a range of it, into a sink; status as for `open`."""
