"""What a storage is to those who fetch from it: a dCache door and the download service are one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from ctaflows.model import Checksum, Entry
    from ctaflows.settings import Settings
    from ctaflows.transport import Head, Sink

T = TypeVar("T")


class Storage(Protocol):
    """A place that files are listed at and fetched from; may be used by many threads."""

    @property
    def settings(self) -> Settings:
        """Timeouts, limits, number of tries."""

    @property
    def transfer_slots(self) -> threading.Semaphore:
        """One slot for each file, or range of one, that may be moved at once."""

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

    def receive(
        self,
        path: str,
        sink: Sink,
        *,
        start: int = 0,
        end: int | None = None,
        stop: threading.Event | None = None,
    ) -> Head:
        """Read a range of a file into a sink; status 200 says that the whole file comes."""

    def receive_small(
        self, entries: Iterator[tuple[str, T]], *, at_once: int, stop: threading.Event
    ) -> Iterator[tuple[T, Head | None, bytes]]:
        """Read many small files whole in this thread, as far as that goes well.

        What has no head is to be asked for by `receive`; so is what does not come back at all.
        """
