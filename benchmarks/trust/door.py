"""A WebDAV door on loopback, over TLS, whose answers a lie may replace.

It has three origins: the door, another host (by its name), and that host without TLS. Each run of a
tool has a directory of its own, /KEY/, and with it a `Visit`: files, a lie, and what was requested.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import os
import re
import socket
import ssl
import struct
import threading
import zlib
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, unquote, urlsplit
from xml.sax.saxutils import escape

import trustme

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.trust.lies import Lie

BEFORE, AFTER = "Thu, 14 Nov 2024 10:00:00 GMT", "Thu, 14 Nov 2024 10:05:00 GMT"
#: The end of paths to which only a listing that lies leads; every origin has such files.
EVIL = "evil.bin"


@dataclass(frozen=True, slots=True)
class File:
    """A file on the door, and what the door tells of it.

    Attributes
    ----------
    data : bytes
        Content.
    tag, modified : str
        ETag and Last-Modified.
    sum_of : bytes or None
        The bytes whose checksums are told; None for no checksums.
    told_bytes : int or None
        Size that HEAD and PROPFIND tell, if not the true one.
    """

    data: bytes
    tag: str = '"v1"'
    modified: str = BEFORE
    sum_of: bytes | None = None
    told_bytes: int | None = None

    @property
    def size_bytes(self) -> int:
        """The size that is told."""
        return len(self.data) if self.told_bytes is None else self.told_bytes

    def facts(self) -> dict[str, str]:
        """Return the headers that describe it."""
        told = {"ETag": self.tag, "Last-Modified": self.modified, "Accept-Ranges": "bytes"}
        return told | ({} if self.sum_of is None else {"Digest": digest(self.sum_of)})


@functools.lru_cache(maxsize=16)
def digest(data: bytes) -> str:
    """Return the value of a Digest header."""
    md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
    return f"adler32={zlib.adler32(data):08x},md5={md5}"


def evil(origin: str) -> bytes:
    """Return the content of the files named `EVIL` at an origin."""
    return f"never to be fetched from the {origin}\n".encode() * 50


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Attributes
    ----------
    status : int
        Its status code.
    headers : dict
        Without Content-Length, which is that of the body unless it is named. Two names that differ
        in case are two lines.
    body : bytes or memoryview
        Content; in chunks if the headers have Transfer-Encoding.
    keep : int or None
        Only so many bytes of the body are sent before the connection is closed.
    pause_s : float
        Waiting time before that close.
    how : str
        ``whole``, or in place of an answer ``closed`` or ``reset``.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | memoryview = b""
    keep: int | None = None
    pause_s: float = 0
    how: str = "whole"


@dataclass(frozen=True, slots=True)
class Heard:
    """A request, as it was received."""

    origin: str
    method: str
    path: str
    range: str | None
    has_token: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a listing: a directory, if it has no file."""

    href: str
    file: File | None = None
    size_bytes: int | None = None
    has_tag: bool = True
    status: str = "200 OK"


class Visit:
    """One run of a tool: what the door has for it, and what it requested.

    Parameters
    ----------
    key : str
        Name of its directory.
    lie : Lie
        The lie it is told.
    files : dict of str to File
        By path relative to the directory.
    subject : str or None
        The path that is lied about; None for all.
    """

    def __init__(
        self, key: str, lie: Lie, files: dict[str, File], subject: str | None = None
    ) -> None:
        self.key, self.lie, self.files, self.subject = key, lie, files, subject
        self.folders = {"", *(str(p) for f in files for p in PurePosixPath(f).parents)} - {"."}
        self.heard: list[Heard] = []
        self.marks: set[str] = set()
        self.was_lied_to = not lie.answers
        self.over = threading.Event()
        self.lock = threading.Lock()

    def first(self, mark: str) -> bool:
        """Return whether this is the first time that it is asked for a mark."""
        with self.lock:
            is_first = mark not in self.marks
            self.marks.add(mark)
            return is_first

    def answer(self, ask: Ask) -> Reply:
        """Note a request, and return what is answered."""
        said = ask.headers
        with self.lock:
            self.heard.append(
                Heard(ask.origin, ask.method, ask.path, said["Range"], "Authorization" in said)
            )
            like = (ask.origin, ask.method, ask.path)
            ask.n = sum((h.origin, h.method, h.path) == like for h in self.heard)
        lie = self.lie.answers.get(ask.method)
        if ask.origin != "door" or lie is None or self.subject not in (None, ask.path):
            return truth(ask)
        reply = lie(ask)
        self.was_lied_to |= not ask.is_answered_truly
        return reply


