"""A minimal door and pools, over TLS, that record requests and send wrong answers on demand.

It knows just enough of WebDAV for our client. What it should answer otherwise is set by a hook.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import socket
import ssl
import threading
import zlib
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, unquote, urlsplit
from xml.sax.saxutils import escape

import trustme

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Hook = Callable[["Handler"], bool | None]

_PIECE_BYTES = 1 << 16


@dataclass
class Heard:
    """One request, as it was received.

    Attributes
    ----------
    origin : str
        ``door``, ``pool`` or the name of another server.
    method, target : str
        As sent.
    headers : list of (str, str)
        In order, repeated ones too.
    """

    origin: str
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = field(default=b"", repr=False)

    def text(self) -> str:
        """Return the whole request but its body."""
        lines = [f"{self.method} {self.target}", *(f"{k}: {v}" for k, v in self.headers)]
        return "\n".join(lines)

    def values(self, name: str) -> list[str]:
        """Return the values of a header."""
        return [v for k, v in self.headers if k.lower() == name.lower()]


class Handler(BaseHTTPRequestHandler):
    """Answers one request; hooks use its methods."""

    protocol_version = "HTTP/1.1"
    server_version = "dCache/11.2.0 (little)"
    sys_version = ""
    timeout = 60
    server: Server

    def setup(self) -> None:
        self.server.place.connections[self.server.name] += 1
        if self.server.context is not None:
            self.request.settimeout(self.timeout)
            self.request = self.server.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    @property
    def place(self) -> LittleDoor:
        return self.server.place

    @property
    def name(self) -> str:
        """Decoded path without the query."""
        return unquote(urlsplit(self.path).path, errors="surrogateescape")

    def _answer(self) -> None:
        heard = Heard(self.server.name, self.command, self.path, self.headers.items())
        self.place.heard.append(heard)
        self._unread = int(self.headers.get("content-length") or 0)
        for hook in list(self.place.hooks):
            if hook(self):
                return
        if self.server.name == "door":
            getattr(self, "_door_" + self.command.lower(), self._unknown)()
        else:
            getattr(self, "_pool_" + self.command.lower(), self._unknown)()

    def body(self) -> bytes:
        """Read what is left of the request's body."""
        data, self._unread = self.rfile.read(self._unread), 0
        self.place.heard[-1].body = data
        return data

    def reply(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> bool:
        """Send a complete answer."""
        if self._unread and "100-continue" not in self.headers.get("expect", ""):
            self.body()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        for name, value in self.place.always:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        if self.headers.get("expect"):
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        return True

    def raw(self, head: str, blocks: Any = ()) -> bool:
        """Send bytes that need not be HTTP, until the client closes; then close."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.write(head.encode("latin-1"))
            for block in blocks:
                self.wfile.write(block)
                self.place.poured_bytes += len(block)
        return True

    def handle_expect_100(self) -> bool:
        """Send no 100: a door redirects before it has received a byte."""
        return True

    def _unknown(self) -> None:
        self.reply(501)

    # -- the door --------------------------------------------------------------------------------

    def _door_propfind(self) -> None:
        self.body()
        asked = "/" + self.name.strip("/")
        path = self.place.followed(asked)
        files = self.place.files
        below = path.rstrip("/") + "/"
        responses = []
        if path in files:
            responses = [self.place.response(path, href=quote(asked))]
        elif self.place.is_folder(path):
            shown = asked.rstrip("/") + "/"
            responses = [self.place.response(path, is_dir=True, href=quote(shown))]
            if self.headers.get("depth") != "0":
                for name in [] if path in self.place.secret else self.place.names_in(path):
                    child = self.place.child(below + name)
                    responses.append(child.replace(quote(below), quote(shown), 1))
        if not responses:
            self.reply(404)
            return
        self.reply(207, {"Content-Type": "application/xml"}, multistatus("".join(responses)))

    def _door_head(self) -> None:
        data = self.place.files.get(self.name)
        if data is None:
            self.reply(404)
            return
        self.send_response(200)
        for name, value in {**self.place.validators(self.name), **self.place.digest(self.name),
                            "Content-Length": str(len(data))}.items():  # fmt: skip
            self.send_header(name, value)
        self.end_headers()

    def _to_pool(self, status: int) -> None:
        self.reply(status, {"Location": f"{self.place.pool_url}{self.path}?dcache-http-uuid=cap"})

    def _door_get(self) -> None:
        path = self.place.followed("/" + self.name.strip("/"))
        if path in self.place.files:
            self._to_pool(302)
        elif path in self.place.secret:
            self.reply(403, {"Content-Type": "text/plain"}, b"Permission denied\n")
        elif self.place.is_folder(path):
            rows = "".join(f'<a href="{quote(name)}">' for name in self.place.names_in(path))
            self.reply(200, {"Content-Type": "text/html"}, f"<html>{rows}</html>".encode())
        else:
            self.reply(404)

    def _door_put(self) -> None:
        if self.headers.get("expect"):
            self._to_pool(307)
        else:
            self._pool_put()

    def _door_mkcol(self) -> None:
        self.reply(201)

    def _door_move(self) -> None:
        target = unquote(urlsplit(self.headers["destination"]).path)
        if {self.name.rstrip("/"), target.rstrip("/")} & self.place.links.keys():
            self.reply(500, {"Content-Type": "text/plain"}, b"No such file or directory\n")
            return
        self.place.files[target] = self.place.files.pop(self.name)
        self.reply(201)

    def _door_delete(self) -> None:
        place, path = self.place, self.name.rstrip("/")
        if path not in place.links:
            path = place.followed(path)
        if path in place.links:  # dCache 11.2.5: the target's content goes, the link stays
            for name in [f for f in place.files if f.startswith(place.links[path] + "/")]:
                del place.files[name]
            said = b"Internal problem: PNFSID does not correspond to provided file.\n"
            self.reply(500, {"Content-Type": "text/plain"}, said)
        elif path in place.folders:
            place.folders.discard(path)
            self.reply(204)
        else:
            self.reply(204 if place.files.pop(path, None) is not None else 404)

    # -- the pool --------------------------------------------------------------------------------

    def _pool_get(self) -> None:
        data = self.place.files.get(self.name)
        if data is None:
            self.reply(404)
            return
        headers = self.place.digest(self.name)
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        if not found:
            self.reply(200, headers, data)
            return
        start, last = int(found[1]), min(int(found[2] or len(data)), len(data) - 1)
        headers["Content-Range"] = f"bytes {start}-{last}/{len(data)}"
        self.reply(206, headers, data[start : last + 1])

    def _pool_put(self) -> None:
        if self.headers.get("expect"):
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        data = self.place.on_its_way(self.body())
        self.place.files[self.name] = data
        self.reply(201, self.place.digest(self.name), f"{len(data)} bytes uploaded\r\n".encode())


class Server(ThreadingHTTPServer):
    """One origin."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name: str, place: LittleDoor, context: ssl.SSLContext | None) -> None:
        self.name = name
        self.place = place
        self.context = context
        place.connections[name] = 0
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, *_: object) -> None:
        """Log nothing: tests make clients close connections."""


