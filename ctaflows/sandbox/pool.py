"""The pool: sends and receives file content for whoever has a pool URL; it checks no tokens.

File and line numbers in comments refer to dCache 12.1.0-SNAPSHOT @ 77340d6; texts and headers are
those seen with 11.2.5.
"""

from __future__ import annotations

import re
import threading
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ctaflows.sandbox import content
from ctaflows.sandbox.messages import AbortConnection, Response
from ctaflows.sandbox.storage import UploadFailed

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.sandbox.faults import Clock
    from ctaflows.sandbox.messages import Request
    from ctaflows.sandbox.quirks import Quirks
    from ctaflows.sandbox.server import Connection
    from ctaflows.sandbox.storage import Storage

_METHODS = ("GET", "HEAD", "PUT")
_OTHER_FILE = "The file you specified does not match the UUID you specified!"
# HttpPoolRequestHandler.java:109-110
_ENTITY_HEADERS = ("content-length", "content-md5")


class Pool:
    """Responds to requests as dCache's HttpPoolRequestHandler does.

    Errors have their message in the status line and an empty body (HttpRequestHandler.java).

    Parameters
    ----------
    storage : Storage
        The files.
    pool_urls : PoolUrls
        The pool URLs issued by the door.
    quirks : Quirks
        Which of dCache's peculiarities to imitate.
    """

    def __init__(self, storage: Storage, pool_urls: PoolUrls, quirks: Quirks) -> None:
        self._storage = storage
        self._pool_urls = pool_urls
        self._quirks = quirks

    def handle(self, request: Request) -> Response:
        """Return the response to a request."""
        if not self._storage.pool.runs:
            raise AbortConnection(reset=True)
        self._storage.pool.check_threads()
        if request.method not in _METHODS:
            return Response(501)
        number = request.query.get("dcache-http-uuid", "")
        pool_url = self._pool_urls.use(number, request.connection)
        if pool_url is None:
            return self._stale(request)
        if pool_url.path != request.path:
            return Response(400, reason=_OTHER_FILE)
        if (pool_url.method == "PUT") != (request.method == "PUT"):
            return Response(400, reason=f"The UUID is not for {request.method}")
        if request.method == "PUT":
            return self._put(request, pool_url)
        return self._get(request, pool_url)

    def _stale(self, request: Request) -> Response:
        # HttpPoolRequestHandler.java:748-758 and 784-817
        home = request.query.get("dcache-http-ref")
        if self._quirks.stale_redirects_home and home:
            location = home + request.target.partition("?")[0]
            return Response(307, {"Location": location}, reason="Request is no longer valid")
        return Response(400, reason="Request is no longer valid. Please resubmit to door.")

    def _get(self, request: Request, pool_url: PoolUrl) -> Response:
        file = self._storage.file(pool_url.path)
        if file is None or not file.is_file():
            return Response(404, reason="File not found")
        if pool_url.replica not in (None, self._storage.etag(file)):
            self._pool_urls.end(pool_url)  # the file was replaced: its replica and mover are gone
            return self._stale(request)
        headers: dict[str, str] = {}
        if not self._quirks.pool_hides_validators:
            headers |= content.validators(file, self._storage)
        if pool_url.wants_digest or not self._quirks.pool_needs_want_digest:
            found = content.digest(file, request, self._storage, self._quirks)
            if found:
                headers["Digest"] = found
        response = content.send(file, request, headers, self._whole_headers(request, file))
        if not isinstance(response.body, bytes):
            response.body = self._storage.pool.served(response.body)
        # HttpPoolRequestHandler.java:456-490
        if request.method == "GET" and response.status == 200 and self._quirks.one_shot_pool_urls:
            self._pool_urls.end(pool_url)
        self._end_with_connection(request, pool_url)
        return response

    def _whole_headers(self, request: Request, file: Path) -> dict[str, str]:
        plain = re.fullmatch(r"[\w.+-]+", file.name, re.ASCII)
        name = f"filename={file.name}" if plain else f"filename*=UTF-8''{content.quoted(file.name)}"
        home = request.query.get("dcache-http-ref", "")
        return {
            "Content-Disposition": f"attachment;{name}",
            "Content-Location": home + content.quoted(request.path),
        }

    def _put(self, request: Request, pool_url: PoolUrl) -> Response:
        unknown = [
            name
            for name in request.headers
            if name.startswith("content-") and name not in _ENTITY_HEADERS
        ]
        if unknown and self._quirks.pool_refuses_entity_headers:
            return Response(501, reason=f"{unknown[0].title()} is not implemented")
        self._pool_urls.end(pool_url)
        try:
            file = content.receive(
                pool_url.path, request, self._storage, self._quirks, pool_url.entry, redirected=True
            )
        except UploadFailed as why:
            return Response(why.status, reason=str(why))
        if pool_url.mtime is not None:
            self._storage.set_mtime(file, pool_url.mtime)
        home = request.query.get("dcache-http-ref", "")
        # X-OC-MTime is accepted even if none was sent
        headers = {"Location": home + content.quoted(pool_url.path), "X-OC-MTime": "accepted"}
        if found := content.digest(file, request, self._storage, self._quirks):
            headers["Digest"] = found
        return Response(201, headers, f"{file.stat().st_size} bytes uploaded\r\n".encode())

    def _end_with_connection(self, request: Request, pool_url: PoolUrl) -> None:
        closes = request.headers.get("connection", "").lower() == "close"
        if closes and self._quirks.pool_url_ends_with_connection:
            self._pool_urls.end(pool_url)


