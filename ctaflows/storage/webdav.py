"""A WebDAV storage, such as a dCache door: a method for each operation.

The behaviours of the servers, with versions and sources, are listed in docs/dcache.md.
"""

from __future__ import annotations

import html
import logging
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import unquote, urljoin, urlsplit

from ctaflows import cancel
from ctaflows.errors import (
    AlreadyExists,
    CtaflowsError,
    FileOffline,
    NetworkError,
    NoSpace,
    NotFound,
    ProtocolSurprise,
    Refused,
    Stopped,
    StorageError,
    UsageError,
)
from ctaflows.retry import Retries
from ctaflows.storage import paths
from ctaflows.storage.answers import Written
from ctaflows.storage.checksum import WANT_DIGEST, parse_digests
from ctaflows.storage.listing import Lister
from ctaflows.transport import REDIRECTS, policy
from ctaflows.transport.ask import Session, ask
from ctaflows.transport.driver import close_idle, run_journey
from ctaflows.transport.messages import Silent, header_line
from ctaflows.transport.wishes import READ, SUCCESS, Request

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

    from ctaflows.model import Checksum, Entry
    from ctaflows.settings import Settings
    from ctaflows.transport import Head, Source, TokenSource
    from ctaflows.transport.wishes import BodySink, Journey, Response

log = logging.getLogger("ctaflows.storage")

T = TypeVar("T")

_WANTED = (f"Want-Digest: {WANT_DIGEST}".encode(),)
_EXPECTING = (*_WANTED, b"Expect: 100-continue")
#: 417: a server, or a proxy before it, that wants no Expect gets the bytes without it (RFC 9110
#: §15.5.18).
_PROBED = REDIRECTS | {417}
_PUT_NEW = SUCCESS | {412}
#: dCache tells by it that it keeps X-OC-MTime: in the door's 307, or its own 201. In a pool's 201
#: it stands always (seen with 11.2.5).
_KEEPS_TIME = "x-oc-mtime"
_FIRST_BYTE = (b"Range: bytes=0-0",)
_OVERWRITE = {False: (b"Overwrite: F",), True: (b"Overwrite: T",)}
_MADE, _MOVED = SUCCESS | {403, 405, 409}, SUCCESS | {409, 412}
_MAX_PAGE_BYTES = 64 << 20
#: In the Server header of those that list a directory as empty only if it is.
_HONEST = ("storm", "xrootd", "apache", "nginx")


