"""The door: a WebDAV server that behaves like dCache's, built on WsgiDAV.

File and line numbers in comments refer to dCache 12.1.0-SNAPSHOT @ 77340d6, those of Milton to
Milton 2.7.3, unless another version is named.

dCache 11.2.5 was observed to differ as follows: its 404 and 403 name the path ("Path not found:
/x"); its 401 is "login failed" whatever is wrong with a token; a PUT below a file and an unknown
method get 500; several ranges are sent as multipart/byteranges; it has symbolic links.
"""

from __future__ import annotations

import html
import logging
import math
import os
import threading
import time
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement  # only builds, never parses

from wsgidav.dav_error import HTTP_FORBIDDEN, HTTP_NOT_FOUND, DAVError
from wsgidav.error_printer import ErrorPrinter
from wsgidav.fs_dav_provider import FileResource, FilesystemProvider, FolderResource
from wsgidav.request_resolver import RequestResolver
from wsgidav.wsgidav_app import WsgiDAVApp

from ctaflows.sandbox import content, messages
from ctaflows.sandbox.messages import Response

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ctaflows.sandbox.messages import Request
    from ctaflows.sandbox.pool import PoolUrls
    from ctaflows.sandbox.quirks import Quirks
    from ctaflows.sandbox.storage import Storage


logger = logging.getLogger("ctaflows.sandbox")

_BEHIND = frozenset({"PROPFIND", "PROPPATCH", "MKCOL", "MOVE", "COPY", "DELETE", "OPTIONS"})
_DEPTH_CAP = 3  # milton AbstractRequest.java:93-109, Milton 2.7.3
_ERRORS_UNTIL_BLOCK = 3  # webdav.properties:776-832
_TEXTS = {
    401: "Permission denied",
    403: "Permission denied",
    404: "Resource not found",
    405: "Method not allowed",
    409: "Conflict",
    412: "Precondition failed",
    500: "Internal problem: unknown",
    501: "Not implemented",
}