# -- pool URLs -------------------------------------------------------------------------------------


@dataclass
class PoolUrl:
    """A URL that lets its bearer read or write one file at the pool, for a limited time.

    Attributes
    ----------
    uuid : str
        Value of ``dcache-http-uuid``.
    method : str
        ``GET`` or ``PUT``.
    path : str
        Decoded path.
    wants_digest : bool
        Whether the request to the door had a Want-Digest header.
    expires_at : float
        Time until which the first connection must come.
    replica : str or None
        ETag that the file to be read had when the URL was issued.
    entry : str or None
        What `Storage.begin` returned for the file to be written.
    mtime : int or None
        Modification time for the file to be written, epoch seconds.
    connections : set of int
        Ids of the open connections that have used it.
    """

    uuid: str
    method: str
    path: str
    wants_digest: bool
    expires_at: float
    replica: str | None = None
    entry: str | None = None
    mtime: int | None = None
    connections: set[int] = field(default_factory=set)


class PoolUrls:
    """All pool URLs of one door; thread-safe.

    Parameters
    ----------
    quirks : Quirks
        Decides what invalidates a URL.
    clock : Clock
        The time at the servers.
    """

    def __init__(self, quirks: Quirks, clock: Clock) -> None:
        self._quirks = quirks
        self._clock = clock
        self._lock = threading.RLock()
        self._known: dict[str, PoolUrl] = {}

    def issue(
        self, method: str, path: str, *, wants_digest: bool, replica: str | None = None,
        entry: str | None = None, mtime: int | None = None,
    ) -> PoolUrl:  # fmt: skip
        """Return a new pool URL."""
        now = self._clock.now()
        expires_at = now + self._quirks.pool_url_lifetime_s
        number = str(uuid.uuid4())
        pool_url = PoolUrl(number, method, path, wants_digest, expires_at, replica, entry, mtime)
        with self._lock:
            self._known[pool_url.uuid] = pool_url
            self._sweep(now)
        return pool_url

    def use(self, number: str, connection: Connection) -> PoolUrl | None:
        """Return the pool URL with a UUID, used by a connection; None if it is no longer valid."""
        with self._lock:
            self._sweep(self._clock.now())
            pool_url = self._known.get(number)
            if pool_url is not None and id(connection) not in pool_url.connections:
                pool_url.connections.add(id(connection))
                connection.closers.append(lambda: self._leave(pool_url, id(connection)))
            return pool_url

    def end(self, pool_url: PoolUrl) -> None:
        """Invalidate a URL."""
        with self._lock:
            self._known.pop(pool_url.uuid, None)

    def clear(self) -> None:
        """Invalidate all URLs: the pool was restarted."""
        with self._lock:
            self._known.clear()

    def _leave(self, pool_url: PoolUrl, connection: int) -> None:
        # NettyTransferService.java:569-619
        with self._lock:
            pool_url.connections.discard(connection)
            # the entry of an upload that never came stays, without a size (#6455)
            if not pool_url.connections and self._quirks.pool_url_ends_with_connection:
                self.end(pool_url)

    def _sweep(self, now: float) -> None:
        """Invalidate the URLs to which no connection came in time; they are sorted by age."""
        for pool_url in list(self._known.values()):
            if pool_url.expires_at >= now:
                break
            if not pool_url.connections:
                self.end(pool_url)
