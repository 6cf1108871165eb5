"""A dCache door over WebDAV: one method, one operation.

What doors of each kind and version do is told in docs/dcache.md, a line for each behaviour.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ctaflows.errors import (
    AlreadyExists,
    CtaflowsError,
    NotFound,
    Refused,
    UsageError,
)
from ctaflows.storage import paths
from ctaflows.storage.checksum import WANT_DIGEST, parse_digests
from ctaflows.storage.listing import Lister
from ctaflows.transport import MAX_HOPS, REDIRECTS, Transport, policy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ctaflows.model import Checksum, Entry
    from ctaflows.settings import Settings
    from ctaflows.transport import Head, Sink, Source, TokenSource
    from ctaflows.transport.convoy import Convoy, Word

T = TypeVar("T")


class WebDAVStorage:
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
    tokens : TokenSource or None
        For further connections to the same door.
    transfer_slots : threading.Semaphore
        One slot for each file that may be moved at once, shared by all that use this door. So are
        the slots for listings (``settings.listings``), which `list` and `batches` take themselves.
    """

    def __init__(self, settings: Settings, tokens: TokenSource | None = None) -> None:
        self.settings = settings
        self.tokens = tokens
        self.transport = Transport(settings, settings.door_url, tokens)
        self.transfer_slots = threading.BoundedSemaphore(settings.transfers)
        self._lister = Lister(self.transport, settings)
        #: Does it send a PUT on to another server (dCache: webdav.redirect.on-write, on by default;
        #: an XRootD manager always does)? Known after the first.
        self.redirects_writes: bool | None = None
        #: Does PROPFIND tell where a file's bytes are? Only dCache does (DcacheFileResource.java,
        #: dCache 12.1); None as long as it is not known.
        self.tells_locality: bool | None = None

    def close(self) -> None:
        """Close all connections."""
        self.transport.close()

    def told_by(self, other: WebDAVStorage) -> Self:
        """Take over what another door to the same place has found out about the server."""
        self._lister.server = other._lister.server
        self.redirects_writes, self.tells_locality = other.redirects_writes, other.tells_locality
        return self

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
        for batch in self.batches(path):
            yield from batch

    def batches(
        self, path: str, *, stop: threading.Event | None = None
    ) -> Iterator[Sequence[Entry]]:
        """Give the entries of a directory in lists, each as soon as it has arrived.

        Parameters
        ----------
        path : str
            As for `list`.
        stop : threading.Event, optional
            Ends the listing, with `Stopped`, soon after it is set.
        """
        path = self.normalise(path)
        return self._lister.batches(path, self._url(path), stop)

    def stat(self, path: str) -> Entry:
        """Describe one file or directory.

        Raises
        ------
        NotFound
            Nothing there.
        """
        path = self.normalise(path)
        return self._lister.describe(path, self._url(path))

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
        return self.measure(path)[1]

    def measure(self, path: str) -> tuple[int | None, tuple[Checksum, ...]]:
        """Ask for a file's size and checksums by HEAD, the cheapest request there is.

        A dCache door answers it by itself (DcacheResourceFactory.java, dCache 12.1: only GET and
        PUT are redirected), also for a file that is on tape alone. StoRM WebDAV 1.8.1 and XRootD
        5.5 tell a checksum to HEAD only; nginx 1.22 and Apache 2.4 have none.
        """
        head = self.transport.exchange(
            "HEAD", self._url(self.normalise(path)), headers={"Want-Digest": WANT_DIGEST}
        )
        return policy.size_bytes(head.headers.get("content-length", "")), digests(head.headers)

    def receive(
        self,
        path: str,
        sink: Sink,
        *,
        start: int = 0,
        end: int | None = None,
        stop: threading.Event | None = None,
    ) -> Head:
        """Read a file, or a range of it, into a sink; the way in which files are moved.

        Parameters
        ----------
        path : str
            A file.
        start : int
            First byte.
        end : int, optional
            First byte no longer wanted; None means to the end, which the door is asked for where
            ``start`` is not 0.
        sink : Sink
            Is shown the answer's head, which it has to check (see `answers.check_answer`), and then
            takes its bytes.
        stop : threading.Event, optional
            Ends the transfer soon after it is set.
        """
        # XRootD 5.5 gives no bytes of a range without an end; nor does a dCache door that gives the
        # bytes itself, before 9.2.47, 10.2.23, 11.0.12 and 11.1.7
        if start and end is None:
            end = self.stat(path).size_bytes
        url = self._url(self.normalise(path))
        return self.transport.receive(url, sink, headers=_range(start, end), stop=stop)

    def receive_small(
        self, entries: Iterator[tuple[str, T]], *, at_once: int, stop: threading.Event
    ) -> Iterator[tuple[T, Head | None, bytes]]:
        """Read many small files whole, in this thread; see `transport.Transport.receive_many`.

        Parameters
        ----------
        entries : iterator of (str, object)
            A file's path as `normalise` gives it, and a tag by which the caller knows it.
        at_once : int
            How many may be on their way.
        stop : threading.Event
            Ends all soon after it is set.
        """
        wanted = ((self._url(path), tag) for path, tag in entries)
        headers = {"Want-Digest": WANT_DIGEST}
        return self.transport.receive_many(wanted, headers=headers, at_once=at_once, stop=stop)

    def put(
        self, path: str, content: bytes | Source, *, stop: threading.Event | None = None
    ) -> Head:
        """Write a file, replacing what is there; see `transfer.upload` for the safe way.

        A door sends the bytes to a pool only if nothing was sent to itself yet. A PUT of no bytes
        with Expect brings out the redirect (DcacheResourceFactory.java:715, dCache 12.1). A server
        that does not redirect has an empty file then, which the second PUT replaces.

        No Content-Type is sent: a pool refuses a PUT that has any Content-* header but
        Content-Length and Content-MD5 (HttpPoolRequestHandler.java, dCache 12.1; seen with 11.2.5:
        501, and the entry stays).

        Parameters
        ----------
        path : str
            The file. Missing parents are made by dCache (PutHandler.java, Milton 2.7.3), XRootD 5.5
            and nginx 1.22 with ``create_full_put_path``; Apache 2.4 answers 409 (RFC 4918 §9.7.1).
        content : bytes or Source
            What to write. Its length is always said in Content-Length: without it dCache stores 0
            bytes (dCache #6601). A `Source` is sent again only as `Transport.exchange` does.
        stop : threading.Event, optional
            Ends the transfer soon after it is set.
        """
        url = self._url(self.normalise(path))
        headers = {"Want-Digest": WANT_DIGEST}
        size_bytes = len(content) if isinstance(content, bytes) else content.size_bytes
        if size_bytes and self.redirects_writes is not False:
            probe = {**headers, **self.expecting()}
            got = self.transport.exchange("PUT", url, headers=probe, content=b"", redirects=False)
            location = got.headers.get("location") if 300 <= got.status < 400 else None
            self.redirects_writes = location is not None
            if location is not None:
                url = self.transport.redirect("PUT", url, location)
        return self.transport.exchange("PUT", url, headers=headers, content=content, stop=stop)

    @contextlib.contextmanager
    def deliveries(self) -> Iterator[ConcurrentPuts | None]:
        """Lend the way for many small files to be written at once, in this thread.

        None where there is no such way here.
        """
        with self.transport.convoy() as convoy:
            yield None if convoy is None else ConcurrentPuts(self, convoy)

    def expecting(self) -> dict[str, str]:
        """Say how a PUT of no bytes asks for a redirect.

        dCache redirects only what expects 100 (DcacheResourceFactory.java, dCache 12.1; 11.2.5 does
        so); XRootD 5.5.3 was seen to answer that with 100, and then to wait for ever for a body of
        no bytes; it redirects without.
        """
        server = self.server_name()
        return {"Expect": "100-continue"} if server in ("", "?") or "dcache" in server else {}

    def server_name(self) -> str:
        """Give the server's own name in lower case; ``?`` where it does not even answer."""
        if self._lister.server is None:
            self._lister.server = "?"
            with contextlib.suppress(CtaflowsError):
                self.stat("/")
        return self._lister.server.lower()

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
        url = self._url(path) + "/"  # nginx 1.22 answers 409 without it (ngx_http_dav_module.c)
        answer = self.transport.request("MKCOL", url, expect=(403, 405, 409))
        if answer.status == 409 and parents and path != "/":
            self.mkdir(path.rpartition("/")[0] or "/", parents=True, exist_ok=True)
            answer = self.transport.request("MKCOL", url, expect=(403, 405, 409))
        if answer.status == 409:  # RFC 4918 §9.3.1; XRootD 5.5 makes the parents unasked
            raise NotFound("The directory above is missing", where=self._url(path))
        if answer.status == 403:  # Apache 2.4 says so to the later of two at the same moment
            found = self.exists(path)
            if found is None or not (exist_ok and found.is_dir):
                raise Refused("Not allowed to make this", where=self._url(path), said="403")
        if answer.status == 405:  # RFC 4918 §9.3.1; XRootD 5.5 answers 201 for a directory
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
        # XRootD 5.5 replaces the target whatever Overwrite says
        if not overwrite and "xrootd" in self.server_name() and self.exists(target) is not None:
            raise AlreadyExists("The target is there already", where=there)
        headers = {"Destination": there, "Overwrite": "T" if overwrite else "F"}
        answer = self.transport.exchange("MOVE", where, headers=headers, expect=(409, 412))
        if answer.status == 412:  # RFC 4918 §9.9.4, which dCache keeps to
            raise AlreadyExists("The target is there already", where=there)
        if answer.status == 409:  # likewise; nginx 1.22 and XRootD 5.5 make the directory
            raise NotFound("The target's directory is missing", where=there)

    def remove(self, path: str) -> None:
        """Remove a file.

        A dCache door removes a whole tree on one DELETE, together with what symbolic links in it
        lead to, so a directory is refused: see `storage.namespace`.
        """
        entry = self.stat(path)
        if entry.is_dir:
            raise UsageError(
                "That is a directory", where=entry.path, hint="Ask for it to be removed with all."
            )
        self.delete(entry.path, is_dir=False)

    def delete(self, path: str, *, is_dir: bool) -> None:
        """Remove what is known to be there: one request, never repeated.

        Parameters
        ----------
        path : str
            Normalised path.
        is_dir : bool
            A directory goes with all that is in it: dCache removes the children one by one, and
            passes over those that it can't list (DeleteHelperImpl.java, Milton 2.7.3). So it must
            be empty, and neither may be a symbolic link, see `links`. Its URL ends in a slash,
            without which nginx 1.22 answers 409 (ngx_http_dav_module.c).
        """
        self.transport.request("DELETE", self._url(path) + ("/" if is_dir else ""))

    def _url(self, path: str) -> str:
        return paths.url(self.settings.door_url, path)