class Ask:
    """A request, and the visit to which it belongs.

    Attributes
    ----------
    path : str
        Decoded and relative to the visit's directory.
    file : File or None
        What is there.
    start, end : int
        First and last byte of the range; of the whole file without one.
    n : int
        How many such requests there were, with this one.
    is_answered_truly : bool
        Whether the answer is that of `truth`.
    """

    def __init__(self, handler: Handler, visit: Visit, path: str) -> None:
        self.visit, self.path, self.door = visit, path, handler.server.place
        self.origin, self.method = handler.server.origin, handler.command
        self.target, self.headers = handler.path, handler.headers
        self.read = handler.read
        self.n = 0
        self.is_answered_truly = False
        self.file = visit.files.get(path)
        if path.endswith(EVIL):
            self.file = File(evil(self.origin))
        size = len(self.file.data) if self.file else 0
        self.start, self.end = 0, size - 1
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        self.is_ranged = found is not None
        if found:
            self.start, self.end = int(found[1]), min(int(found[2] or size), size - 1)

    def store(self, data: bytes, **told: int) -> Reply:
        """Store a file, and return the answer to an upload."""
        file = File(data, sum_of=data if self.visit.lie.has_sums else None, **told)
        self.visit.files[self.path] = file
        return Reply(201, {k: v for k, v in file.facts().items() if k in ("ETag", "Digest")})

    def rows(self) -> list[Row]:
        """Return the listing, as it should be."""
        root, path = f"/{self.visit.key}/", self.path
        if self.file:
            return [Row(root + quote(path), self.file)]
        if path not in self.visit.folders:
            return []
        below = f"{path}/" if path else ""
        made = [Row(root + quote(below))]
        if self.headers["Depth"] != "0":
            files = ((f, x) for f, x in self.visit.files.items() if _parent(f) == path)
            made += [Row(root + quote(f), x) for f, x in files]
            folders = (f for f in self.visit.folders if f and _parent(f) == path)
            made += [Row(f"{root}{quote(f)}/") for f in sorted(folders)]
        return made


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


# -- what a door that does not lie answers ---------------------------------------------------------


def truth(ask: Ask) -> Reply:
    """Answer as RFC 9110 and 4918 say."""
    ask.is_answered_truly = True
    answers: dict[str, Callable[[Ask], Reply]] = {
        "GET": served, "HEAD": _head, "PROPFIND": lambda a: listing(a.rows()),
        "PUT": lambda a: a.store(a.read()), "MKCOL": _mkcol, "MOVE": moved, "DELETE": _delete,
        "OPTIONS": lambda _: Reply(200, {"DAV": "1", "Allow": "GET,HEAD,PUT,PROPFIND,MOVE"}),
    }  # fmt: skip
    return answers.get(ask.method, lambda _: Reply(501))(ask)


def served(ask: Ask, data: bytes | None = None, *, heeds_if_range: bool = True) -> Reply:
    """Answer a GET, by other bytes than the file's if they are given."""
    if ask.file is None:
        return Reply(404)
    data = ask.file.data if data is None else data
    facts = ask.file.facts() | {"Content-Type": "application/octet-stream"}
    known = (None, ask.file.tag, ask.file.modified)
    if not ask.is_ranged or (heeds_if_range and ask.headers["If-Range"] not in known):
        return Reply(200, facts, data)
    if ask.start > ask.end:
        return Reply(416, {"Content-Range": f"bytes */{len(data)}"})
    said = {"Content-Range": f"bytes {ask.start}-{ask.end}/{len(data)}"}
    return Reply(206, facts | said, memoryview(data)[ask.start : ask.end + 1])


def listing(rows: Sequence[Row]) -> Reply:
    """Return a multistatus; 404 without rows."""
    if not rows:
        return Reply(404)
    body = '<?xml version="1.0" encoding="utf-8"?>\n<d:multistatus xmlns:d="DAV:"'
    body += ' xmlns:c="http://www.dcache.org/2013/webdav">' + "".join(map(_response, rows))
    said = {"Content-Type": "application/xml; charset=utf-8"}
    return Reply(207, said, f"{body}</d:multistatus>".encode())


def _response(row: Row) -> str:
    told = f"<d:getlastmodified>{row.file.modified if row.file else BEFORE}</d:getlastmodified>"
    if row.file is None:
        told += "<d:resourcetype><d:collection/></d:resourcetype>"
    else:
        size = row.file.size_bytes if row.size_bytes is None else row.size_bytes
        told += f"<d:resourcetype/><d:getcontentlength>{size}</d:getcontentlength>"
        told += f"<d:getetag>{escape(row.file.tag)}</d:getetag>" if row.has_tag else ""
        if row.file.sum_of is not None:
            told += f"<c:Checksums>{digest(row.file.sum_of)}</c:Checksums>"
    return (
        f"<d:response><d:href>{escape(row.href)}</d:href><d:propstat><d:prop>{told}</d:prop>"
        f"<d:status>HTTP/1.1 {row.status}</d:status></d:propstat></d:response>"
    )


def moved(ask: Ask) -> Reply:
    """Rename a file."""
    target = unquote(urlsplit(ask.headers["Destination"] or "").path)
    if ask.file is None:
        return Reply(404)
    _, _, target = target.lstrip("/").partition("/")
    was_there = target in ask.visit.files
    if was_there and ask.headers["Overwrite"] == "F":
        return Reply(412)
    ask.visit.files[target] = ask.visit.files.pop(ask.path)
    return Reply(204 if was_there else 201)


