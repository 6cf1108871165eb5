"""The door: a WebDAV server that behaves like dCache's, built on WsgiDAV.

What it does and says was seen with dCache 11.2.5, or comes from a source file: file and line
numbers in comments refer to dCache 12.1.0-SNAPSHOT @ 77340d6, those of Milton to Milton 2.7.3.
Texts of errors are those of DcacheSimpleResponseHandler.java.
"""

from __future__ import annotations

import html
import logging
import os
import threading
import unicodedata
import zlib
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit
from xml.etree.ElementTree import Element, SubElement  # only builds, never parses

from wsgidav.dav_error import HTTP_FORBIDDEN, HTTP_NOT_FOUND, DAVError
from wsgidav.dav_provider import DAVNonCollection
from wsgidav.error_printer import ErrorPrinter
from wsgidav.fs_dav_provider import FileResource, FilesystemProvider, FolderResource
from wsgidav.request_resolver import RequestResolver
from wsgidav.wsgidav_app import WsgiDAVApp

from ctaflows.sandbox import content, messages
from ctaflows.sandbox.messages import Response
from ctaflows.sandbox.quirks import STORM_CHECKSUM
from ctaflows.sandbox.storage import UploadFailed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ctaflows.sandbox.messages import Request
    from ctaflows.sandbox.pool import PoolUrls
    from ctaflows.sandbox.quirks import Quirks
    from ctaflows.sandbox.storage import Storage
    from ctaflows.sandbox.tokens import Logins


logger = logging.getLogger("ctaflows.sandbox")

_BEHIND = frozenset({"PROPFIND", "PROPPATCH", "MKCOL", "OPTIONS"})
_LINK = "PNFSID does not correspond to provided file."  # seen, dCache 11.2.5
_DEPTH_CAP = 3  # milton AbstractRequest.java:93-109, Milton 2.7.3
_ESCAPES = "surrogateescape"
_ERRORS_UNTIL_BLOCK = 3  # webdav.properties:776-832
_TEXTS = {
    400: "Received a bad {method} request.",
    403: "Permission denied for {method} on path {path}",
    404: "Path not found: {path}",
    405: "Method {method} is not allowed.",
    429: "Server is busy. Please try again later.",
    501: "Method {method} is not implemented.",
    507: "Insufficient storage: SER_DISK_FULL",
}
_BELOW_FILE = (
    'Cannot invoke "io.milton.resource.Resource.authorise(...)" because "resource" is null'
)
_NO_ROUTE = (
    "Failed to deliver {kind}FileMessage message <1764504000000000:{number}> to [>p1@pool1]: "
    "Route for >p1@pool1< not found at >core<"
)
_NO_POOL = "No write pools online for [net=127.0.0.1,protocol=Https/1,store=test:cta@osm]"
_TIMED_OUT = "Request to [>PoolManager@core] timed out."
_ON_TAPE = "No pool candidates available/configured/left for stage"
#: Restrictions of a token with WLCG scopes (WlcgProfileScope.java): method to the scopes it needs.
_SCOPES = {
    "GET": {"storage.read"},
    "PUT": {"storage.create", "storage.modify"},
    "MKCOL": {"storage.create", "storage.modify"},
    "MOVE": {"storage.create", "storage.modify"},
    "DELETE": {"storage.modify"},
}


class RequestRate:
    """A limit of requests per second; what one second leaves unused may follow at once.

    As Guava's RateLimiter, so that at first there is nothing in store.
    """

    def __init__(self, per_s: int, now: float) -> None:
        self._per_s = per_s
        self._stored = 0.0
        self._next = now

    def takes(self, now: float) -> bool:
        """Return whether a request is within the limit, and count it if so."""
        if now < self._next:
            return False
        self._stored = min(self._per_s, self._stored + (now - self._next) * self._per_s)
        self._next = now + max(0.0, 1 - self._stored) / self._per_s
        self._stored = max(0.0, self._stored - 1)
        return True