class Door:
    """Responds to requests as dCache's WebDAV door does.

    Parameters
    ----------
    storage : Storage
        The files.
    pool_urls : PoolUrls
        Issues the pool URLs.
    refuse : callable
        Returns the reason why a token is refused, or None if it is valid.
    quirks : Quirks
        Which of dCache's peculiarities to imitate.

    Attributes
    ----------
    origin, pool_origin : str
        Scheme, host and port of the door and of the pool.
    """

    def __init__(
        self,
        storage: Storage,
        pool_urls: PoolUrls,
        refuse: Callable[[str], str | None],
        quirks: Quirks,
    ) -> None:
        self.origin = ""
        self.pool_origin = ""
        self._storage = storage
        self._pool_urls = pool_urls
        self._refuse = refuse
        self._quirks = quirks
        self._behind = dav_application(storage, quirks)
        self._lock = threading.Lock()
        self._errors: dict[str, list[float]] = {}

    # -- authentication ----------------------------------------------------------------------

    def handle(self, request: Request) -> Response:
        """Return the response to a request."""
        blocked_s = self._blocked_s(request.address)
        if blocked_s > 0:
            response = self._error(request, 429, "Server is busy, please try again later")
            if self._quirks.retry_after:
                response.headers["Retry-After"] = str(math.ceil(blocked_s))
            return response
        reason = self._refusal(request)
        if reason is not None:
            headers = {"WWW-Authenticate": 'Basic realm="dCache"'}
            if request.headers.get("suppress-www-authenticate") == "1":
                headers = {}
            return Response(401, headers, reason=reason)  # AuthenticationHandler.java:449-497
        response = self._dispatch(request)
        if request.expects_continue and self._quirks.close_after_expect:
            request.environ["ctaflows.request"].close_connection = True
        return response

    def _refusal(self, request: Request) -> str | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else request.query.get("authz", "")
        if not token:
            return "Permission denied" if self._quirks.needs_token else None
        if self._quirks.bearer_over_https_only and not request.is_https:
            # AuthenticationHandler.java:392-395
            return "Bearer token is not accepted over an unencrypted channel"
        return self._refuse(token)

    def note(self, request: Request, response: Response) -> None:
        """Count the 401 responses sent to an address: three within `Quirks.block_s` block it."""
        if response.status == 401 and self._quirks.block_after_401:
            with self._lock:
                self._errors.setdefault(request.address, []).append(time.monotonic())

    def _blocked_s(self, address: str) -> float:
        now = time.monotonic()
        with self._lock:
            recent = [t for t in self._errors.get(address, ()) if now - t < self._quirks.block_s]
            self._errors[address] = recent
        if len(recent) < _ERRORS_UNTIL_BLOCK:
            return 0.0
        return recent[-1] + self._quirks.block_s - now

    # -- GET, HEAD and PUT -------------------------------------------------------------------

    def _dispatch(self, request: Request) -> Response:
        if request.method in ("GET", "HEAD"):
            return self._read(request)
        if request.method == "PUT":
            return self._write(request)
        if request.method in _BEHIND:
            return self._ask_behind(request)
        return self._error(request, 501)  # DcacheStandardFilter.java:43-47

    def _read(self, request: Request) -> Response:
        file = self._storage.file(request.path)
        if file is None or not file.exists():
            return self._error(request, 404)
        if self._storage.is_denied(request.path):
            return self._error(request, 403)
        if file.is_dir():
            return self._read_directory(request, file)
        if request.method == "HEAD":
            return self._head(request, file)
        problem = self._offline(request)
        if problem is not None:
            return problem
        if self._quirks.redirect_reads:
            wants = "want-digest" in request.headers
            # Milton DefaultHttp11ResponseHandler.java:174-183 sends 302; the User Guide says 307
            return Response(302, {"Location": self._pool_url(request, wants_digest=wants)})
        return content.send(file, request, self._file_headers(request, file))

    def _offline(self, request: Request) -> Response | None:
        if self._storage.is_uploading(request.path):
            # Transfer.java:850-856
            return self._error(request, 500, "Internal problem: File upload not yet completed")
        locality = self._storage.locality(request.path)
        if locality == "NEARLINE":
            # RequestContainerV5.java:1423-1431
            return self._error(request, 403, "File not online. Staging not allowed.")
        if locality in ("LOST", "NONE", "UNAVAILABLE"):
            return self._error(request, 500, "Internal problem: File is unavailable")
        return None

    def _head(self, request: Request, file: Path) -> Response:
        headers = self._file_headers(request, file)
        if self._storage.is_uploading(request.path):
            headers.pop("Digest", None)
            return Response(200, headers, length=-1)
        return content.send(file, request, headers)

    def _file_headers(self, request: Request, file: Path) -> dict[str, str]:
        headers = content.validators(file, self._storage)
        found = content.digest(file, request, self._storage, self._quirks)
        return headers | ({"Digest": found} if found else {})

    def _read_directory(self, request: Request, directory: Path) -> Response:
        raw, _, query = request.target.partition("?")
        if not raw.endswith("/"):
            # DcacheDirectoryResource.java:104-111
            return Response(302, {"Location": f"{raw}/" + (f"?{query}" if query else "")})
        names = sorted(p.name + "/" * p.is_dir() for p in directory.iterdir())
        rows = "".join(
            f'<li><a href="{content.quoted(n)}">{html.escape(n)}</a></li>' for n in names
        )
        title = html.escape(request.path)
        page = f"<!DOCTYPE html><html><head><title>{title}</title></head><body><ul>{rows}</ul>"
        body = f"{page}</body></html>".encode(errors="replace")
        return Response(200, {"Content-Type": "text/html;charset=utf-8"}, body)

    def _pool_url(self, request: Request, *, wants_digest: bool) -> str:
        file = self._storage.file(request.path) if request.method == "GET" else None
        pool_url = self._pool_urls.issue(
            request.method,
            request.path,
            wants_digest=wants_digest,
            replica=self._storage.etag(file) if file else None,
        )
        raw = request.target.partition("?")[0]
        ref = quote(self.origin, safe="")
        return f"{self.pool_origin}{raw}?dcache-http-uuid={pool_url.uuid}&dcache-http-ref={ref}"

    def _write(self, request: Request) -> Response:
        refusal = self._write_refusal(request)
        if refusal is not None:
            return refusal
        wants = "want-digest" in request.headers
        self._storage.begin(request.path)
        if self._quirks.redirect_writes and request.expects_continue:
            # DcacheStandardFilter.java:91-98: 307 with an empty body, whatever the Content-Length
            return Response(307, {"Location": self._pool_url(request, wants_digest=wants)})
        response = content.receive(request.path, request, self._storage, self._quirks)
        response.body = b""
        return response

    def _write_refusal(self, request: Request) -> Response | None:
        file = self._storage.file(request.path)
        if file is None or "\0" in request.path:
            return self._error(request, 400, "Bad request")
        if file.is_dir():
            return self._error(request, 405, "Resource exists as collection")
        blocker = next((p for p in file.parents if p.exists()), None)
        if blocker is not None and not blocker.is_dir():
            return self._error(request, 409)
        if not self._quirks.put_makes_parents and not file.parent.is_dir():
            return self._error(request, 409)
        # Milton PutHandler.java:119-128
        if request.headers.get("if-none-match") == "*" and file.exists():
            return self._error(request, 412)
        match = request.headers.get("if-match")
        if match and (not file.exists() or match not in ("*", self._storage.etag(file))):
            return self._error(request, 412)
        return None

    # -- methods passed on to WsgiDAV --------------------------------------------------------

    def _ask_behind(self, request: Request) -> Response:
        parent = self._storage.normal(request.path).rpartition("/")[0] or "/"
        is_root = self._storage.normal(request.path) == "/"
        if request.method == "PROPFIND" and not is_root and self._storage.is_denied(parent):
            return self._error(request, 403)
        if request.method == "MKCOL" and not self._quirks.mkcol_is_strict:
            return self._make_directories(request)
        environ = self._environ(request)
        response = messages.call_wsgi(self._behind, environ)
        if response.status >= 400:
            return self._error(request, response.status)
        return response

    def _make_directories(self, request: Request) -> Response:
        directory = self._storage.file(request.path)
        if directory is None or directory.is_file():
            return self._error(request, 409)
        directory.mkdir(parents=True, exist_ok=True)
        return Response(201)

    def _environ(self, request: Request) -> dict[str, Any]:
        environ = dict(request.environ)
        environ["wsgidav.auth.user_name"] = "sandbox-user"
        if request.method == "PROPFIND":
            depth = environ.get("HTTP_DEPTH")
            if depth not in ("0", "1") and self._quirks.depth_capped:
                environ["HTTP_DEPTH"] = "infinity"
                environ[LEVELS] = _DEPTH_CAP
        if request.method == "MOVE" and self._quirks.move_needs_overwrite:
            environ.setdefault("HTTP_OVERWRITE", "F")  # Milton MoveHandler.java:163-176
        if request.method == "DELETE":
            environ["HTTP_DEPTH"] = "infinity"  # always recursive (RFC 4918, 9.6.1)
        return environ

    def _error(self, request: Request, status: int, text: str | None = None) -> Response:
        text = text or _TEXTS.get(status, "Unexpected problem")
        if "text/html" in request.headers.get("accept", "") or not self._quirks.plain_errors:
            # DcacheHtmlResponseHandler.java:133-146: the page does not include the reason
            body = f"<!DOCTYPE html><html><body><h1>Error {status}</h1></body></html>".encode()
            return Response(status, {"Content-Type": "text/html;charset=utf-8"}, body)
        return Response(status, {"Content-Type": "text/plain"}, f"{text}\n".encode())