def digests(headers: Mapping[str, str]) -> tuple[Checksum, ...]:
    """Read the checksums in an answer's headers, in either of the two forms.

    A pool may use the header that another client has asked for: it keeps the name in a static field
    (HttpPoolRequestHandler.java, dCache 12.1).
    """
    return parse_digests(headers.get("digest")) + parse_digests(headers.get("repr-digest"))


def _range(start: int, end: int | None) -> dict[str, str]:
    """Say what is wanted of a file; nothing of a range where it is the whole."""
    headers = {"Want-Digest": WANT_DIGEST}
    if start or end is not None:
        headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
    return headers


# -- many PUTs at once -----------------------------------------------------------------------------
#
# Many small files written at once, in one thread: the steps, whose answers the caller judges.

_WANT = f"Want-Digest: {WANT_DIGEST}"


class ConcurrentPuts:
    """The steps of writing a file, of many files at once. See `WebDAVStorage` for what each does.

    Paths are normalised, and hold nothing that a URL must encode. Each step has a tag by which the
    caller knows its answer.

    Parameters
    ----------
    door : WebDAVStorage
        Where to.
    convoy : Convoy
        Carries the requests.
    """

    def __init__(self, door: WebDAVStorage, convoy: Convoy) -> None:
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
        """Write a file; see `WebDAVStorage.put` for how it comes to a pool."""
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
