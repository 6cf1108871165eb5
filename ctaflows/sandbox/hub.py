"""A JupyterHub platform on loopback: users, login page, download service, certificate service.

::

    with Sandbox() as box, Hub(box) as hub:
        token = hub.add_user("jane.doe@example.org")
        os.environ |= hub.environment(token)

It imitates app.py of cta-epfl/downloadservice @ 6c84bcf and of cta-epfl/certificateservice.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import re
import secrets
import ssl
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Self

from cryptography import x509

from ctaflows.sandbox import content
from ctaflows.sandbox.application import Application
from ctaflows.sandbox.door import Door
from ctaflows.sandbox.faults import Clock, FaultBook, PoolState
from ctaflows.sandbox.messages import AbortConnection, RequestLog, Response
from ctaflows.sandbox.pool import PoolUrls
from ctaflows.sandbox.quirks import Quirks
from ctaflows.sandbox.server import LoopbackServer
from ctaflows.sandbox.storage import Storage, UploadFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ctaflows.sandbox import Sandbox
    from ctaflows.sandbox.messages import Request


SERVICES = ("downloadservice", "certificateservice")
_LOGIN = "/hub/api/oauth2/authorize"

#: Faults of these services, beside those of all servers (`ctaflows.sandbox.faults`).
HUB_FAULTS = frozenset(
    {
        "short",  # a fetched file is truncated, but the response ends normally
        "broken",  # the connection is reset in the middle of a fetched file
        "storage_error",  # status 200 with the storage's error message in place of the file
        "no_certificate",  # the service has no certificate for this user
        "half",  # only half of an upload is stored, but it is reported as uploaded
        "no_checksums",  # PROPFIND on webdav/ returns no checksums
        "no_webdav",  # webdav/ does not exist
        "says_stored",  # a certificate with too long a validity is refused with 200 and "stored"
    }
)


@dataclass(frozen=True)
class User:
    """A user of the hub.

    Attributes
    ----------
    name : str
        User name at the hub.
    services : tuple of str
        Services for which the user's token is valid.
    admin : bool
        Whether the user may replace the shared certificate.
    uploads : bool
        Whether the user may write at all.
    """

    name: str
    services: tuple[str, ...] = SERVICES
    admin: bool = False
    uploads: bool = True

    @property
    def folder(self) -> str:
        """Name of the user's own directory: every character but 0, 1 and a–z becomes ``_``."""
        return re.sub("[^0-1a-z]", "_", self.name.lower())