# -- the WsgiDAV provider --------------------------------------------------------------------------
#
# WsgiDAV's file system provider, with the live properties of a dCache door, and its empty listings
# of directories that may not be read.

#: Key in the WSGI environment: how many levels deep a listing goes.
LEVELS = "ctaflows.levels"
_SRM = "{http://srm.lbl.gov/StorageResourceManager}"
CHECKSUMS = "{http://www.dcache.org/2013/webdav}Checksums"
#: Properties returned only when requested by name (DcacheFileResource.java:56-87).
_ONLY_NAMED = frozenset({CHECKSUMS, f"{_SRM}FileLocality"})

logging.getLogger("wsgidav").addHandler(logging.NullHandler())
logging.getLogger("wsgidav").setLevel(logging.CRITICAL)


def dav_application(storage: Storage, quirks: Quirks) -> Any:
    """Return the WSGI application that handles all methods but GET, HEAD and PUT."""
    config = {
        "provider_mapping": {"/": _Provider(storage, quirks)},
        "middleware_stack": [ErrorPrinter, RequestResolver],
        "http_authenticator": {"accept_basic": False, "accept_digest": False},
        "logging": {"enable": False},
        "lock_storage": None,
        "property_manager": None,
        "add_header_MS_Author_Via": False,
        "verbose": 1,
    }
    return WsgiDAVApp(config)


class _Provider(FilesystemProvider):  # type: ignore[misc]  # WsgiDAV is untyped
    def __init__(self, storage: Storage, quirks: Quirks) -> None:
        super().__init__(str(storage.root), fs_opts={"follow_symlinks": False})
        self.storage = storage
        self.quirks = quirks

    def get_resource_inst(self, path: str, environ: dict[str, Any]) -> Any:
        file = self._loc_to_file_path(path, environ)
        try:
            kind = _Directory if os.path.isdir(file) else _File  # noqa: PTH112  # WsgiDAV uses str
            return kind(path, environ, file)
        except FileNotFoundError:
            return None