class WebDAVStorage:
    """The storage behind a WebDAV door; may be used by many threads.

    Methods take paths as `paths.normalise` does, unless they say otherwise.

    Parameters
    ----------
    settings : Settings
        ``door_url``, CA, timeouts and limits.
    tokens : TokenSource, optional
        Provides the bearer token of requests; None for a door with anonymous access.

    Raises
    ------
    UsageError
        The token would be sent over plain http to another machine, see ``allow_http_door``.

    Attributes
    ----------
    url : str
        ``door_url``.
    tokens : TokenSource or None
        As given, for further connections to the same door.
    transfer_slots : threading.Semaphore
        ``settings.transfers`` slots, one for each request of a transfer, which callers acquire.
        Concurrent listings (``settings.listings``) are bounded by `list` and `batches` themselves.
    redirects_writes : bool or None
        Does the server redirect PUT (dCache: ``webdav.redirect.on-write``, on by default; an XRootD
        manager always does)? None before the first PUT.
    may_rename : bool or None
        May the token rename what it uploads? None where it is not known yet, see `renaming`.
    session : Session
        For the journeys that move files.
    tells_checksums : bool or None
        Does HEAD tell the checksum of a file? None where it is not known yet.
    tells_locality : bool or None
        Does PROPFIND return FileLocality? Only dCache does (DcacheFileResource.java, dCache 12.1).
        None where it is not known yet.
    """

    title = "WebDAV door"
    has_ranges = can_rename = can_remove = True

    def __init__(self, settings: Settings, tokens: TokenSource | None = None) -> None:
        # dCache refuses such a token, but it was read by then
        in_clear = tokens is not None and policy.is_in_clear(settings.door_url)
        if in_clear and not settings.allow_http_door:
            raise UsageError(
                "The token is not sent to a door of http://: anybody on the way could read it",
                where=settings.door_url,
                hint="Name the door's https address in CTAFLOWS_DOOR_URL. Set "
                "CTAFLOWS_ALLOW_HTTP_DOOR=true to send the token in clear all the same.",
            )
        self.settings = settings
        self.url = settings.door_url
        self.tokens = tokens
        self.session = Session(settings, settings.door_url, tokens)
        self.transfer_slots = self.session.slots
        self._wants_digest = True
        self.tells_checksums: bool | None = None
        self._lister = Lister(self.session)
        self.redirects_writes: bool | None = None
        self.tells_locality: bool | None = None
        self.may_rename: bool | None = None
        self._once = replace(settings, attempts=1)

    def close(self) -> None:
        """Close all connections."""
        close_idle(self.session)

    def told_by(self, other: Self) -> Self:
        """Copy what another object has learned about the same server, and return this one."""
        self._lister.server = other._lister.server
        self._lister.has_seen_dcache = other._lister.has_seen_dcache
        self.redirects_writes, self.tells_locality = other.redirects_writes, other.tells_locality
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def normalise(self, path: str) -> str:
        """Return the absolute path of a path or URL as a user gives it, see `paths.normalise`."""
        return paths.normalise(path, self.settings.door_url)

    def list(self, path: str) -> Iterator[Entry]:
        """Yield the entries of a directory as they arrive, in the server's order.

        An empty listing does not mean that the directory is empty: a dCache door answers so for a
        directory that it can't list (DcacheDirectoryResource.getChildren, dCache 12.1; seen with
        11.2.5).

        Parameters
        ----------
        path : str
            Path of a directory; for a file the one entry is the file itself.

        Yields
        ------
        Entry
            A file, directory or symbolic link, without `path` itself if that is a directory.

        Raises
        ------
        NotFound
            There is nothing at that path.
        ListingUnreadable
            The answer is incomplete, or has no response at all, not even that of the directory.
        """
        for batch in self.batches(path):
            yield from batch

    def batches(
        self, path: str, *, stop: threading.Event | None = None
    ) -> Iterator[Sequence[Entry]]:
        """Yield the entries of a directory in lists, as they arrive; errors as for `list`.

        Parameters
        ----------
        path : str
            As for `list`.
        stop : threading.Event, optional
            Ends the listing soon after it is set, with `Stopped`.
        """
        path = self.normalise(path)
        return self._lister.batches(path, self._url(path), stop)

    def confirm_empty(self, path: str) -> bool:
        """Return True if a directory whose listing is empty is known to be empty.

        A dCache door lists one that it can't list as empty, see `list`, but answers a GET of it
        with an honest status, or a page with links to what is in it (seen with 11.2.5). The
        listings of StoRM, XRootD, Apache and nginx are honest: they are not asked, unless the door
        of a dCache is behind them, which a proxy's Server header hides.

        Parameters
        ----------
        path : str
            A directory that `list` has shown as empty.

        Raises
        ------
        FileOffline, Refused, StorageError
            It can't be read, or is not empty.
        NotFound
            There is nothing at that path any more.
        """
        is_honest = any(name in self.server_name() for name in _HONEST)
        if is_honest and not (self.tells_locality or self._lister.has_seen_dcache):
            return True
        url, page = self._url(self.normalise(path)).rstrip("/") + "/", _Page()
        try:
            answer = self._run(self._asking(Request("GET", url, sink=page, good=READ)))
        except (FileOffline, Refused, StorageError) as why:
            why.what = f"The directory is shown as empty, but can't be read: {why.what}"
            raise
        if _has_link_below(answer.url, bytes(page.body)):
            raise StorageError(
                "The directory is not empty, though the server lists nothing",
                where=url,
                hint="The server may have been busy: try again later.",
            )
        return True

    def hides_links(self) -> bool:
        """Return whether a listing shows a symbolic link as the directory that it leads to.

        And whether `is_read_directly` tells: so it is with StoRM WebDAV alone (seen with 1.8.1).
        nginx, Apache and XRootD follow links, too, and give no sign of it at all.
        """
        return "storm" in self.server_name()

    def is_read_directly(self, path: str) -> bool:
        """Return True if the path to a file is known to lead through no symbolic link.

        StoRM WebDAV 1.8.1 answers 404 to a GET of what it reaches by a link, while PROPFIND is 207
        and HEAD 200; so it does, too, to names with a space, ``#``, ``?``, brackets or non-ASCII
        letters (seen). Only an answer with bytes, or 416 of an empty file, is certain.
        """
        url = self._url(self.normalise(path))
        try:
            self._run(self._asking(Request("GET", url, _FIRST_BYTE, good=READ | {416})))
        except (FileOffline, NotFound, Refused, StorageError):
            return False
        return True

    def stat(self, path: str) -> Entry:
        """Return the entry of one file or directory.

        Raises
        ------
        NotFound
            There is nothing at that path.
        """
        return self._run(self.describing(self.normalise(path), Retries(self.settings)))

    def describing(self, path: str, retries: Retries) -> Journey[Entry]:
        """Return the entry of one file or directory, as `stat` does; a journey.

        Parameters
        ----------
        path : str
            Normalised path.
        retries : Retries
            The budget.
        """
        return self._lister.describing(path, self._url(path), retries)

    def exists(self, path: str) -> Entry | None:
        """Return the entry of what is at a path; None where there is nothing."""
        return self._run(self._finding(self.normalise(path)))

    def _finding(self, path: str) -> Journey[Entry | None]:
        try:
            return (yield from self.describing(path, Retries(self.settings)))
        except NotFound:
            return None

    def checksums(self, path: str) -> tuple[Checksum, ...]:
        """Return a file's checksums, by HEAD; empty where the server gives none.

        A listing without checksums does not mean that there are none: some releases of dCache 8.2
        and 9 return only POSIX attributes to PROPFIND (dCache pull requests #7329 and #7340).
        """
        return self.measure(path)[1]

    def measure(self, path: str) -> tuple[int | None, tuple[Checksum, ...]]:
        """Return a file's size in bytes and its checksums, as `measuring` does."""
        return self._run(self.measuring(self.normalise(path), Retries(self.settings)))

    def measuring(
        self, path: str, retries: Retries
    ) -> Journey[tuple[int | None, tuple[Checksum, ...]]]:
        """Return a file's size in bytes and its checksums, by HEAD; a journey.

        A dCache door answers it itself (DcacheResourceFactory.java, dCache 12.1: only GET and PUT
        are redirected), for a file on tape too. StoRM WebDAV 1.8.1 and XRootD 5.5 send checksums
        only in answers to HEAD; nginx 1.22 and Apache 2.4 have none.

        Parameters
        ----------
        path : str
            Normalised path.
        retries : Retries
            The budget.

        Returns
        -------
        size_bytes : int or None
            None where the answer has no Content-Length.
        checksums : tuple of Checksum
            Empty where the server gives none.

        Raises
        ------
        NotFound
            There is nothing at that path.
        """
        url = self._url(path)
        try:
            head = yield from ask(Request("HEAD", url, _WANTED), self.session, retries)
        except StorageError as why:
            if not _is_of_checksum(why):
                raise
            head = yield from ask(Request("HEAD", url), self.session, retries)
        return policy.size_bytes(head.header("content-length") or ""), digests(head)

    def receiving(
        self, path: str, sink: BodySink, retries: Retries, *, shortcut: str | None = None
    ) -> Journey[Response]:
        """GET what a sink lacks of a file, until it has all; a journey.

        Parameters
        ----------
        path : str
            Normalised path.
        sink : BodySink
            Says which range is asked for, and judges the answers.
        retries : Retries
            The budget.
        shortcut : str, optional
            URL that has answered for another range of the file, and is tried before the door.
        """
        url = self._url(path)
        shortcut = None if shortcut == url else shortcut
        if self._wants_digest:
            try:
                wanted = Request("GET", url, _WANTED, sink=sink, good=READ, shortcut=shortcut)
                return (yield from ask(wanted, self.session, retries))
            except StorageError as why:
                if not _is_of_checksum(why):
                    raise
                yield from self.describing(path, retries)
                log.info("%s; asking for the bytes alone", why)
                self._wants_digest = False
        return (yield from ask(Request("GET", url, sink=sink, good=READ), self.session, retries))

    def putting(
        self,
        path: str,
        body: bytes | Source,
        *,
        mtime: int | None = None,
        only_new: bool = False,
    ) -> Journey[Written]:
        """PUT a file, replacing an existing one, never twice; a journey. See `transfer.upload`.

        A dCache door redirects a PUT to a pool only if it has Expect, and before its body begins
        (DcacheResourceFactory.java:715, dCache 12.1). So a PUT without a body is sent first, to get
        the redirect. A server that does not redirect creates an empty file by it, which the second
        PUT replaces: StoRM takes that for a change, for which a token may lack the right.

        No Content-Type is sent: a pool refuses PUT with any Content-* header but Content-Length and
        Content-MD5 (HttpPoolRequestHandler.java, dCache 12.1; seen with 11.2.5: 501, and the entry
        remains).

        Parameters
        ----------
        path : str
            Normalised path of the file. Missing parents are created by dCache (PutHandler.java,
            Milton 2.7.3), XRootD 5.5, and nginx 1.22 with ``create_full_put_path``; Apache 2.4
            answers 409 (RFC 4918 §9.7.1).
        body : bytes or Source
            The bytes to write. Content-Length is always sent: without it dCache stores 0 bytes
            (dCache #6601).
        mtime : int, optional
            Time of the last modification, seconds since 1970, which dCache keeps.
        only_new : bool
            Replace nothing.

        Raises
        ------
        AlreadyExists
            With `only_new`: there is something at that path.
        NoSpace
            The server has taken no more bytes for ``stall_timeout_s``; the error has no status.
        """
        if self._lister.server is None:
            yield from self.naming_server()
        self.session.has_answered |= self._lister.server != "?"
        own = (b"X-OC-MTime: %d" % mtime,) if mtime is not None else ()
        good = SUCCESS
        if only_new:
            own, good = (*own, b"If-None-Match: *"), _PUT_NEW
        url = pool = self._url(path)
        keeps_time, is_created = None, False
        # a probe that creates the file would be in its own way
        if body_size(body) and self.redirects_writes is not False and not (
            only_new and self.redirects_writes is None
        ):  # fmt: skip
            headers = self._probing()
            probe = Request("PUT", url, headers, own, b"", good=good | _PROBED, leads_on=False)
            answer = yield from ask(probe, self.session, Retries(self.settings))
            _refuse_existing(answer)
            self.redirects_writes = answer.status in REDIRECTS
            is_created = answer.status in SUCCESS
            if self.redirects_writes:
                pool = self._redirected("PUT", answer)
                keeps_time = answer.header(_KEEPS_TIME) is not None
        request = Request("PUT", pool, _WANTED, own if pool is url else (), body, good=good)
        try:
            answer = yield from self._sent(request, is_redirected=pool is not url)
        except Refused as why:
            if is_created and why.status == 403:  # it may create, but not change
                self.may_rename = False
            raise
        _refuse_existing(answer)
        if keeps_time is None:
            keeps_time = answer.header(_KEEPS_TIME) is not None
        return Written(path, None, digests(answer), answer.header("server"), keeps_time)

    def _sent(self, request: Request, *, is_redirected: bool) -> Journey[Response]:
        # a pool that can't be reached is not asked again: the door may name another
        settings = self._once if is_redirected else self.settings
        try:
            return (yield from ask(request, self.session, Retries(settings)))
        except Silent as why:
            raise NoSpace(
                "The pool takes nothing: it may be full",
                where=why.where,
                said=why.said,
                hint="Tell the site. Each further try would take a place from those who read.",
            ) from why

    def _probing(self) -> tuple[bytes, ...]:
        """Return the header lines by which a PUT without a body asks for a redirect.

        dCache redirects only a PUT with Expect (DcacheResourceFactory.java, dCache 12.1; seen with
        11.2.5). XRootD redirects without it, and waits for ever for an empty body after its 100
        (seen with 5.5.3).
        """
        server = self.server_name()
        return _EXPECTING if server in ("", "?") or "dcache" in server else _WANTED

    def _redirected(self, method: str, answer: Response) -> str:
        return policy.next_hop(
            method,
            answer.url,
            answer.header("location"),
            allow_http=self.settings.allow_http_pools,
            status=answer.status,
        )

    def server_name(self) -> str:
        """Return the Server header of the door in lower case; ``?`` where it can't be reached."""
        if self._lister.server is None:
            self._run(self.naming_server())
        return (self._lister.server or "").lower()

    def naming_server(self) -> Journey[str]:
        """Return the Server header of the door, as `server_name` does; a journey."""
        if self._lister.server is None:
            try:
                yield from self.describing("/", Retries(self.settings))
            except Stopped:
                raise
            except CtaflowsError as why:
                log.debug("The door does not tell its name: %s", why)
                self._lister.server = self._lister.server or "?"
        return (self._lister.server or "").lower()

    def mkdir(self, path: str, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Create a directory, by MKCOL.

        Parameters
        ----------
        path : str
            Path of the directory.
        parents : bool
            Create missing parents too.
        exist_ok : bool
            Accept an existing directory; by default it is an error.

        Raises
        ------
        AlreadyExists
            There is a file or directory at that path.
        NotFound
            The parent directory does not exist.
        Refused
            It may not be created.
        """
        journey = self.making(self.normalise(path), parents=parents, exist_ok=exist_ok)
        self._run_to_answer(journey)

    def making(self, path: str, *, parents: bool = False, exist_ok: bool = False) -> Journey[None]:
        """Create a directory, as `mkdir` does, by its normalised path; a journey."""
        url = self._url(path)
        request = Request("MKCOL", url + "/", good=_MADE)  # nginx 1.22 answers 409 without the
        answer = yield from self._asking(request)  # slash (ngx_http_dav_module.c)
        if answer.status == 409 and parents and path != "/":
            yield from self.making(path.rpartition("/")[0] or "/", parents=True, exist_ok=True)
            answer = yield from self._asking(request)
        if answer.status == 409:  # RFC 4918 §9.3.1; XRootD 5.5 creates the parents
            raise NotFound("The parent directory is missing", where=url)
        if answer.status == 403:  # Apache 2.4, to the later of two concurrent requests
            found = yield from self._finding(path)
            if found is None or not (exist_ok and found.is_dir):
                raise Refused("Not allowed to create the directory", where=url, said="403")
        if answer.status == 405:  # RFC 4918 §9.3.1; XRootD 5.5 answers 201 for a directory
            there = yield from self.describing(path, Retries(self.settings))
            if not (exist_ok and there.is_dir):
                raise AlreadyExists("It exists already", where=url)

    def move(self, source: str, target: str, *, overwrite: bool = False) -> None:
        """Rename a file or directory, as `moving` does, by paths that need not be normalised."""
        journey = self.moving(self.normalise(source), self.normalise(target), overwrite=overwrite)
        self._run_to_answer(journey)

    def moving(self, source: str, target: str, *, overwrite: bool) -> Journey[None]:
        """Rename a file or directory, by one MOVE; a journey.

        Parameters
        ----------
        source, target : str
            The old and the new path, normalised.
        overwrite : bool
            Replace what is at the target. The Overwrite header is always sent: dCache takes its
            absence for F, against RFC 4918 §10.6 (MoveHandler.java:53, Milton 2.7.3).

        Raises
        ------
        AlreadyExists
            There is a file or directory at the target.
        NotFound
            The source or the target's directory does not exist.
        UsageError
            Source and target are the same path: dCache 11.2.5 destroys a file that is moved onto
            itself with ``Overwrite: T``.
        ProtocolSurprise
            The server can't give such a name.
        """
        source_url, target_url = self._url(source), self._url(target)
        if source_url == target_url:
            raise UsageError("Source and target are the same", where=source_url)
        server = yield from self.naming_server()
        # XRootD 5.5 replaces the target whatever Overwrite says
        if not overwrite and "xrootd" in server and (yield from self._finding(target)) is not None:
            raise AlreadyExists("The target is there already", where=target_url)
        own = (header_line(f"Destination: {self._destination(target_url)}"),)
        request = Request("MOVE", source_url, _OVERWRITE[overwrite], own, good=_MOVED)
        answer = yield from self._asking(request)
        if answer.status == 412:  # RFC 4918 §9.9.4
            raise AlreadyExists("The target is there already", where=target_url)
        if answer.status == 409:  # RFC 4918 §9.9.4; nginx 1.22 and XRootD 5.5 create the directory
            raise NotFound("The target's directory is missing", where=target_url)
        if answer.status == 200:  # RFC 4918 §9.9.4: 201 or 204; this may be the page of a login
            raise ProtocolSurprise("Unexpected answer to MOVE", where=source_url, said="200")

    def _destination(self, url: str) -> str:
        """Return the header that names a URL as the target of a MOVE.

        XRootD 5.5 does not decode it: ``a%20b`` would be the new name. It takes ``a b``, but ends a
        name at a ``?`` and at what is not ASCII, and drops outer spaces.
        """
        if "%" not in url or "xrootd" not in self.server_name():
            return url
        raw = unquote(url)
        if not raw.isascii() or "?" in raw or raw.endswith(" "):
            raise ProtocolSurprise(
                "An XRootD server can't give this name to what is moved or uploaded",
                where=url,
                hint="Choose a name of ASCII letters, without a question mark.",
            )
        return raw

    def remove(self, path: str) -> None:
        """Remove a file; `storage.namespace` removes directories.

        One DELETE of a directory would remove the whole tree, and at a dCache door the targets of
        symbolic links in it too (seen with 11.2.5).

        Raises
        ------
        UsageError
            It is a directory.
        NotFound
            There is nothing at that path.
        """
        entry = self.stat(path)
        if entry.is_dir:
            raise UsageError(
                "That is a directory",
                where=entry.path,
                hint="`ctaflows rm -r` removes it with all that is below it.",
            )
        self.delete(entry.path, is_dir=False)

    def delete(self, path: str, *, is_dir: bool) -> None:
        """Send DELETE for an existing file or empty directory, once.

        The caller has to check that a directory is empty, since it would be removed with all that
        is in it: dCache deletes the children one by one, and skips those that it can't list
        (DeleteHelperImpl.java, Milton 2.7.3). It must not be a symbolic link either, see `links`.

        Parameters
        ----------
        path : str
            Normalised path.
        is_dir : bool
            Is it a directory? Then its URL ends in a slash, without which nginx 1.22 answers 409
            (ngx_http_dav_module.c).
        """
        self._run_to_answer(self.deleting(path, is_dir=is_dir))

    def deleting(self, path: str, *, is_dir: bool = False) -> Journey[None]:
        """Send DELETE, as `delete` does; a journey."""
        yield from self._asking(Request("DELETE", self._url(path) + ("/" if is_dir else "")))

    def renaming(self, path: str) -> Journey[bool]:
        """Return whether the token may rename what it uploads, as far as that is known; a journey.

        StoRM takes MOVE and DELETE for changes: with a token that has ``storage.create`` without
        ``storage.modify`` (WLCG profile 1.0, §Capability based authorization) an upload would leave
        what it can't rename. It is asked once, by the DELETE of a name that nobody has: StoRM looks
        at rights first. Other servers show it by their answer to the first MOVE.

        Parameters
        ----------
        path : str
            Normalised path that nobody has.
        """
        if self.may_rename is None and "storm" in (yield from self.naming_server()):
            try:
                yield from self.deleting(path)
            except (NotFound, StorageError, NetworkError):
                pass
            except Refused as why:
                if why.status != 403:
                    raise
                self.may_rename = False
                return False
            self.may_rename = True
        return self.may_rename is not False

    def _url(self, path: str) -> str:
        return paths.url(self.settings.door_url, path)

    def _asking(self, request: Request) -> Journey[Response]:
        """Send a request with a budget of its own."""
        return ask(request, self.session, Retries(self.settings))

    def _run(self, journey: Journey[T]) -> T:
        """Run a journey; the caller may have transfer slots, so that it takes none."""
        stop = cancel.current()
        return run_journey(journey, self.session, takes_slots=False, stop=stop)

    def _run_to_answer(self, journey: Journey[T]) -> T:
        """Run a journey that changes something: what became of it must be known."""
        stop = cancel.current()
        return run_journey(journey, self.session, takes_slots=False, awaits_answers=True, stop=stop)


class _Page:
    """The receiver of a page."""

    n_received, worth_bytes = 0, 1

    def __init__(self) -> None:
        self.body, self._url = bytearray(), ""

    def range_line(self) -> None:
        """Return None: it is received as a whole."""

    def begin(self, answer: Response) -> None:
        """Begin anew."""
        self.body.clear()
        self._url = answer.url

    def write(self, piece: bytes) -> None:
        """Take the next bytes."""
        self.body += piece
        if len(self.body) > _MAX_PAGE_BYTES:
            raise ProtocolSurprise("The answer has no end", where=self._url)

    def ended(self, answer: Response) -> bool:
        """Return whether all came."""
        return answer.error is None


def digests(head: Head | Response) -> tuple[Checksum, ...]:
    """Return the checksums in an answer's Digest and Repr-Digest headers.

    A pool may answer with the one that another client asked for: it keeps the header's name in a
    static field (HttpPoolRequestHandler.java, dCache 12.1).
    """
    found = parse_digests(head.header("digest"))
    other = head.header("repr-digest")
    return found if other is None else found + parse_digests(other)


def body_size(body: bytes | Source) -> int:
    """Return the length of a body, bytes."""
    return len(body) if isinstance(body, bytes) else body.size_bytes


def _refuse_existing(answer: Response) -> None:
    if answer.status == 412:
        raise AlreadyExists("The target is there already", where=answer.url)


_LINK = re.compile(rb"""<a\s[^>]*?\bhref\s*=\s*["']([^"'>]*)["']""", re.IGNORECASE)


def _has_link_below(url: str, page: bytes) -> bool:
    """Return whether the page of a directory links to anything in it."""
    base = unquote(urlsplit(url).path)
    for link in _LINK.findall(page):
        try:
            there = urljoin(url, html.unescape(link.decode("utf-8", "replace")))
            path = unquote(urlsplit(there).path)
        except ValueError:
            continue
        if path.startswith(base) and path != base:
            return True
    return False


def _is_of_checksum(why: StorageError) -> bool:
    """Return whether the checksum that was asked for may be why a GET or HEAD failed.

    XRootD 5.5 without ``xrootd.chksum`` answers 405 to Want-Digest (xrootd #1707). Until 5.6 it
    answers 500 where it can't compute the checksum, also since there is no such file (#2018).
    """
    return why.status == 405 or (why.status == 500 and "calculate checksum" in (why.said or ""))