class Door:
    """Responds to requests as dCache's WebDAV door does.

    Parameters
    ----------
    storage : Storage
        The files.
    pool_urls : PoolUrls
        Issues the pool URLs.
    logins : Logins or None
        Decides which tokens are accepted; None accepts all.
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
        logins: Logins | None,
        quirks: Quirks,
    ) -> None:
        self.origin = ""
        self.pool_origin = ""
        self._storage = storage
        self._pool_urls = pool_urls
        self._logins = logins
        self._quirks = quirks
        self._clock = storage.pool.clock
        self._behind = dav_application(storage, quirks)
        self._lock = threading.Lock()
        self._errors: dict[str, list[float]] = {}
        self._rates: dict[str, RequestRate] = {}

    # -- authentication ----------------------------------------------------------------------

    def handle(self, request: Request) -> Response:
        """Return the response to a request."""
        busy_s = self._busy_s(request.address)
        if busy_s > 0:
            response = self._error(request, 429)
            if self._quirks.retry_after:
                response.headers["Retry-After"] = str(int(busy_s))  # rounded down (seen, 12.0.1)
            return response
        token = self._token(request)
        reason = self._refusal(request, token)
        if reason is not None:
            headers = {"WWW-Authenticate": 'Basic realm="dCache"'}
            if request.headers.get("suppress-www-authenticate") == "1":
                headers = {"Suppress-WWW-Authenticate": "suppressed"}
            return Response(401, headers, reason=reason)  # AuthenticationHandler.java:449-497
        response = self._checked(request, token)
        if request.expects_continue and self._quirks.close_after_expect:
            request.environ["ctaflows.request"].close_connection = True
        return response

    @staticmethod
    def _token(request: Request) -> str:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else request.query.get("authz", "")

    def _refusal(self, request: Request, token: str) -> str | None:
        if not token:
            return "Permission denied" if self._quirks.needs_token else None
        if self._quirks.bearer_over_https_only and not request.is_https:
            return "not allowed to send bearer token unencrypted"
        return self._logins.refusal(token) if self._logins else None

    def note(self, request: Request, response: Response) -> None:
        """Count the 401 responses sent to an address: three within `Quirks.block_s` block it."""
        if response.status == 401 and self._quirks.block_after_401:
            with self._lock:
                self._errors.setdefault(request.address, []).append(self._clock.now())

    def _busy_s(self, address: str) -> float:
        """Return for how long an address gets 429 (RateLimitedHandlerList.java)."""
        now = self._clock.now()
        with self._lock:
            recent = [t for t in self._errors.get(address, ()) if now - t < self._quirks.block_s]
            self._errors[address] = recent
            if len(recent) >= _ERRORS_UNTIL_BLOCK:
                return recent[-1] + self._quirks.block_s - now
            per_s = self._quirks.requests_per_s
            rate = self._rates.setdefault(address, RequestRate(per_s, now))
            return 1.0 if per_s and not rate.takes(now) else 0.0

    def _checked(self, request: Request, token: str) -> Response:
        """Return the response to a request, unless its path or the token's scopes forbid it."""
        if any(c in request.path for c in self._quirks.refused_in_names):
            return self._error(request, 400)
        if request.method == "PUT" and request.path.rpartition("/")[2].startswith(".("):
            # Chimera takes it for a command (JdbcFs.java, inodeOf; seen with 11.2.5 and 12.0.1,
            # which give the name by MOVE, and find, read and delete it)
            return self._error(request, 500, "java.lang.NullPointerException")
        scopes = self._logins.scopes(token) if self._logins and token else set()
        if scopes and not scopes & _SCOPES.get(request.method, scopes):
            if request.method == "MOVE" and self._quirks.move_denied_is_500:
                text = f"denied activity MANAGE on {request.path}"
                return self._error(request, 500, f"CacheException(rc=10018;msg=Restriction {text})")
            return self._error(request, 403)
        return self._dispatch(request)

    # -- GET, HEAD and PUT -------------------------------------------------------------------

    def _dispatch(self, request: Request) -> Response:
        if request.method in ("GET", "HEAD"):
            return self._read(request)
        if request.method == "PUT":
            return self._write(request)
        if request.method == "DELETE":
            return self._delete(request)
        if request.method == "MOVE":
            return self._move(request)
        if request.method in _BEHIND:
            return self._ask_behind(request)
        if request.method in ("LOCK", "UNLOCK", "COPY"):
            return self._error(request, 501)
        request.environ["ctaflows.request"].close_connection = True
        return Response(500)

    def _read(self, request: Request) -> Response:
        file = self._storage.file(request.path)
        if file is None or not file.exists():
            return self._error(request, 404)
        if any(c in request.path for c in self._quirks.unread_in_names):
            return self._error(request, 404)
        if self._storage.is_denied(request.path):
            return self._error(request, 403)
        if file == self._storage.root and self._quirks.root_is_page:
            return _PAGE
        if file.is_dir():
            return self._read_directory(request, file)
        if request.method == "HEAD":
            return self._head(request, file)
        by_link = self._storage.resolved(request.path) != self._storage.normal(request.path)
        if by_link and self._quirks.links_look_like_targets:
            return self._error(request, 404)
        if problem := self._unreadable(request):
            return self._error(request, 500, problem)
        if self._quirks.redirect_reads:
            wants = "want-digest" in request.headers
            # Milton DefaultHttp11ResponseHandler.java:174-183 sends 302; the User Guide says 307
            url = self._pool_url(request, wants_digest=wants, replica=self._storage.etag(file))
            return Response(302, {"Location": url})
        return self._send(request, file)

    def _send(self, request: Request, file: Path) -> Response:
        """Return the response of a door that does not redirect."""
        if self._quirks.open_ranges_are_empty and request.headers.get("range", "").endswith("-"):
            return Response(206, self._file_headers(request, file))
        headers = self._file_headers(request, file) | {
            "Cache-Control": "no-cache",
            "Content-Disposition": "attachment",
        }
        modified = {k: headers.pop(k) for k in ("Last-Modified",) if k in headers}
        response = content.send(
            file, request, headers, modified, takes_any_range=self._quirks.takes_any_range
        )
        if not isinstance(response.body, bytes):
            response.body = self._storage.pool.served(response.body)
        return response

    def _unreadable(self, request: Request) -> str | None:
        """Return why a file can't be read now, after waiting as long as the door does."""
        pool = self._storage.pool
        if pool.state == "away":
            return self._no_route("PoolDeliver")
        if pool.state != "up" and not pool.wait_for_list():
            return _TIMED_OUT
        if flaw := self._storage.flaw(request.path):
            return flaw
        locality = self._storage.locality(request.path)
        if locality == "NEARLINE":
            return _ON_TAPE
        return "File is unavailable" if locality in ("LOST", "NONE", "UNAVAILABLE") else None

    def _no_route(self, kind: str) -> str:
        return _NO_ROUTE.format(kind=kind, number=zlib.crc32(str(self._clock.now()).encode()))

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
            return Response(
                302, {"Location": f"{self.origin}{raw}/" + (f"?{query}" if query else "")}
            )
        names = sorted(
            p.name + "/" * (p.is_dir() and not p.is_symlink()) for p in directory.iterdir()
        )
        rows = "".join(
            f'<li><a href="{content.quoted(n)}">{html.escape(n)}</a></li>' for n in names
        )
        title = html.escape(request.path)
        page = f"<!DOCTYPE html><html><head><title>{title}</title></head><body><ul>{rows}</ul>"
        body = f"{page}</body></html>".encode(errors="replace")
        return Response(200, {"Content-Type": "text/html;charset=utf-8"}, body)

    def _pool_url(self, request: Request, **details: Any) -> str:
        pool_url = self._pool_urls.issue(request.method, request.path, **details)
        raw = request.target.partition("?")[0]
        composed = unicodedata.normalize("NFC", request.path)
        if composed != request.path:  # seen, dCache 11.2.5; the pool then refuses it
            raw = content.quoted(composed)
        ref = quote(self.origin, safe="")
        return f"{self.pool_origin}{raw}?dcache-http-uuid={pool_url.uuid}&dcache-http-ref={ref}"

    def _write(self, request: Request) -> Response:
        refusal = self._write_refusal(request)
        if refusal is not None:
            return refusal
        entry = self._storage.begin(request.path)
        if problem := self._no_space(request):
            self._storage.abandon(request.path, entry)
            return problem
        asked = request.headers.get("x-oc-mtime", "")
        mtime = int(asked) if asked.isdigit() else None
        headers = {"X-OC-MTime": "accepted"} if mtime is not None else {}
        if self._quirks.redirect_writes and request.expects_continue:
            # DcacheStandardFilter.java:91-98: 307 with an empty body, whatever the Content-Length
            wants = "want-digest" in request.headers
            url = self._pool_url(request, wants_digest=wants, entry=entry, mtime=mtime)
            return Response(307, headers | {"Location": url})
        try:
            file = content.receive(
                request.path, request, self._storage, self._quirks, entry, redirected=False
            )
        except BaseException as why:
            self._storage.abandon(request.path, entry)
            if not isinstance(why, UploadFailed):
                raise
            return self._error(request, why.status, str(why))
        if mtime is not None:
            self._storage.set_mtime(file, mtime)
        headers |= {"ETag": self._storage.etag(file), "Accept-Ranges": "bytes"}
        return Response(201, headers)  # without a Digest

    def _no_space(self, request: Request) -> Response | None:
        pool = self._storage.pool
        if pool.state == "away":
            return self._error(request, 500, self._no_route("PoolAccept"))
        if pool.state != "up":
            return self._error(request, 500, _NO_POOL)
        return self._error(request, 507) if pool.free_bytes < pool.gap_bytes else None

    def _write_refusal(self, request: Request) -> Response | None:
        file = self._storage.file(request.path)
        if file is None or "\0" in request.path:
            return self._error(request, 400)
        if file.is_dir():
            return self._error(request, 405)
        if file.is_symlink():
            return self._error(request, 500, _LINK)  # assumed: not seen
        if self._quirks.empty_put_over_file_fails and file.exists() and not request.body.length:
            return self._error(request, 500, "rangeCount must be > 0")
        blocker = next((p for p in file.parents if p.exists()), None)
        if blocker is not None and not blocker.is_dir():
            return self._error(request, 500, _BELOW_FILE)
        if not self._quirks.put_makes_parents and not file.parent.is_dir():
            return self._error(request, 409)
        # Milton PutHandler.java:119-128
        if request.headers.get("if-none-match") == "*" and file.exists():
            return self._error(request, 412)
        match = request.headers.get("if-match")
        if match and (not file.exists() or match not in ("*", self._storage.etag(file))):
            return self._error(request, 412)
        return None

    # -- DELETE and MOVE ---------------------------------------------------------------------

    def _delete(self, request: Request) -> Response:
        file = self._storage.file(request.path)
        if file is None or not file.exists() or file == self._storage.root:
            return self._error(request, 404 if file is None or not file.exists() else 403)
        if self._quirks.delete_needs_empty and file.is_dir() and any(file.iterdir()):
            return self._error(request, 412)
        problem = self._remove(file, request.path)
        return self._error(request, 500, problem) if problem else Response(204)

    def _remove(self, file: Path, path: str) -> str | None:
        """Remove a file or tree as Milton does; return the text of the error, or None.

        What a path leads to is removed by the path and the pnfsid of the target (DeleteHelperImpl
        .java:95-131), so that of a link to a directory all children of the target are removed, and
        then the link itself is not (seen, dCache 11.2.5). A link among the children has its own
        pnfsid (deleteFile in DcacheResourceFactory.java).
        """
        if file.is_symlink() and self._quirks.links_look_like_targets:
            file.unlink()
            return None
        if file.is_dir():
            # children that can't be listed are passed over
            children = [] if self._storage.is_denied(path) else list(file.iterdir())
            for child in children:
                if child.is_symlink():
                    child.unlink()
                elif problem := self._remove(child, f"{path.rstrip('/')}/{child.name}"):
                    return problem
        if file.is_symlink():
            return _LINK
        try:
            file.rmdir() if file.is_dir() else file.unlink(missing_ok=True)
        except OSError:
            return f"Directory is not empty: {path}"
        self._storage.forget(path)
        return None

    def _move(self, request: Request) -> Response:
        # Milton MoveHandler.java:102-161
        source = self._storage.file(request.path)
        to = unquote(urlsplit(request.headers.get("destination", "")).path, errors=_ESCAPES)
        destination = self._storage.file(to)
        if source is None or not source.exists():
            return self._error(request, 404)
        if destination is None or destination == self._storage.root:
            return self._error(request, 400)
        if not destination.parent.is_dir():
            return self._error(request, 409)
        lost = f"No such file or directory: {self._storage.pnfsid(source)}"
        replaces = destination.exists()
        if replaces:
            default = "F" if self._quirks.move_needs_overwrite else "T"
            if request.headers.get("overwrite", default).upper() != "T":
                return self._error(request, 412)
            if problem := self._remove(destination, to):
                return self._error(request, 500, problem)
        # gone if it was moved onto itself (seen, dCache 11.2.5); of a link, the target's pnfsid
        is_link = source.is_symlink() and not self._quirks.links_look_like_targets
        if is_link or not source.exists():
            return self._error(request, 500, lost)
        self._storage.rename(source, destination)
        return Response(204 if replaces else 201)

    # -- methods passed on to WsgiDAV --------------------------------------------------------

    def _ask_behind(self, request: Request) -> Response:
        path = self._storage.normal(request.path)
        if path == "/" and self._quirks.root_is_page:
            return _PAGE
        parent = path.rpartition("/")[0] or "/"
        if request.method == "PROPFIND" and path != "/" and self._storage.is_denied(parent):
            return self._error(request, 403)
        if request.method == "MKCOL" and not self._quirks.mkcol_is_strict:
            return self._make_directories(request)
        response = messages.call_wsgi(self._behind, self._environ(request))
        if response.status >= 400:
            return self._error(request, response.status)
        if "dCache" in self._quirks.server:
            response.headers["DAV"] = "1, 2"  # seen, 11.2.5 and 12.0.1
        if self._quirks.absolute_hrefs and isinstance(response.body, bytes):
            absolute = f":href>{self.origin}/".encode()
            response.body = response.body.replace(b":href>/", absolute)
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
        return environ

    def _error(self, request: Request, status: int, problem: str | None = None) -> Response:
        if status == 412:
            return Response(412, length=-1)  # an empty body in chunks
        path = request.target.partition("?")[0]
        text = _TEXTS.get(status, "").format(method=request.method, path=path)
        if status == 500:
            text = f"Internal problem: {problem}"
        html_kind = {"Content-Type": "text/html;charset=utf-8"}
        if status == 409:
            return Response(409, html_kind, b"<html><body><h1>Conflict</h1></body></html>")
        if "text/html" in request.headers.get("accept", "") or not self._quirks.plain_errors:
            # DcacheHtmlResponseHandler.java:133-146: the page does not include the reason
            body = f"<!DOCTYPE html><html><body><h1>Error {status}</h1></body></html>".encode()
            return Response(status, html_kind, body)
        return Response(status, {"Content-Type": "text/plain;charset=utf-8"}, f"{text}\n".encode())