class HubFaults:
    """The hub faults still to be injected; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._planned: list[tuple[str, str, int | None]] = []

    def add(self, name: str, path: str = "*", times: int | None = 1) -> None:
        """Add a fault.

        Parameters
        ----------
        name : str
            One of `HUB_FAULTS`.
        path : str, optional
            Shell pattern for the paths it affects.
        times : int, optional
            Number of requests affected; None means all.
        """
        if name not in HUB_FAULTS:
            raise ValueError(f"there is no fault {name}")
        with self._lock:
            self._planned.append((name, path, times))

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._planned.clear()

    def strikes(self, name: str, path: str) -> bool:
        """Return whether a fault affects a path, and count it down."""
        with self._lock:
            for i, (planned, glob, times) in enumerate(self._planned):
                if planned == name and fnmatch.fnmatchcase(path, glob):
                    if times is not None:
                        self._planned[i] = (planned, glob, times - 1)
                        self._planned = [p for p in self._planned if p[2] != 0]
                    return True
        return False


class Hub:
    """A hub with both services, on 127.0.0.1 over TLS, serving the files of a sandbox.

    Parameters
    ----------
    box : Sandbox
        The sandbox whose storage and certificate authority are used.
    port : int, optional
        Port to listen on; 0 means any free one.
    quirks : Quirks, optional
        Quirks of the storage behind the service, such as ``empty_207`` and ``no_checksums``.

    Attributes
    ----------
    downloadservice_url, certificateservice_url : str
        Values for ``CTADS_URL`` and ``CTACS_URL``.
    requests : RequestLog
        All requests so far.
    faults : FaultBook
        Faults to inject, as for the sandbox's other servers.
    troubles : HubFaults
        Faults that only these services have.
    certificates : dict
        ``(user, key)`` to the stored certificate; the shared one has the key ``("", "")``.
    instead : callable or None
        If set, responds to every request in place of the hub.
    """

    def __init__(self, box: Sandbox, *, port: int = 0, quirks: Quirks | None = None) -> None:
        self.requests, self.faults, self.troubles = RequestLog(), FaultBook(), HubFaults()
        self.instead: Callable[[Request], Response] | None = None
        self._users: dict[str, User] = {}
        self._closing = threading.Event()
        incoming = box.work_dir / "hub-incoming"
        incoming.mkdir(exist_ok=True)
        plain = dataclasses.replace(
            quirks or Quirks(),
            redirect_reads=False,
            redirect_writes=False,
            needs_token=False,
            block_after_401=False,
        )
        self._storage = Storage(box.storage, incoming, plain, PoolState(Clock()))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(box.work_dir / "tls" / "server.pem")
        app = Application("hub", self._handle, self.faults, self.requests, self._closing)
        self._server = LoopbackServer("gunicorn (sandbox)", app, port=port, context=context)
        self._origin = f"https://localhost:{self._server.port}"
        self.downloadservice_url = f"{self._origin}/services/downloadservice/"
        self.certificateservice_url = f"{self._origin}/services/certificateservice/"
        self._files = DownloadService(
            self._storage, plain, self.troubles.strikes, self.downloadservice_url
        )
        self._certificates = CertificateService(self.troubles.strikes)
        self.certificates = self._certificates.stored

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the server."""
        self._closing.set()
        self._server.close()

    def add_user(self, name: str, token: str | None = None, **rights: Any) -> str:
        """Add a user.

        Parameters
        ----------
        name : str
            User name at the hub.
        token : str, optional
            The user's token; by default a new one of 32 hexadecimal digits, as JupyterHub's.
        **rights : Any
            Fields of `User`.

        Returns
        -------
        str
            The token.
        """
        token = token or secrets.token_hex(16)
        self._users[token] = User(name, **rights)
        return token

    def environment(self, token: str) -> dict[str, str]:
        """Return the environment variables with which ctadata's users select the services."""
        return {
            "CTADS_URL": self.downloadservice_url,
            "CTACS_URL": self.certificateservice_url,
            "JUPYTERHUB_API_TOKEN": token,
        }

    def deny(self, path: str) -> None:
        """Make a path unreadable."""
        self._storage.denied.add(self._storage.normal(path))

    def locality(self, path: str, locality: str) -> None:
        """Set the FileLocality of a file, such as ``NEARLINE``."""
        self._storage.localities[self._storage.normal(path)] = locality

    # -- requests ----------------------------------------------------------------------------

    def _handle(self, request: Request) -> Response:
        if self.instead is not None:
            return self.instead(request)
        if request.path.startswith(_LOGIN):
            page = b"<!DOCTYPE html><html><body><h1>Sign in</h1><form></form></body></html>"
            return Response(200, {"Content-Type": "text/html; charset=utf-8"}, page)
        head, services, service, *rest = [*request.path.split("/", 3), "", "", ""]
        if head or services != "services" or service not in SERVICES:
            return Response(404, {"Content-Type": "text/html"}, b"<h1>404 : Not Found</h1>")
        user = self._user(request)
        if user is None:
            return self._not_logged_in(request, service)
        if service not in user.services:
            text = b"Access denied, token scopes are insufficient. Please contact the team."
            return Response(403, {"Content-Type": "text/html; charset=utf-8"}, text)
        if service == "certificateservice":
            return self._certificates.handle(request, rest[0], user)
        return self._files.handle(request, rest[0], user)

    def _user(self, request: Request) -> User | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return self._users.get(request.query.get("token", token if scheme == "Bearer" else ""))

    def _not_logged_in(self, request: Request, service: str) -> Response:
        """Return 401 to a program that asks the download service, else a redirect to the login."""
        kind = request.headers.get("content-type", "").lower()
        if service == "downloadservice" and kind == "application/json":
            return json_response({"message": "Invalid or missing Bearer token"}, 401)
        location = f"{_LOGIN}?client_id=service-{service}&response_type=code&state=abc"
        return Response(302, {"Location": location, "Content-Type": "text/html"}, b"<p>Redirect")