class _Properties:
    """Properties returned by PROPFIND; unknown and empty ones are in a separate 404 propstat."""

    environ: dict[str, Any]
    getters: dict[str, Callable[[], Any]]

    def get_properties(self, mode: str, *, name_list: list[str] | None = None) -> list[Any]:
        if mode != "named":
            name_list = [n for n in self.getters if n not in _ONLY_NAMED]
        found = []
        for name in name_list or ():
            getter = self.getters.get(name)
            value = getter() if getter else None
            if value is None:
                # `Brief: t` omits them (Milton DefaultWebDavResponseHandler.java:201)
                if self.environ.get("HTTP_BRIEF", "").lower() != "t":
                    found.append((name, DAVError(HTTP_NOT_FOUND)))
            else:
                found.append((name, None if mode == "name" else value))
        return found


def _common(resource: Any) -> dict[str, Callable[[], Any]]:
    stat = resource.file_stat
    created = datetime.fromtimestamp(stat.st_ctime, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "{DAV:}displayname": lambda: resource.name if resource.path != "/" else "/",
        "{DAV:}creationdate": lambda: created,
        "{DAV:}getlastmodified": lambda: formatdate(stat.st_mtime, usegmt=True),
    }


class _File(_Properties, FileResource):  # type: ignore[misc]
    def __init__(self, path: str, environ: dict[str, Any], file: str) -> None:
        super().__init__(path, environ, file)
        storage: Storage = self.provider.storage
        quirks: Quirks = self.provider.quirks
        place = storage.root / file
        uploading = storage.is_uploading(path)
        self.getters = _common(self) | {
            "{DAV:}resourcetype": lambda: "",
            # no size while uploading (DcacheFileResource.java:152-155)
            "{DAV:}getcontentlength": lambda: None if uploading else str(self.file_stat.st_size),
            "{DAV:}getetag": lambda: storage.etag(place),
            "{DAV:}getcontenttype": lambda: content.validators(place, storage)["Content-Type"],
            CHECKSUMS: lambda: (
                None
                if uploading
                else content.checksum_text(storage.checksums(place), quirks) or None
            ),
            f"{_SRM}FileLocality": lambda: storage.locality(path),
            f"{_SRM}RetentionPolicy": lambda: "REPLICA",
            f"{_SRM}AccessLatency": lambda: "ONLINE",
        }

    def get_etag(self) -> str:
        return self.provider.storage.etag(  # type: ignore[no-any-return]
            self.provider.storage.root / self._file_path
        ).strip('"')


class _Directory(_Properties, FolderResource):  # type: ignore[misc]
    def __init__(self, path: str, environ: dict[str, Any], file: str) -> None:
        super().__init__(path, environ, file)
        self.getters = _common(self) | {"{DAV:}resourcetype": self._collection}

    @staticmethod
    def _collection() -> Element:
        kind = Element("{DAV:}resourcetype")
        SubElement(kind, "{DAV:}collection")
        return kind

    def create_collection(self, name: str) -> None:
        """Create a directory, which another request may have created since it was looked for."""
        try:
            super().create_collection(name)
        except FileExistsError:
            raise DAVError(405) from None

    def get_member_list(self) -> list[Any]:
        """Return the children; an empty list where reading is denied, as dCache does.

        DcacheDirectoryResource.java:120-137 returns an empty list when permission is denied, when
        the directory is not found and on any timeout.
        """
        if self.provider.storage.normal(self.path) in self.provider.storage.denied:
            if self.provider.quirks.empty_207:
                return []
            raise DAVError(HTTP_FORBIDDEN)
        members = []
        with os.scandir(self._file_path) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                kind = _Directory if entry.is_dir() else _File
                path = f"{self.path.rstrip('/')}/{entry.name}"
                try:
                    members.append(kind(path, self.environ, entry.path))
                except FileNotFoundError:
                    continue
        return members

    def get_descendants(self, *, depth: str = "infinity", **how: Any) -> list[Any]:
        """Return the descendants, no deeper than the number of `LEVELS` in the WSGI environment."""
        levels = self.environ.get(LEVELS)
        if levels is None or depth != "infinity":
            return super().get_descendants(depth=depth, **how)  # type: ignore[no-any-return]
        found = [self] if how.get("add_self") else []
        layer = [self]
        for _ in range(levels):
            layer = [m for d in layer if isinstance(d, _Directory) for m in d.get_member_list()]
            found += layer
        return found
