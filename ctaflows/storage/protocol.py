"""The protocol of a storage: a WebDAV door, or a platform's download service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

from ctaflows.errors import UsageError

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

    from ctaflows.model import Checksum, Entry
    from ctaflows.retry import Retries
    from ctaflows.settings import Settings
    from ctaflows.storage.answers import Written
    from ctaflows.transport import Source, TokenSource
    from ctaflows.transport.ask import Session, Slots
    from ctaflows.transport.wishes import BodySink, Journey, Response


class Storage(Protocol):
    """A place that files are listed at, fetched from and uploaded to; for many threads at once.

    What a storage can't do raises `UsageError`; who has another way asks the capabilities first.

    Attributes
    ----------
    title : str
        How messages name its kind.
    has_ranges : bool
        Can a part of a file be asked for? If not, `receiving` always gives the whole one.
    can_rename : bool
        Can a file be uploaded under a temporary name, compared, and then moved to its own? If not,
        `putting` replaces what is there and tells only afterwards where that is.
    may_rename : bool or None
        May the token do so? None means not known yet.
    can_remove : bool
        Can files and directories be removed?
    tokens : TokenSource or None
        For further connections to the same storage.
    tells_checksums : bool or None
        Does it tell checksums to who measures a file? None means not known yet.
    tells_locality : bool or None
        Does it say where a file's bytes are, as dCache does alone? None means not known yet.
    """

    title: str
    has_ranges: bool
    can_rename: bool
    may_rename: bool | None
    can_remove: bool
    tokens: TokenSource | None
    tells_checksums: bool | None
    tells_locality: bool | None

    @property
    def settings(self) -> Settings:
        """Timeouts, limits, number of tries."""

    @property
    def url(self) -> str:
        """Its address, without a trailing slash."""

    @property
    def session(self) -> Session:
        """What the journeys that move files have in common."""

    @property
    def transfer_slots(self) -> Slots:
        """One slot for each request of a transfer that may be on its way at once."""

    def close(self) -> None:
        """Close all connections."""

    def told_by(self, other: Self) -> Self:
        """Copy the facts that another connection to the same storage has found."""

    def normalise(self, path: str) -> str:
        """Turn what a person writes into a path from the root, decoded, with a leading slash."""

    # -- looking -------------------------------------------------------------------------------

    def list(self, path: str) -> Iterator[Entry]:
        """Yield the entries of a directory, without itself; a file lists itself."""

    def batches(
        self, path: str, *, stop: threading.Event | None = None
    ) -> Iterator[Sequence[Entry]]:
        """Yield the entries of a directory in batches, each as soon as it has arrived."""

    def confirm_empty(self, path: str) -> bool:
        """Tell whether a directory whose listing is empty is known to be so; raise if it is not."""

    def hides_links(self) -> bool:
        """Tell whether links are listed as what they lead to, and reading a file shows it."""

    def is_read_directly(self, path: str) -> bool:
        """Tell whether a file is known to be reached through no symbolic link."""

    def stat(self, path: str) -> Entry:
        """Describe one file or directory."""

    def describing(self, path: str, retries: Retries) -> Journey[Entry]:
        """Describe one file or directory by its normalised path; a journey."""

    def exists(self, path: str) -> Entry | None:
        """Describe what is at a path, or give None."""

    def checksums(self, path: str) -> tuple[Checksum, ...]:
        """Ask for a file's checksums; empty where none are to be had."""

    def measure(self, path: str) -> tuple[int | None, tuple[Checksum, ...]]:
        """Ask for a file's size and checksums, by the cheapest request there is."""

    # -- reading and writing -------------------------------------------------------------------

    def receiving(
        self, path: str, sink: BodySink, retries: Retries, *, shortcut: str | None = None
    ) -> Journey[Response]:
        """Read what a sink lacks of a file, by its normalised path; a journey."""

    def measuring(
        self, path: str, retries: Retries
    ) -> Journey[tuple[int | None, tuple[Checksum, ...]]]:
        """Ask for a file's size and checksums by its normalised path; a journey."""

    def putting(
        self,
        path: str,
        body: bytes | Source,
        *,
        mtime: int | None = None,
        only_new: bool = False,
    ) -> Journey[Written]:
        """Write a file by its normalised path, once; a journey. `transfer.upload` does so safely.

        Parameters
        ----------
        path, body
            What to write, and where to.
        mtime : int, optional
            Time of the last modification, seconds since 1970, where the storage can keep it.
        only_new : bool
            Raise `AlreadyExists` where there is something; only where `can_rename`.
        """

    def making(self, path: str, *, parents: bool = False, exist_ok: bool = False) -> Journey[None]:
        """Make a directory by its normalised path; a journey."""

    def renaming(self, path: str) -> Journey[bool]:
        """Tell whether the token may rename what it uploads, as far as that is known; a journey."""

    def moving(self, source: str, target: str, *, overwrite: bool) -> Journey[None]:
        """Rename a file by normalised paths, by one request; a journey."""

    def deleting(self, path: str) -> Journey[None]:
        """Remove a file of our own by its normalised path, by one request; a journey."""

    # -- changing ------------------------------------------------------------------------------

    def mkdir(self, path: str, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a directory."""

    def move(self, source: str, target: str, *, overwrite: bool = False) -> None:
        """Rename a file or directory."""

    def remove(self, path: str) -> None:
        """Remove a file."""

    def delete(self, path: str, *, is_dir: bool) -> None:
        """Remove what is known to be there: one request, never repeated."""


def unsupported(storage: Storage, what: str, path: str) -> UsageError:
    """Return the error for what a kind of storage can't do.

    Parameters
    ----------
    storage : Storage
        The one that was asked.
    what : str
        What it can't do, a verb and its object.
    path : str
        What it was asked to do it with.
    """
    return UsageError(
        f"The {storage.title} can't {what}",
        where=path,
        hint="Use a profile of the storage itself, such as --profile cscs.",
    )
