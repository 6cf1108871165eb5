"""One file on its way: the bytes so far, their checksum, and what was promised of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctaflows.errors import ChecksumMismatch, SizeMismatch, Truncated
from ctaflows.storage import checksum as sums
from ctaflows.storage.door import digests
from ctaflows.transfer import progress

if TYPE_CHECKING:
    from ctaflows.model import Checksum, Entry
    from ctaflows.transfer.part import Part
    from ctaflows.transport import Stream


class Copy:
    """The state of one file on its way.

    Parameters
    ----------
    part : Part
        Where the bytes go; those that are there already are kept.
    entry : Entry
        The source.

    Attributes
    ----------
    moved_bytes, resumed_bytes : int
        Bytes that came this time; bytes kept of an earlier try.
    retries : int
        Requests that had to be repeated.
    server : str or None
        What the server calls itself.
    promised : Checksum or None
        What the storage says of the whole file.
    complete : bool
        Have all bytes come?
    """

    def __init__(self, part: Part, entry: Entry) -> None:
        self.part = part
        self.entry = entry
        self.resumed_bytes = part.size_bytes
        self.moved_bytes = 0
        self.retries = 0
        self._furthest_bytes = 0
        self._fruitless = 0
        self.server: str | None = None
        self.promised = sums.best(entry.checksums)
        self._hasher: sums.Hasher | None = None
        self.complete = False
        progress.current().advance(part.size_bytes)

    def begin(self, stream: Stream) -> None:
        """Look at the headers of an answer, before its bytes."""
        self.server = stream.headers.get("server") or self.server
        if self.promised is None:
            self.promised = sums.best(digests(stream.headers))
        if stream.status == 200 and self.part.size_bytes:  # the server ignores ranges
            progress.current().advance(-self.part.size_bytes)
            self.part.restart()
            self.resumed_bytes = 0
            self._hasher = None
        if self._hasher is None:
            self._hash_what_is_there()

    def adopt(self, promised: Checksum | None) -> None:
        """Take the bytes that are there for the whole file; nothing is left to receive."""
        self.promised = self.promised or promised
        self._hash_what_is_there()
        self.complete = True

    def n_fruitless_tries(self) -> int:
        """Count the tries in a row that came no further than any before."""
        fruitful = self.part.size_bytes > self._furthest_bytes
        self._furthest_bytes = max(self._furthest_bytes, self.part.size_bytes)
        self._fruitless = 1 if fruitful else self._fruitless + 1
        return self._fruitless

    def _hash_what_is_there(self) -> None:
        self._hasher = sums.Hasher(self.promised.algorithm if self.promised else "sha256")
        for block in self.part.read_back():
            self._hasher.update(block)

    def take(self, chunk: bytes) -> None:
        """Take in the next bytes."""
        size = self.entry.size_bytes
        if size is not None and self.part.size_bytes + len(chunk) > size:
            self.part.discard()
            raise SizeMismatch(
                "More bytes came than the listing promised",
                where=self.entry.path,
                said=f"{size} bytes promised",
            )
        self.part.write(chunk)
        assert self._hasher is not None  # noqa: S101  begin() made it
        self._hasher.update(chunk)
        self.moved_bytes += len(chunk)
        progress.current().advance(len(chunk))

    def ended(self) -> None:
        """Say that an answer came to its end."""
        size = self.entry.size_bytes
        if size is not None and self.part.size_bytes < size:
            raise Truncated(
                "The answer ended too early",
                where=self.entry.path,
                said=f"{self.part.size_bytes} of {size} bytes",
            )
        self.complete = True

    def proof(self) -> tuple[Checksum, bool]:
        """Compare the whole file with what was promised.

        Raises
        ------
        ChecksumMismatch
            It is not the same.
        """
        assert self._hasher is not None  # noqa: S101
        ours = self._hasher.checksum()
        if self.promised is None:
            return ours, False
        if ours != self.promised:
            raise ChecksumMismatch(
                "The bytes are not those the storage holds",
                where=self.entry.path,
                said=f"{self.promised} promised, {ours.value} came",
                hint="Try again; if it lasts, tell the site: the file may be damaged there.",
            )
        return ours, True