def _head(ask: Ask) -> Reply:
    if ask.file is None:
        return Reply(200 if ask.path in ask.visit.folders else 404)
    return Reply(200, ask.file.facts() | {"Content-Length": str(ask.file.size_bytes)})


def _mkcol(ask: Ask) -> Reply:
    if ask.path in ask.visit.folders:
        return Reply(405)
    ask.visit.folders.add(ask.path)
    return Reply(201)


def _delete(ask: Ask) -> Reply:
    return Reply(204 if ask.visit.files.pop(ask.path, None) else 404)


# -- the servers -----------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """Sends what a visit answers."""

    protocol_version = "HTTP/1.1"
    server_version = "door/1"
    sys_version = ""
    timeout = 60
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        if self.server.context is not None:
            self.request.settimeout(self.timeout)
            self.request = self.server.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.request.close()

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def handle_expect_100(self) -> bool:
        """Send no 100 before the content is read: an upload may be redirected without it."""
        return True

    def read(self, n_bytes: int | None = None) -> bytes:
        """Read the request's content, or its first bytes."""
        n = self._unread if n_bytes is None else min(n_bytes, self._unread)
        if n and self._is_waiting:
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._is_waiting = False
        self._unread -= n
        return self.rfile.read(n)

    def _answer(self) -> None:
        try:
            self._respond()
        except OSError:  # the client has gone
            raise
        except Exception as fault:
            self.server.place.faults.append(fault)
            raise

    def _respond(self) -> None:
        self._unread = int(self.headers["Content-Length"] or 0)
        self._is_waiting = "100-continue" in (self.headers["Expect"] or "").lower()
        path = unquote(urlsplit(self.path).path).strip("/")
        key, _, below = path.partition("/")
        visit = self.server.place.visits.get(key)
        if visit is None:
            self._send(
                listing([Row("/")]) if not path and self.command == "PROPFIND" else Reply(404)
            )
            return
        reply = visit.answer(Ask(self, visit, below))
        if reply.how == "whole":
            self._send(reply)
        if reply.how != "whole" or reply.keep is not None:
            visit.over.wait(reply.pause_s)
            self._break_off(is_reset=reply.how == "reset")

    do_GET = do_HEAD = do_PUT = do_PROPFIND = do_OPTIONS = _answer  # noqa: N815
    do_MKCOL = do_MOVE = do_DELETE = do_PROPPATCH = do_LOCK = do_UNLOCK = _answer  # noqa: N815

    def _send(self, reply: Reply) -> None:
        if self._unread and not self._is_waiting and reply.keep is None:
            self.read()
        self.send_response(reply.status)
        said = dict(reply.headers)
        is_chunked = "Transfer-Encoding" in said
        if not is_chunked and reply.status != 204:
            said.setdefault("Content-Length", str(len(reply.body)))
        if self._unread or len(said) > len({name.lower() for name in said}):
            said["Connection"] = "close"
            self.close_connection = True
        for name, value in said.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        body = reply.body if reply.keep is None else reply.body[: reply.keep]
        if is_chunked:
            last = b"0\r\n\r\n" if reply.keep is None else b""
            body = b"%x\r\n%b\r\n%b" % (len(body), body, last)
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def _break_off(self, *, is_reset: bool) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError, ValueError):
            if is_reset:
                off = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, off)
                os.close(self.connection.detach())
            elif isinstance(self.connection, ssl.SSLSocket):
                self.connection.settimeout(0)  # the client is not waited for
                self.connection.unwrap()  # TLS ends well: only the length tells that bytes lack


class Server(ThreadingHTTPServer):
    """One origin."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, origin: str, place: Door, context: ssl.SSLContext | None) -> None:
        self.origin, self.place, self.context = origin, place, context
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """Log nothing: clients close connections as they like, and faults are kept."""


class Door:
    """The three origins, until they are closed.

    Parameters
    ----------
    folder : Path
        Where the CA's certificate is written.

    Attributes
    ----------
    url, other_url, clear_url : str
        The door by the name ``localhost``; another host by its number, with and without TLS.
    visits : dict of str to Visit
        By the name of their directories.
    faults : list of Exception
        What went wrong here, so that an answer was none of those that were meant.
    """

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca_file = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
        self.visits: dict[str, Visit] = {}
        self.faults: list[Exception] = []
        self._servers = [
            Server("door", self, context), Server("other host", self, context),
            Server("clear", self, None),
        ]  # fmt: skip
        ports = [server.server_address[1] for server in self._servers]
        self.url = f"https://localhost:{ports[0]}"
        self.other_url = f"https://127.0.0.1:{ports[1]}"
        self.clear_url = f"http://127.0.0.1:{ports[2]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
