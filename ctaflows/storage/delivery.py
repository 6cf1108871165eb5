"""Many small files written at once, in one thread: the steps, whose answers the caller judges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctaflows.errors import CtaflowsError
from ctaflows.storage.checksum import WANT_DIGEST
from ctaflows.transport import MAX_HOPS, REDIRECTS

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from ctaflows.storage.webdav import Door
    from ctaflows.transport.convoy import Convoy, Word

_WANT = f"Want-Digest: {WANT_DIGEST}"


class Deliveries:
    """The steps of writing a file, of many files at once. See `Door` for what each does.

    Paths are normalised, and hold nothing that a URL must encode. Each step has a tag by which the
    caller knows its answer.

    Parameters
    ----------
    door : Door
        Where to.
    convoy : Convoy
        Carries the requests.
    """

    def __init__(self, door: Door, convoy: Convoy) -> None:
        self._door, self._convoy = door, convoy
        self._root = door.settings.door_url
        self._wanting = convoy.lines(_WANT)
        self._writing = convoy.lines(_WANT, has_body=True)
        self._probing = convoy.lines(
            _WANT, *(f"{k}: {v}" for k, v in door.expecting().items()), has_body=True
        )
        self._moving = {
            is_free: convoy.lines(f"Overwrite: {'T' if is_free else 'F'}")
            for is_free in (True, False)
        }

    @property
    def replaces_blindly(self) -> bool:
        """Does a move here replace what is there, whatever it is told? So does XRootD 5.5."""
        return "xrootd" in self._door.server_name()

    def put(self, path: str, content: bytes, tag: object) -> None:
        """Write a file; see `Door.put` for how it comes to a pool."""
        url = self._root + path
        if content and self._door.redirects_writes is not False:
            self._send(_Writing(tag, url, content, is_probe=True))
        else:
            self._send(_Writing(tag, url, content))

    def measure(self, path: str, tag: object) -> None:
        """Ask for a file's size and checksums."""
        self._convoy.send("HEAD", self._root + path, tag, self._wanting)

    def look(self, path: str, tag: object) -> None:
        """Ask whether there is anything."""
        self._convoy.send("HEAD", self._root + path, tag)

    def move(self, source: str, target: str, tag: object, *, overwrite: bool) -> None:
        """Rename a file."""
        there = f"Destination: {self._root}{target}".encode()
        where = self._root + source
        self._convoy.send("MOVE", where, tag, self._moving[overwrite], own=(there,))

    def end_all_but_moves(self) -> None:
        """Let go of all that is on its way and has given no file its name."""
        self._convoy.abandon("PUT", "HEAD")

    def answers(self, *stops: threading.Event) -> Iterator[tuple[Any, Word | None]]:
        """Give the answers as they come, until none is awaited or a stop is set.

        Yields
        ------
        tag, word
            The answer, of any status; None where no whole one came.
        """
        for tag, word in self._convoy.answers(*stops):
            if not isinstance(tag, _Writing):
                yield tag, word
            elif word is None or not self._goes_on(tag, word):
                yield tag.tag, word

    def _goes_on(self, writing: _Writing, word: Word) -> bool:
        """Send the bytes to where they are wanted, if they are not there yet."""
        if word.status in REDIRECTS and writing.n_hops < MAX_HOPS:
            location = word.headers.get("location")
            try:
                url = self._door.transport.redirect("PUT", word.url, location)
            except CtaflowsError:
                return False
            if writing.is_probe:
                self._door.redirects_writes = True
            self._send(_Writing(writing.tag, url, writing.content, writing.n_hops + 1))
            return True
        if writing.is_probe and word.is_good:
            self._door.redirects_writes = False
            self._send(_Writing(writing.tag, writing.url, writing.content))
            return True
        return False

    def _send(self, writing: _Writing) -> None:
        further, body = self._writing, writing.content
        if writing.is_probe:
            further, body = self._probing, b""
        self._convoy.send("PUT", writing.url, writing, further, body=body)


@dataclass(slots=True)
class _Writing:
    """A file's bytes on their way, or the question where they are wanted."""

    tag: object
    url: str
    content: bytes
    n_hops: int = 0
    is_probe: bool = False