_PAGE = Response(
    200,
    {"Content-Type": "text/html;charset=UTF-8"},
    b"<!DOCTYPE html><html><body><h1>StoRM WebDAV</h1></body></html>",
)


# -- the WsgiDAV provider --------------------------------------------------------------------------
#
# WsgiDAV's file system provider, with the live properties of a dCache door, and its empty listings
# of directories that may not be read.

#: Key in the WSGI environment: how many levels deep a listing goes.
LEVELS = "ctaflows.levels"
_SRM = "{http://srm.lbl.gov/StorageResourceManager}"
_LOCALITY = f"{_SRM}FileLocality"

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
        except OSError:  # nothing is there, or a link leads nowhere or to itself
            return None


class _Properties:
    """Properties returned by PROPFIND; unknown and empty ones are in a separate 404 propstat."""

    environ: dict[str, Any]
    getters: dict[str, Callable[[], Any]]

    def get_properties(self, mode: str, *, name_list: list[str] | None = None) -> list[Any]:
        if mode != "named":
            # others only if they are named (DcacheFileResource.java:56-87)
            name_list = [n for n in self.getters if n.startswith("{DAV:}")]
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


def _dcache(
    resource: Any, checksums: Callable[[], str], locality: Callable[[], str]
) -> dict[str, Callable[[], Any]]:
    """Return the properties of a file beyond those of WebDAV."""
    quirks: Quirks = resource.provider.quirks
    if quirks.posix_listings:
        return {}
    found = {quirks.checksum_property: checksums}  # empty if there is none
    if quirks.has_locality:
        found |= {
            _LOCALITY: locality,
            f"{_SRM}RetentionPolicy": lambda: "REPLICA",
            f"{_SRM}AccessLatency": lambda: "ONLINE",
        }
    return found


