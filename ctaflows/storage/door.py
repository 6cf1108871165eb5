"""A dCache door over WebDAV: one method, one operation."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Self

from ctaflows.errors import (
    AlreadyExists,
    NetworkError,
    NotFound,
    ProtocolSurprise,
    UsageError,
)
from ctaflows.storage import paths
from ctaflows.storage.checksum import WANT_DIGEST, parse_digests
from ctaflows.storage.propfind import BODY, MultistatusParser
from ctaflows.transport import Transport, pause_s

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ctaflows.model import Checksum, Entry
    from ctaflows.settings import Settings
    from ctaflows.transport import Answer, Stream, TokenSource

log = logging.getLogger("ctaflows.storage")

_XML = {"Content-Type": "application/xml; charset=utf-8"}


class Door:
    """A WebDAV door such as dCache's.

    Paths are what `paths.normalise` takes. A door may be used by many threads.

    Parameters
    ----------
    settings : Settings
        ``door_url``, CA, timeouts, limits.
    tokens : TokenSource, optional
        None for a door that is open to all.

    Attributes
    ----------
    transfer_slots : threading.Semaphore
        One slot for each file that may be moved at once, shared by all that use this door.
    """

    def __init__(self, settings: Settings, tokens: TokenSource | None = None) -> None:
        self.settings = settings
        self.transport = Transport(settings, settings.door_url, tokens)
        self.transfer_slots = threading.BoundedSemaphore(settings.transfers)
        self._redirects_writes: bool | None = None

    def close(self) -> None:
        """Close all connections."""
        self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def normalise(self, path: str) -> str:
        """Turn what a person writes into a path from the root, see `paths.normalise`."""
        return paths.normalise(path, self.settings.door_url)

    def list(self, path: str) -> Iterator[Entry]:
        """Give the entries of a directory while they arrive.

        Parameters
        ----------
        path : str
            A directory; for a file the one entry is the file itself.

        Yields
        ------
        Entry
            In the door's order.

        Raises
        ------
        NotFound
            Nothing there.
        ListingUnreadable
            The answer is broken, or lacks even the directory itself. An empty answer that has the
            directory can't be told from an empty directory: dCache hides a listing it can't make
            (DcacheDirectoryResource.getChildren, dCache 12.1).
        """
        path = self.normalise(path)
        seen: set[int] = set()  # of names given before the connection broke
        for attempt in range(1, self.settings.attempts + 1):
            try:
                for entry in self._listed(path):
                    if hash(entry.path) not in seen:
                        seen.add(hash(entry.path))
                        yield entry
            except NetworkError as why:
                self._pause_or_raise(why, attempt)
            else:
                return

    def stat(self, path: str) -> Entry:
        """Describe one file or directory.

        Raises
        ------
        NotFound
            Nothing there.
        """
        path = self.normalise(path)
        for attempt in range(1, self.settings.attempts + 1):
            parser = MultistatusParser(path)
            try:
                with self._propfind(path, "0") as stream:
                    for chunk in stream.chunks():
                        parser.feed(chunk)
                    parser.close()
                break
            except NetworkError as why:
                self._pause_or_raise(why, attempt)
        if parser.itself is None:
            raise ProtocolSurprise("The answer describes something else", where=self._url(path))
        return parser.itself

    def exists(self, path: str) -> Entry | None:
        """Describe what is at a path, or give None."""
        try:
            return self.stat(path)
        except NotFound:
            return None

    def checksums(self, path: str) -> tuple[Checksum, ...]:
        """Ask for a file's checksums by HEAD.

        Some dCache 8.2 and 9 releases give only POSIX attributes to PROPFIND (dCache PR #7329), so
        that no checksum in a listing does not mean that there is none.
        """
        answer = self.transport.request(
            "HEAD", self._url(self.normalise(path)), headers={"Want-Digest": WANT_DIGEST}
        )
        return digests(answer.headers)

    @contextlib.contextmanager
    def open(self, path: str, *, start: int = 0, end: int | None = None) -> Iterator[Stream]:
        """Open a file, or a range of it, for reading.

        Parameters
        ----------
        path : str
            A file.
        start : int
            First byte.
        end : int, optional
            First byte no longer wanted; None means to the end, which asks for a range only where
            ``start`` is not 0.

        Yields
        ------
        Stream
            With status 200 (the whole file) or 206 (exactly the range).

        Raises
        ------
        ProtocolSurprise
            The answer is for another range.
        """
        headers = {"Want-Digest": WANT_DIGEST}
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        with self.transport.stream("GET", self._url(self.normalise(path)), headers=headers) as got:
            if got.status == 206:
                _check_range(got, start)
            yield got

    def put(self, path: str, content: Iterable[bytes], size_bytes: int) -> Answer:
        """Write a file, replacing what is there; see `transfer.upload` for the safe way.

        A door sends the bytes to a pool only if nothing was sent to itself yet. A PUT of no bytes
        with Expect brings out the redirect (DcacheResourceFactory.java:715, dCache 12.1).

        Parameters
        ----------
        path : str
            The file. Parents are made by dCache, by other servers not.
        content : iterable of bytes
            Exactly ``size_bytes`` in all; it is iterated once.
        size_bytes : int
            Always said in Content-Length: without it dCache stores 0 bytes (dCache #6601).
        """
        url = self._url(self.normalise(path))
        headers = {"Want-Digest": WANT_DIGEST}
        if size_bytes and self._redirects_writes is not False:
            probe = {**headers, "Expect": "100-continue"}
            with self.transport.stream(
                "PUT", url, headers=probe, content=b"", redirects=False
            ) as got:
                location = got.headers.get("location") if 300 <= got.status < 400 else None
            self._redirects_writes = location is not None
            if location is not None:
                url = self.transport.redirect("PUT", url, location)
        return self.transport.request(
            "PUT", url, headers={**headers, "Content-Length": str(size_bytes)}, content=content
        )

    def mkdir(self, path: str, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a directory.

        Parameters
        ----------
        path : str
            The directory.
        parents : bool
            Make missing parents too.
        exist_ok : bool
            Is it right if the directory is there already?

        Raises
        ------
        AlreadyExists, NotFound
            It is there; its parent is not.
        """
        path = self.normalise(path)
        url = self._url(path) + "/"  # nginx wants the slash
        answer = self.transport.request("MKCOL", url, expect=(405, 409))
        if answer.status == 409 and parents and path != "/":
            self.mkdir(path.rpartition("/")[0] or "/", parents=True, exist_ok=True)
            answer = self.transport.request("MKCOL", url, expect=(405, 409))
        if answer.status == 409:
            raise NotFound("The directory above is missing", where=self._url(path))
        if answer.status == 405:
            there = self.stat(path)
            if not (exist_ok and there.is_dir):
                raise AlreadyExists("It is there already", where=self._url(path))

    def move(self, source: str, target: str, *, overwrite: bool = False) -> None:
        """Rename a file or directory.

        Parameters
        ----------
        source, target : str
            Paths at this door.
        overwrite : bool
            Replace what is at the target. The header is always sent: dCache takes its absence for
            F, against RFC 4918 (MoveHandler.java:53, dCache 12.1).

        Raises
        ------
        AlreadyExists, NotFound
            The target is there; the source or the target's directory is not.
        """
        where = self._url(self.normalise(source))
        there = self._url(self.normalise(target))
        headers = {"Destination": there, "Overwrite": "T" if overwrite else "F"}
        answer = self.transport.request("MOVE", where, headers=headers, expect=(409, 412))
        if answer.status == 412:
            raise AlreadyExists("The target is there already", where=there)
        if answer.status == 409:
            raise NotFound("The target's directory is missing", where=there)

    def remove(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file, or with ``recursive`` a directory and all below it.

        A dCache door removes a whole tree on one DELETE, so a directory is refused here unless it
        is asked for.
        """
        entry = self.stat(path)
        if entry.path == "/":
            raise UsageError("The root can't be removed")
        if entry.is_dir and not recursive:
            raise UsageError(
                "That is a directory", where=entry.path, hint="Ask for it to be removed with all."
            )
        self.transport.request("DELETE", self._url(entry.path) + ("/" if entry.is_dir else ""))

    def _listed(self, path: str) -> Iterator[Entry]:
        parser = MultistatusParser(path)
        with self._propfind(path, "1") as stream:
            for chunk in stream.chunks():
                yield from parser.feed(chunk)
            yield from parser.close()
        if parser.itself is not None and not parser.itself.is_dir:
            yield parser.itself

    def _pause_or_raise(self, why: NetworkError, attempt: int) -> None:
        """Wait before a listing whose body broke is asked for again (the rest was tried below)."""
        pause = pause_s(why, attempt, self.settings) if why.in_body else None
        if pause is None:
            raise why
        log.warning("%s; listing it again in %.1f s", why, pause)
        threading.Event().wait(pause)

    @contextlib.contextmanager
    def _propfind(self, path: str, depth: str) -> Iterator[Stream]:
        headers = {"Depth": depth, "Brief": "t", "Accept": "text/plain, application/xml", **_XML}
        with self.transport.stream(
            "PROPFIND", self._url(path), headers=headers, content=BODY
        ) as got:
            if got.status != 207:
                raise ProtocolSurprise(
                    f"The answer to PROPFIND is {got.status}, not 207",
                    where=got.url,
                    hint="Is this a WebDAV door? Check CTAFLOWS_DOOR_URL.",
                )
            yield got

    def _url(self, path: str) -> str:
        return paths.url(self.settings.door_url, path)


def digests(headers: Mapping[str, str]) -> tuple[Checksum, ...]:
    """Read the checksums in an answer's headers, in either of the two forms."""
    return parse_digests(headers.get("digest")) + parse_digests(headers.get("repr-digest"))


def _check_range(got: Stream, start: int) -> None:
    said = got.headers.get("content-range", "")
    if not said.startswith(f"bytes {start}-"):
        raise ProtocolSurprise(
            "The answer is for another part of the file",
            where=got.url,
            said=f"asked from byte {start}, got “{said}”",
        )