class LittleDoor:
    """A door on one port of localhost, and its pool on another.

    Parameters
    ----------
    folder : Path
        Where the CA's certificate is written.

    Attributes
    ----------
    files : dict of str to bytes
        Path to content.
    heard : list of Heard
        All requests at all origins.
    hooks : list of callable
        Each is asked in turn, and may answer instead; it says so by True.
    always : list of (str, str)
        Headers of every answer.
    folders : set of str
        Directories, beside those that hold files.
    secret : set of str
        Directories that may not be read: listed as empty, as dCache does, and 403 to GET.
    links : dict of str to str
        Symbolic links, as dCache 11.2.5 treats them: listed as files, described as their targets.
    statuses : dict of str to str
        What a listing says of a child in place of its properties, such as ``403 Forbidden``.
    connections : dict
        How many connections came to each origin.
    poured_bytes : int
        Bytes that `Handler.raw` could get rid of.
    on_its_way : callable
        What becomes of an upload's bytes.
    authority : trustme.CA
        Who vouches for its servers.
    has_sums, has_tags : bool
        Does it tell checksums, and ETags?
    """

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, bytes] = {}
        self.folders: set[str] = set()
        self.secret: set[str] = set()
        self.links: dict[str, str] = {}
        self.statuses: dict[str, str] = {}
        self.heard: list[Heard] = []
        self.hooks: list[Hook] = []
        self.always: list[tuple[str, str]] = []
        self.connections: dict[str, int] = {}
        self.poured_bytes = 0
        self.on_its_way: Callable[[bytes], bytes] = lambda data: data
        self.has_sums = self.has_tags = True
        self.authority = trustme.CA()
        self.ca_file = folder / "little-ca.pem"
        self.authority.cert_pem.write_to_path(str(self.ca_file))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("localhost", "127.0.0.1").configure_cert(self.context)
        self._servers: list[Server] = []
        self.url = f"https://localhost:{self.server('door').port}"
        self.pool_url = f"https://localhost:{self.server('pool').port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def server(self, name: str, *, tls: bool = True) -> Server:
        """Start one more origin, which answers as a pool does."""
        server = Server(name, self, self.context if tls else None)
        self._servers.append(server)
        return server

    def when(self, method: str, answer: Hook, *, origin: str = "door", times: int = -1) -> None:
        """Answer requests of a method otherwise, a number of times or always."""
        left = [times]

        def hook(handler: Handler) -> bool:
            if handler.server.name != origin or handler.command != method or not left[0]:
                return False
            left[0] -= 1
            return answer(handler) is not False

        self.hooks.append(hook)

    def validators(self, path: str) -> dict[str, str]:
        """Return the ETag and Last-Modified of a file; the time is always the same."""
        tag = hashlib.sha256(self.files[path]).hexdigest()[:16]
        known = {"Last-Modified": formatdate(1_700_000_000, usegmt=True)}
        return known | ({"ETag": f'"{pnfsid(path)}_{tag}"'} if self.has_tags else {})

    def digest(self, path: str) -> dict[str, str]:
        """Give the header with a file's checksum, if there are any."""
        return {"Digest": digest(self.files[path])} if self.has_sums else {}

    def followed(self, path: str) -> str:
        """Return the path to which a path leads through symbolic links."""
        for link, target in self.links.items():
            if path == link or path.startswith(link + "/"):
                return target + path[len(link) :]
        return path

    def is_folder(self, path: str) -> bool:
        """Return whether there is a directory."""
        below = path.rstrip("/") + "/"
        named = path in self.folders or path in self.secret
        return path == "/" or named or any(file.startswith(below) for file in self.files)

    def names_in(self, path: str) -> list[str]:
        """Return the names of what is in a directory."""
        below = path.rstrip("/") + "/"
        known = {*self.files, *self.folders, *self.secret, *self.links, *self.statuses}
        return sorted({f[len(below) :].split("/")[0] for f in known if f.startswith(below)})

    def child(self, path: str) -> str:
        """Write what the listing of its directory says of a path."""
        if path in self.statuses:
            return (
                f"<d:response><d:href>{escape(quote(path))}</d:href>"
                f"<d:status>HTTP/1.1 {self.statuses[path]}</d:status></d:response>"
            )
        if path in self.links:
            return response(
                quote(path),
                f"<d:getcontentlength>{len(self.links[path])}</d:getcontentlength>"
                f'<d:getetag>"{pnfsid(path)}_1"</d:getetag><c:Checksums></c:Checksums>'
                f"<s:FileLocality>UNAVAILABLE</s:FileLocality>",
            )
        return self.response(path, is_dir=path not in self.files)

    def response(self, path: str, *, is_dir: bool = False, href: str | None = None) -> str:
        """Write what is said of a file or a directory."""
        properties = (
            "<d:resourcetype><d:collection/></d:resourcetype>"
            f'<d:getetag>"{pnfsid(path)}_1"</d:getetag>'
        )
        if not is_dir:
            data = self.files[path]
            known = self.validators(path)
            properties = (
                f"<d:resourcetype/><d:getcontentlength>{len(data)}</d:getcontentlength>"
                f"<d:getlastmodified>{known['Last-Modified']}</d:getlastmodified>"
            )
            if self.has_tags:
                properties += f"<d:getetag>{escape(known['ETag'])}</d:getetag>"
            if self.has_sums:
                properties += f"<c:Checksums>{digest(data)}</c:Checksums>"
        return response(quote(path) if href is None else href, properties)