class _File(_Properties, FileResource):  # type: ignore[misc]
    """A file; it has no resourcetype, so that this is in the 404 propstat."""

    def __init__(self, path: str, environ: dict[str, Any], file: str) -> None:
        super().__init__(path, environ, file)
        storage: Storage = self.provider.storage
        quirks: Quirks = self.provider.quirks
        place = storage.root / file
        uploading = storage.is_uploading(path)

        def checksums() -> str:
            if uploading:
                return ""
            text = content.checksum_text(storage.checksums(place), quirks)
            return text.partition("=")[2] if quirks.checksum_property == STORM_CHECKSUM else text

        self.getters = _common(self) | {
            # no size while uploading (DcacheFileResource.java:152-155)
            "{DAV:}getcontentlength": lambda: None if uploading else str(self.file_stat.st_size),
            "{DAV:}getetag": lambda: storage.etag(place),
            "{DAV:}getcontenttype": lambda: content.validators(place, storage).get("Content-Type"),
        }
        self.getters |= _dcache(self, checksums, lambda: storage.locality(path))

    def get_etag(self) -> str:
        return self.provider.storage.etag(  # type: ignore[no-any-return]
            self.provider.storage.root / self._file_path
        ).strip('"')


class _Link(_File):
    """A symbolic link as a listing of its directory shows it (seen, dCache 11.2.5).

    It looks like a file; asked for by itself, its target is shown.
    """

    def __init__(self, path: str, environ: dict[str, Any], file: str) -> None:
        DAVNonCollection.__init__(self, path, environ)  # that of a file follows the link
        storage: Storage = self.provider.storage
        place = storage.root / file
        self.file_stat = place.lstat()
        self.getters = _common(self) | {
            "{DAV:}getcontentlength": lambda: str(len(storage.link_text(place).encode())),
            "{DAV:}getetag": lambda: storage.etag(place, follow=False),
        }
        self.getters |= _dcache(self, lambda: "", lambda: "UNAVAILABLE")


class _Directory(_Properties, FolderResource):  # type: ignore[misc]
    def __init__(self, path: str, environ: dict[str, Any], file: str) -> None:
        super().__init__(path, environ, file)
        storage: Storage = self.provider.storage
        self.getters = _common(self) | {
            "{DAV:}resourcetype": self._collection,
            "{DAV:}getetag": lambda: storage.etag(storage.root / file),  # seen, dCache 11.2.5
        }

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
        if self.provider.storage.resolved(self.path) in self.provider.storage.denied:
            if self.provider.quirks.empty_207:
                return []
            raise DAVError(HTTP_FORBIDDEN)
        members = []
        with os.scandir(self._file_path) as entries:
            # in no order, but always in the same one
            for entry in sorted(entries, key=lambda e: zlib.crc32(os.fsencode(e.name))):
                shown = self.provider.quirks.links_look_like_targets
                directory = entry.is_dir(follow_symlinks=shown)
                kind = (
                    _Link
                    if entry.is_symlink() and not shown
                    else _Directory
                    if directory
                    else _File
                )
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
