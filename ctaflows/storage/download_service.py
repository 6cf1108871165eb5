"""The JupyterHub platform's download service: a storage that is asked through a service.

Weaker than a dCache door: no ranges, so that a transfer that broke begins anew; no length and no
checksum in an answer, so that a file is proven by its size in the listing and, where the service
lets PROPFIND through to the storage (``webdav/``), by the storage's checksum; no MOVE, so that an
upload is written under its final name and compared afterwards. Observed: cta-epfl/downloadservice
@ 6c84bcf, app.py.
"""

from __future__ import annotations

import logging
import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlsplit

from ctaflows import cancel
from ctaflows.errors import CtaflowsError, ListingUnreadable, NotFound, ProtocolSurprise, UsageError
from ctaflows.model import Entry
from ctaflows.settings import CHUNK_BYTES
from ctaflows.storage import links, paths
from ctaflows.storage.answers import Written
from ctaflows.storage.jupyterhub import Service
from ctaflows.storage.propfind import BODY, MultistatusParser, http_date
from ctaflows.storage.protocol import unsupported
from ctaflows.transport import origin
from ctaflows.transport.wishes import Call

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

    from ctaflows.model import Checksum
    from ctaflows.retry import Retries
    from ctaflows.settings import Settings
    from ctaflows.transport import Source
    from ctaflows.transport.wishes import BodySink, Journey, Response

log = logging.getLogger("ctaflows.storage")

#: After so many failures in a row the service is not asked for checksums any more.
_MAX_UNTOLD = 3
_XML = {"Content-Type": "application/xml; charset=utf-8", "Brief": "t"}