def json_response(values: Any, status: int = 200) -> Response:
    """Return values as a JSON response, formatted as by Flask's jsonify."""
    body = json.dumps(values, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    return Response(status, {"Content-Type": "application/json"}, body)


# -- the certificate service -----------------------------------------------------------------------
#
# It stores the proxy certificates with which the download service reads the storage.
#
# ``POST certificate`` and ``POST main-certificate``; cta-epfl/certificateservice, app.py. Unlike
# the real service it does not verify the certificate chain.

KEYS = ("lst", "cta", "arc")
_MAX_DAYS = 7
_TEXT = {"Content-Type": "text/html; charset=utf-8"}
_TOO_LONG = (
    "certificate validity too long, please generate a short-lived (max 7 day) proxy certificate "
    "for uploading."
)


class CertificateService:
    """Responds to requests as the certificate service does.

    Parameters
    ----------
    strikes : callable
        Called with a fault's name and a key, returns whether the fault happens; see `HUB_FAULTS`.

    Attributes
    ----------
    stored : dict
        ``(user, key)`` to certificate; the shared one has the key ``("", "")``.
    """

    def __init__(self, strikes: Callable[[str, str], bool]) -> None:
        self.stored: dict[tuple[str, str], str] = {}
        self._strikes = strikes

    def handle(self, request: Request, rest: str, user: User) -> Response:
        """Return the response to a known user; ``rest`` is the path below the service."""
        if request.method != "POST" or rest not in ("certificate", "main-certificate"):
            return Response(404, _TEXT, b"<!doctype html><h1>Not Found</h1>")
        values = json.loads(b"".join(request.body.blocks()))
        if rest == "main-certificate":
            return self._shared(values, user)
        return self._personal(values, user)

    def _personal(self, values: dict[str, Any], user: User) -> Response:
        key = values.get("certificate_key")
        if key not in KEYS:  # app.py raises a str, which is a TypeError and so a 500
            return Response(500, _TEXT, b"<!doctype html><h1>Internal Server Error</h1>")
        other = values.get("user")
        if other is not None and not user.admin:
            return Response(500, _TEXT, b"<!doctype html><h1>Internal Server Error</h1>")
        certificate = str(values.get("certificate"))
        problem, until = _check_validity(certificate)
        if problem == _TOO_LONG and self._strikes("says_stored", key):
            # app.py does not store it, and puts the refusal where the validity should be
            return _json({"message": "Certificate stored", "validity": [problem, 400]})
        if problem is not None:
            return Response(400, _TEXT, problem.encode())
        self.stored[other or user.name, key] = certificate
        return _json({"message": "Certificate stored", "validity": f"{until:%a, %d %b %Y %T GMT}"})

    def _shared(self, values: dict[str, Any], user: User) -> Response:
        if not user.admin:
            return Response(401, _TEXT, b"access denied")
        problem, _ = _check_validity(str(values.get("certificate")))
        if problem is not None:
            return Response(400, _TEXT, problem.encode())
        self.stored["", ""] = str(values["certificate"])
        return _json({"message": "Shared certificate stored", "certificateUploaded": True})


def _check_validity(text: str) -> tuple[str | None, datetime]:
    """Return why a certificate is refused, or None, and the end of its validity."""
    now = datetime.now(UTC)
    if "-----BEGIN CERTIFICATE-----" not in text:
        return "no valid certificate provided", now
    try:
        first = x509.load_pem_x509_certificates(text.encode())[0]
    except ValueError as why:
        return f"invalid certificate : {why}", now
    until = first.not_valid_after_utc
    if until <= now:
        return "certificate expired", until
    if until.date() > now.date() + timedelta(days=_MAX_DAYS):
        return _TOO_LONG, until
    return None, until


def _json(values: dict[str, Any]) -> Response:
    return Response(200, {"Content-Type": "application/json"}, json.dumps(values).encode())


# -- the download service --------------------------------------------------------------------------
#
# It gives users access to a storage that it reads with a certificate.
#
# ``list/PATH``, ``fetch/PATH``, ``upload/PATH`` and ``webdav/``; cta-epfl/downloadservice @
# 6c84bcf, app.py.

#: The service excludes MOVE, COPY, DELETE, LOCK and POST on purpose (app.py, webdav_methods).
_WEBDAV = ("GET", "HEAD", "MKCOL", "OPTIONS", "PROPFIND", "PROPPATCH", "PUT", "TRACE")
_WRITING = ("MKCOL", "PROPPATCH", "PUT")
_WEBDAV_ROOT = b"/services/downloadservice/webdav/"
_SERVICE_TEXT = {"Content-Type": "text/html; charset=utf-8"}
_CHUNK_BYTES = 10 << 20


class DownloadService:
    """Responds to requests as the download service does.

    Parameters
    ----------
    storage : Storage
        The files.
    quirks : Quirks
        Quirks of the storage behind the service.
    strikes : callable
        Called with a fault's name and a path, returns whether the fault happens; see `HUB_FAULTS`.
    url : str
        URL of the service.
    base_folder : str
        Each user has a directory below ``<base_folder>/users``.
    """

    def __init__(
        self,
        storage: Storage,
        quirks: Quirks,
        strikes: Callable[[str, str], bool],
        url: str,
        base_folder: str = "lst",
    ) -> None:
        self._storage = storage
        self._quirks = quirks
        self._strikes = strikes
        self._url = url
        self._base_folder = base_folder
        pool_urls = PoolUrls(quirks, storage.pool.clock)
        self._behind = Door(storage, pool_urls, None, quirks)

    def handle(self, request: Request, rest: str, user: User) -> Response:
        """Return the response to a known user; ``rest`` is the path below the service."""
        endpoint, _, path = rest.partition("/")
        if endpoint == "health":
            return Response(200, _SERVICE_TEXT, b"OK - DownloadService is up and running")
        if endpoint == "webdav":
            return self._webdav(request, path, user)
        methods = {"list": ("GET", "POST"), "fetch": ("GET", "POST"), "upload": ("POST",)}
        if endpoint not in methods or (not path and rest.endswith("/")):
            return Response(404, _SERVICE_TEXT, b"<!doctype html><h1>Not Found</h1>")
        if request.method not in methods[endpoint]:
            return Response(405, _SERVICE_TEXT, b"<!doctype html><h1>Method Not Allowed</h1>")
        if endpoint != "list" and ".." in path:
            return Response(400, _SERVICE_TEXT, b"Error: path cannot contain '..'")
        if self._strikes("no_certificate", path):
            text = "Error while retrieving certificate: You do not have any certificate configured"
            return Response(400, _SERVICE_TEXT, text.encode())
        if endpoint == "list":
            return self._list(path)
        return (
            self._fetch(request, path) if endpoint == "fetch" else self._upload(request, path, user)
        )

    # -- list --------------------------------------------------------------------------------

    def _list(self, path: str) -> Response:
        file = self._storage.file(path)
        above = self._storage.normal(path).rpartition("/")[0]
        if file is None or not file.exists():
            return self._storage_error(404, "Resource not found")
        if self._storage.is_denied(above) or (
            self._storage.is_denied(path) and not self._quirks.empty_207
        ):
            return self._storage_error(403, "Permission denied")
        found = [file]
        if file.is_dir() and not self._storage.is_denied(path):
            found += sorted(file.iterdir())
        entries = [self._entry(f, is_itself=f is file) for f in found]
        body = json.dumps(entries, separators=(",", ":")).encode()
        return Response(200, {"Content-Type": "application/json"}, body + b"\n")

    def _entry(self, file: Path, *, is_itself: bool) -> dict[str, Any]:
        """Return a file's properties as taken from PROPFIND: all text, no size of a directory.

        A symbolic link is a file with the length of its text, as dCache 11.2.5 lists it.
        """
        href = content.quoted(file.relative_to(self._storage.root).as_posix().removeprefix("."))
        is_link = file.is_symlink() and not is_itself
        entry = {"mtime": formatdate(file.stat(follow_symlinks=not is_link).st_mtime, usegmt=True)}
        if is_link:
            entry["size"] = str(len(self._storage.link_text(file).encode()))
        elif file.is_dir():
            href += "/" if href else ""  # the href of the root is empty: its type is "file"
        elif not self._storage.is_uploading(f"/{href}"):
            entry["size"] = str(file.stat().st_size)
        kind = "directory" if href.endswith("/") else "file"
        return {**entry, "href": href, "type": kind, "url": f"{self._url}list/{href}"}

    @staticmethod
    def _storage_error(status: int, text: str) -> Response:
        return Response(status, _SERVICE_TEXT, f"Error: {status} {text}\n".encode())

    # -- fetch -------------------------------------------------------------------------------

    def _fetch(self, request: Request, path: str) -> Response:
        """Return a file or the storage's error message, with status 200, without Content-Length."""
        file = self._storage.file(path)
        name = path.rpartition("/")[2].encode("ascii", "replace").decode()
        headers = {
            "Content-Disposition": f"attachment; filename={name}",
            "Content-Type": "application/octet-stream",
        }
        if file is None or not file.is_file():
            return Response(200, headers, iter([b"Resource not found\n"]), length=-1)
        if self._storage.is_denied(path) or self._strikes("storage_error", path):
            return Response(200, headers, iter([b"Permission denied\n"]), length=-1)
        size = file.stat().st_size
        n_bytes, ending = size, None
        if self._strikes("short", path):
            n_bytes = size // 2
        elif self._strikes("broken", path):
            n_bytes, ending = size // 2, AbortConnection(reset=True)
        chunk_bytes = int(request.query.get("chunk_size", _CHUNK_BYTES))
        return Response(200, headers, _blocks(file, n_bytes, chunk_bytes, ending), length=-1)

    # -- upload ------------------------------------------------------------------------------

    def _upload(self, request: Request, path: str, user: User) -> Response:
        if not user.uploads:  # the reason is in the status line
            return Response(
                403, _SERVICE_TEXT, b"Access denied", reason="Missing rights to upload files"
            )
        place = f"{self._base_folder}/users/{user.folder}/{path}".rstrip("/")
        target = self._storage.file(place)
        if target is None or target.is_dir():
            return self._storage_error(405, "Resource exists as collection")
        if any(parent.is_file() for parent in target.parents):
            return self._storage_error(409, "Conflict")
        entry = self._storage.begin(place)
        try:
            file = self._storage.receive(place, request.body, entry=entry)
        except UploadFailed as why:
            self._storage.abandon(place, entry)
            return self._storage_error(400, str(why))
        n_bytes = file.stat().st_size
        if self._strikes("half", path):
            with file.open("r+b") as stream:
                stream.truncate(n_bytes // 2)
        body = {"path": place, "status": "uploaded", "total_written": n_bytes}
        return Response(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    # -- webdav ------------------------------------------------------------------------------

    def _webdav(self, request: Request, path: str, user: User) -> Response:
        if self._strikes("no_webdav", path):
            return Response(404, _SERVICE_TEXT, b"<!doctype html><h1>Not Found</h1>")
        if request.method not in _WEBDAV:
            return Response(405, _SERVICE_TEXT, b"<!doctype html><h1>Method Not Allowed</h1>")
        own = f"{self._base_folder}/users/{user.folder}/"
        if request.method in _WRITING and not path.startswith(own):
            reason = (
                f"Missing rights to write in : {path}, you are not allowed to write in this folder"
            )
            return Response(403, _SERVICE_TEXT, b"Access denied", reason=reason)
        environ = dict(request.environ)
        environ["PATH_INFO"] = f"/{path}".encode().decode("latin-1")
        inner = dataclasses.replace(request, target="/" + content.quoted(path), environ=environ)
        response = self._behind.handle(inner)
        if request.method.startswith("PROP") and isinstance(response.body, bytes):
            # app.py does the same: a plain text replacement
            response.body = response.body.replace(b":href>/", b":href>" + _WEBDAV_ROOT)
            if self._strikes("no_checksums", path):
                response.body = response.body.replace(b"adler32=", b"unknown=")
        return response


def _blocks(
    file: Path, n_bytes: int, chunk_bytes: int, ending: AbortConnection | None
) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while n_bytes > 0 and (block := stream.read(min(n_bytes, max(1, chunk_bytes)))):
            n_bytes -= len(block)
            yield block
    if ending is not None:
        raise ending