def response(href: str, properties: str) -> str:
    """Write one response of a multistatus."""
    return (
        f"<d:response><d:href>{escape(href)}</d:href><d:propstat><d:prop>{properties}</d:prop>"
        "<d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>"
    )


HEAD = '<?xml version="1.0" encoding="utf-8"?>'
OPEN = (
    '<d:multistatus xmlns:d="DAV:" xmlns:c="http://www.dcache.org/2013/webdav"'
    ' xmlns:s="http://srm.lbl.gov/StorageResourceManager">'
)


def multistatus(responses: str) -> bytes:
    """Write a multistatus."""
    return f"{HEAD}{OPEN}{responses}</d:multistatus>".encode()


def pnfsid(path: str) -> str:
    """Return the dCache id of a path."""
    return hashlib.sha256(path.rstrip("/").encode()).hexdigest()[:36].upper()


def digest(data: bytes) -> str:
    """Write the Digest header that dCache would."""
    return f"adler32={zlib.adler32(data):08x}"


class Tunnel:
    """A CONNECT proxy that records what it receives, and passes the rest on."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head and (more := client.recv(4096)):
            head += more
        self.heads.append(head.decode("latin-1"))
        where = head.split()[1].decode()
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            host, _, port = where.rpartition(":")
            server = socket.create_connection((host, int(port)))
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pour, args=(server, client), daemon=True)
            back.start()
            _pour(client, server)
            back.join()


def _pour(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_PIECE_BYTES):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