class DownloadServiceStorage(Service):
    """The download service as a `protocol.Storage`.

    Parameters
    ----------
    settings : Settings
        CA, timeouts, limits.
    url : str
        The service.
    token : str
        The hub's token; sent in a header to this service alone.
    chunk_bytes : int
        In which pieces the service reads a file from the storage.
    """

    title = "download service"
    has_ranges = can_rename = can_remove = False
    may_rename: bool | None = False
    #: HEAD of the service tells nothing that PROPFIND does not.
    tells_checksums: bool | None = False
    #: The storage behind may be dCache; how late it tells a checksum matters to renaming alone.
    tells_locality: bool | None = None

    def __init__(
        self, settings: Settings, url: str, token: str, *, chunk_bytes: int = CHUNK_BYTES
    ) -> None:
        super().__init__(settings, url, token)
        self.transfer_slots = self.session.slots
        self._chunk_bytes = chunk_bytes
        self._n_untold = 0

    def told_by(self, other: Self) -> Self:
        """Copy from another connection whether the service returns checksums."""
        self._n_untold = other._n_untold
        return self

    def normalise(self, path: str) -> str:
        """Turn a path, or a URL at this service, into a path from the root.

        The service takes no ``..`` (cta-epfl/downloadservice @ 6c84bcf, app.py, fetch and upload);
        ctadata's HTTP library resolved them before it was asked. One that leads out of the root, or
        out of one's own directory, is refused.
        """
        if path.startswith(("https://", "http://")):
            path = path_at(self.url, path)
        if ".." in path:
            path = posixpath.normpath(path.lstrip("/"))
        return paths.normalise(path, self.url)

    def list(self, path: str) -> Iterator[Entry]:
        """Return the entries of a directory, with checksums where the storage tells them.

        A file gives itself. What may be a symbolic link is asked for by itself, see
        `links.resolved`. An empty listing may also mean that the service could not read the
        directory: the storage behind shows both alike.
        """
        path = self.normalise(path)
        found = self._listing(path)
        if len(found) == 1 and not found[0].is_dir:
            inside = found
        else:
            inside = [entry for entry in found if entry.path != path]
        told = self._told(path, "1") if any(not entry.is_dir for entry in inside) else {}
        completed = [_completed(entry, told.get(entry.path)) for entry in inside]
        if inside is found:  # a file that lists itself
            yield from completed
        else:
            at_once = self.settings.listings
            yield from links.resolved(completed, self.stat, at_once, cancel.current())

    def batches(
        self, path: str, *, stop: threading.Event | None = None
    ) -> Iterator[Sequence[Entry]]:
        """Return what `list` gives in one piece, as it comes.

        Parameters
        ----------
        path : str
            A directory.
        stop : threading.Event, optional
            Not heeded: there is one answer.
        """
        yield [*self.list(path)]

    def confirm_empty(self, path: str) -> bool:
        """Return False: the service shows a directory that it can't read as empty, too."""
        return False

    def hides_links(self) -> bool:
        """Return False: the service removes nothing, so that nobody needs to know."""
        return False

    def is_read_directly(self, path: str) -> bool:
        """Return False: it is not known."""
        return False

    def stat(self, path: str) -> Entry:
        """Describe one file or directory, with checksums where the storage tells them.

        Raises
        ------
        NotFound
            Nothing there.
        """
        path = self.normalise(path)
        may_be_told = self._n_untold < _MAX_UNTOLD
        told = self._told(path, "0").get(
            path
        )  # a small answer, where a listing is a whole directory
        if told is not None:
            return told
        try:
            found = self._listing(path)
        except NotFound:
            if may_be_told:  # it is the path that is not there, rather than ``webdav/``
                self._n_untold = 0
            raise
        itself = next((entry for entry in found if entry.path == path), None)
        if itself is None:
            raise ProtocolSurprise(
                "The listing describes something else", where=self._url("list", path)
            )
        return itself

    def describing(self, path: str, retries: Retries) -> Journey[Entry]:
        """Describe one file or directory; a journey."""
        return (yield Call(self.stat, path))  # type: ignore[no-any-return]  # what it returns

    def exists(self, path: str) -> Entry | None:
        """Describe what is at a path, or give None."""
        try:
            return self.stat(path)
        except NotFound:
            return None

    def checksums(self, path: str) -> tuple[Checksum, ...]:
        """Ask the storage behind the service for a file's checksums; empty if it tells none."""
        path = self.normalise(path)
        told = self._told(path, "0").get(path)
        return told.checksums if told else ()

    def measure(self, path: str) -> tuple[int | None, tuple[Checksum, ...]]:
        """Describe a file's size and checksums."""
        entry = self.stat(path)
        return entry.size_bytes, entry.checksums

    def measuring(
        self, path: str, retries: Retries
    ) -> Journey[tuple[int | None, tuple[Checksum, ...]]]:
        """Describe a file's size and checksums; a journey."""
        return (yield Call(self.measure, path))  # type: ignore[no-any-return]  # what it returns

    def receiving(
        self,
        path: str,
        sink: BodySink,
        retries: Retries,
        *,
        shortcut: str | None = None,
    ) -> Journey[Response]:
        """Read a file into a sink: the whole one, since the service has no ranges; a journey.

        No length is told, and what the storage says of an error comes in place of the file, so that
        the size must be compared with the listing's.

        Parameters
        ----------
        path : str
            Normalised path of a file.
        sink : BodySink
            Sees the headers, then the bytes.
        retries : Retries
            The budget.
        shortcut : str, optional
            Not heeded: there are no redirects.
        """
        url = f"{self._url('fetch', path)}?chunk_size={self._chunk_bytes}"
        return (yield from self.reading(url, sink, retries))

    def putting(
        self,
        path: str,
        body: bytes | Source,
        *,
        mtime: int | None = None,
        only_new: bool = False,
    ) -> Journey[Written]:
        """Write a file below one's own directory, replacing what is there; a journey.

        Parameters
        ----------
        path : str
            Below ``lst/users/<name>/`` (or ``cta/users/…``), which the service puts before it.
            Parents are made.
        body : bytes or Source
            What to write; its length is said in Content-Length.
        mtime : int, optional
            Not heeded.
        only_new : bool
            Refused: the service can't be asked for that.
        """
        if only_new:
            raise unsupported(self, "tell what is there before it writes", path)
        if path == "/":
            raise UsageError("A file needs a name", where=path)
        url = self._url("upload", path)
        answer = yield from self.posting(url, body)
        where = answer.get("path") if isinstance(answer, dict) else None
        if not isinstance(where, str):
            raise ProtocolSurprise(
                "The service does not say where it wrote the file", where=url, said=repr(answer)
            )
        return Written(self.normalise(where), whole(answer.get("total_written")))

    def making(self, path: str, *, parents: bool = False, exist_ok: bool = False) -> Journey[None]:
        """Refuse, as `mkdir`."""
        raise unsupported(self, "make directories", path)

    def renaming(self, path: str) -> Journey[bool]:
        """Refuse, as `move`."""
        raise unsupported(self, "move files", path)

    def moving(self, source: str, target: str, *, overwrite: bool) -> Journey[None]:
        """Refuse, as `move`."""
        raise unsupported(self, "move files", source)

    def deleting(self, path: str) -> Journey[None]:
        """Refuse, as `remove`."""
        raise unsupported(self, "remove files", path)

    def mkdir(self, path: str, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Refuse: the service makes directories where a file goes up."""
        raise unsupported(self, "make directories", path)

    def move(self, source: str, target: str, *, overwrite: bool = False) -> None:
        """Refuse: the service lets no MOVE through (app.py, webdav_methods)."""
        raise unsupported(self, "move files", source)

    def remove(self, path: str) -> None:
        """Refuse: the service lets no DELETE through (app.py, webdav_methods)."""
        raise unsupported(self, "remove files", path)

    def delete(self, path: str, *, is_dir: bool) -> None:
        """Refuse, as `remove`."""
        raise unsupported(self, "remove files", path)

    def _listing(self, path: str) -> Sequence[Entry]:
        """Return a directory's entries as the service has them, itself among them.

        Raises
        ------
        NotFound
            Nothing there.
        ListingUnreadable
            The answer is no listing.
        """
        url = self._url("list", path)
        return read_listing(path, self.ask("GET", url), where=url)

    def _told(self, path: str, depth: str) -> dict[str, Entry]:
        """Ask the storage itself for what a listing lacks; give nothing where it does not answer.

        The service hands PROPFIND on as it is (app.py, webdav), and dCache tells a file's checksum
        and locality to who names them.
        """
        if self._n_untold >= _MAX_UNTOLD:
            return {}
        parser = MultistatusParser(path, paths.root_of(self.url) + "/webdav")
        found: list[Entry] = []
        try:
            with self.stream(
                "PROPFIND",
                self._url("webdav", path),
                headers={**_XML, "Depth": depth},
                content=BODY,
            ) as got:
                for chunk in got.chunks():
                    found += parser.feed(chunk)
                found += parser.close()
        except CtaflowsError as why:
            if why.status == 401:  # the same token is not asked with again
                raise
            log.info("The download service tells no checksums: %s", why)
            self._n_untold += 1 if why.retryable else _MAX_UNTOLD
            return {}
        self._n_untold = 0
        found += [parser.itself] if parser.itself else []
        return {entry.path: entry for entry in found}

    def _url(self, endpoint: str, path: str) -> str:
        return paths.url(f"{self.url}/{endpoint}", path).rstrip("/")


def _completed(entry: Entry, told: Entry | None) -> Entry:
    """Add what the storage told, if it is of the same file."""
    if told is None or told.size_bytes != entry.size_bytes:
        return entry
    return replace(entry, checksums=told.checksums, locality=told.locality, etag=told.etag)


# -- listings of the service -----------------------------------------------------------------------
#
# The download service's listings become entries. Pure: no I/O.
#
# ``GET list/PATH`` answers with what PROPFIND of depth 1 gave, as JSON in which all values are
# texts (cta-epfl/downloadservice @ 6c84bcf, app.py, list_dir).

_ENDPOINTS = ("list", "fetch", "upload", "webdav")


def read_listing(path: str, values: Any, *, where: str) -> list[Entry]:
    """Read the answer to ``list/PATH``, itself among them. Pure.

    Parameters
    ----------
    path : str
        Normalised path that was asked for.
    values : Any
        The JSON.
    where : str
        For errors.

    Raises
    ------
    ListingUnreadable
        It is no list of entries.
    ProtocolSurprise
        An entry lies elsewhere.
    """
    if not isinstance(values, list) or not all(
        isinstance(v, dict) and isinstance(v.get("href"), str) for v in values
    ):
        raise ListingUnreadable("The answer is no listing", where=where)
    found = []
    for raw in values:
        child = paths.child(path, "/" + raw["href"].lstrip("/"))
        # the root's own href is empty, and so called a file (app.py, list_dir)
        is_dir = raw.get("type") == "directory" or raw["href"].strip("/") == ""
        is_dir = is_dir or (child is None and len(values) > 1)
        found.append(
            Entry(
                path=path if child is None else child,
                is_dir=is_dir,
                size_bytes=None if is_dir else whole(raw.get("size")),
                mtime=http_date(raw["mtime"]) if isinstance(raw.get("mtime"), str) else None,
            )
        )
    return found


def whole(value: object) -> int | None:
    """Read a number of bytes, which the service writes as a text."""
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def path_at(service_url: str, url: str) -> str:
    """Read an address at a service, such as a listing gives, as a path. Pure.

    Parameters
    ----------
    service_url : str
        The service, without a trailing slash.
    url : str
        The address.

    Raises
    ------
    UsageError
        It is not at this service.
    """
    base = urlsplit(service_url).path + "/"
    try:
        is_here, there = origin(url) == origin(service_url), urlsplit(url).path
    except ValueError:
        is_here, there = False, ""
    endpoint, _, rest = there.removeprefix(base).partition("/")
    if not is_here or not there.startswith(base) or endpoint not in _ENDPOINTS:
        raise UsageError(
            "That address is not at this service", where=url, hint=f"It is {service_url}/."
        )
    return unquote(rest, errors="surrogateescape")
