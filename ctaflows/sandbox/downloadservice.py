"""The platform's download service as observed, on the files of a sandbox.

``list/PATH``, ``fetch/PATH``, ``upload/PATH`` and ``webdav/``; cta-epfl/downloadservice @ 6c84bcf,
app.py. It stands between a person and a storage that it reads with a certificate.
"""

from __future__ import annotations

import dataclasses
import json
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from ctaflows.sandbox import content
from ctaflows.sandbox.door import Door
from ctaflows.sandbox.messages import Hangup, Response
from ctaflows.sandbox.storage import UploadFailed
from ctaflows.sandbox.tickets import Tickets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ctaflows.sandbox.hub import User
    from ctaflows.sandbox.messages import Request
    from ctaflows.sandbox.quirks import Quirks
    from ctaflows.sandbox.storage import Storage

#: MOVE, COPY, DELETE, LOCK and POST are left out on purpose (app.py, webdav_methods).
_WEBDAV = ("GET", "HEAD", "MKCOL", "OPTIONS", "PROPFIND", "PROPPATCH", "PUT", "TRACE")
_WRITING = ("MKCOL", "PROPPATCH", "PUT")
_WEBDAV_ROOT = b"/services/downloadservice/webdav/"
_TEXT = {"Content-Type": "text/html; charset=utf-8"}
_CHUNK_BYTES = 10 << 20


class DownloadService:
    """Answers requests as the download service.

    Parameters
    ----------
    storage : Storage
        The files.
    quirks : Quirks
        Of the storage behind.
    strikes : callable
        Says whether a trouble befalls a path, see `hub.TROUBLES`.
    url : str
        Where the service is.
    base_folder : str
        Below ``<base_folder>/users`` everybody has a directory.
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
        tickets = Tickets(quirks, storage.abandon)
        self._behind = Door(storage, tickets, lambda _token: None, quirks)

    def handle(self, request: Request, rest: str, user: User) -> Response:
        """Answer a request of a known user; ``rest`` is the path below the service."""
        endpoint, _, path = rest.partition("/")
        if endpoint == "health":
            return Response(200, _TEXT, b"OK - DownloadService is up and running")
        if endpoint == "webdav":
            return self._webdav(request, path, user)
        methods = {"list": ("GET", "POST"), "fetch": ("GET", "POST"), "upload": ("POST",)}
        if endpoint not in methods or (not path and rest.endswith("/")):
            return Response(404, _TEXT, b"<!doctype html><h1>Not Found</h1>")
        if request.method not in methods[endpoint]:
            return Response(405, _TEXT, b"<!doctype html><h1>Method Not Allowed</h1>")
        if endpoint != "list" and ".." in path:
            return Response(400, _TEXT, b"Error: path cannot contain '..'")
        if self._strikes("no_certificate", path):
            text = "Error while retrieving certificate: You do not have any certificate configured"
            return Response(400, _TEXT, text.encode())
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
            return self._storage_says(404, "Resource not found")
        if self._storage.is_denied(above) or (
            self._storage.is_denied(path) and not self._quirks.empty_207
        ):
            return self._storage_says(403, "Permission denied")
        found = [file]
        if file.is_dir() and not self._storage.is_denied(path):
            found += sorted(file.iterdir())
        body = json.dumps([self._entry(f) for f in found], separators=(",", ":")).encode()
        return Response(200, {"Content-Type": "application/json"}, body + b"\n")

    def _entry(self, file: Path) -> dict[str, Any]:
        """Describe a file as PROPFIND's XML has it: all is text, a directory has no size."""
        href = content.quoted(file.relative_to(self._storage.root).as_posix().removeprefix("."))
        entry = {"mtime": formatdate(file.stat().st_mtime, usegmt=True)}
        if file.is_dir():
            href += "/" if href else ""  # the root's own href is empty, and so called a file
        elif not self._storage.is_uploading(f"/{href}"):
            entry["size"] = str(file.stat().st_size)
        kind = "directory" if href.endswith("/") else "file"
        return {**entry, "href": href, "type": kind, "url": f"{self._url}list/{href}"}

    @staticmethod
    def _storage_says(status: int, text: str) -> Response:
        return Response(status, _TEXT, f"Error: {status} {text}\n".encode())

    # -- fetch -------------------------------------------------------------------------------

    def _fetch(self, request: Request, path: str) -> Response:
        """Send a file as a stream without a length; the storage's errors come in its place."""
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
            n_bytes, ending = size // 2, Hangup(reset=True)
        chunk_bytes = int(request.query.get("chunk_size", _CHUNK_BYTES))
        return Response(200, headers, _blocks(file, n_bytes, chunk_bytes, ending), length=-1)

    # -- upload ------------------------------------------------------------------------------

    def _upload(self, request: Request, path: str, user: User) -> Response:
        if not user.uploads:  # the reason stands in the status line
            return Response(403, _TEXT, b"Access denied", reason="Missing rights to upload files")
        place = f"{self._base_folder}/users/{user.folder}/{path}".rstrip("/")
        target = self._storage.file(place)
        if target is None or target.is_dir():
            return self._storage_says(405, "Resource exists as collection")
        if any(parent.is_file() for parent in target.parents):
            return self._storage_says(409, "Conflict")
        self._storage.begin(place)
        try:
            file = self._storage.receive(place, request.body, md5=None, keeps_md5=False)
        except UploadFailed as why:
            return self._storage_says(400, str(why))
        n_bytes = file.stat().st_size
        if self._strikes("half", path):
            with file.open("r+b") as stream:
                stream.truncate(n_bytes // 2)
        body = {"path": place, "status": "uploaded", "total_written": n_bytes}
        return Response(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    # -- webdav ------------------------------------------------------------------------------

    def _webdav(self, request: Request, path: str, user: User) -> Response:
        if self._strikes("no_webdav", path):
            return Response(404, _TEXT, b"<!doctype html><h1>Not Found</h1>")
        if request.method not in _WEBDAV:
            return Response(405, _TEXT, b"<!doctype html><h1>Method Not Allowed</h1>")
        own = f"{self._base_folder}/users/{user.folder}/"
        if request.method in _WRITING and not path.startswith(own):
            reason = (
                f"Missing rights to write in : {path}, you are not allowed to write in this folder"
            )
            return Response(403, _TEXT, b"Access denied", reason=reason)
        environ = dict(request.environ)
        environ["PATH_INFO"] = f"/{path}".encode().decode("latin-1")
        inner = dataclasses.replace(request, target="/" + content.quoted(path), environ=environ)
        response = self._behind.handle(inner)
        if request.method.startswith("PROP") and isinstance(response.body, bytes):
            # as there: a plain replacement in the text
            response.body = response.body.replace(b":href>/", b":href>" + _WEBDAV_ROOT)
            if self._strikes("no_checksums", path):
                response.body = response.body.replace(b"adler32=", b"unknown=")
        return response


def _blocks(file: Path, n_bytes: int, chunk_bytes: int, ending: Hangup | None) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while n_bytes > 0 and (block := stream.read(min(n_bytes, max(1, chunk_bytes)))):
            n_bytes -= len(block)
            yield block
    if ending is not None:
        raise ending
