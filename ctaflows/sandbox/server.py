"""A Cheroot server on 127.0.0.1 in daemon threads, with access to the raw connections.

It differs from Cheroot's own: the TLS handshake happens in the worker thread, so that a silent
client blocks no other; ``Expect`` is left to the application, since a dCache door sends 307 without
100 Continue; an unread request body is discarded in blocks; a connection can be reset on purpose.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import ssl
import struct
import threading
from typing import TYPE_CHECKING, Any

import trustme
from cheroot.server import HeaderReader, HTTPConnection, HTTPRequest
from cheroot.ssl import Adapter
from cheroot.workers.threadpool import ThreadPool
from cheroot.wsgi import Gateway_10
from cheroot.wsgi import Server as WSGIServer

from ctaflows.errors import UsageError
from ctaflows.sandbox.messages import BLOCK_BYTES, AbortConnection

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

logger = logging.getLogger("ctaflows.sandbox")
logger.addHandler(logging.NullHandler())

LOOPBACK = "127.0.0.1"
_EXPECT = b"Sandbox-Expect"
_NO_LINGER = struct.pack("ii", 1, 0)  # struct linger: on, 0 s; close() then sends RST
_TIMEOUT_S = 60
_NEXT_REQUEST_MS = 20


def _makefile(sock: Any, mode: str, _size: int) -> Any:
    return Reader(sock) if "r" in mode else Writer(sock)


class Connection(HTTPConnection):
    """A connection that can be aborted, and calls `closers` when it ends."""

    def __init__(self, server: Any, sock: Any, _: Any) -> None:
        super().__init__(server, sock, _makefile)
        self.closers: list[Callable[[], None]] = []
        self._is_aborted = False

    def communicate(self) -> bool:
        """Serve a request, and those that come within 20 ms without going through the selector."""
        self.server.busy.add(self)
        try:
            while super().communicate():  # type: ignore[no-untyped-call]  # cheroot's stub
                if not self._has_more():
                    return True
            return False
        finally:
            self.server.busy.discard(self)

    def _has_more(self) -> bool:
        if not self.server.ready or self.server.requests.qsize:
            return False
        if self.rfile.has_data():
            return True
        poller = select.poll()
        poller.register(self.socket, select.POLLIN)
        return bool(poller.poll(_NEXT_REQUEST_MS))

    def abort(self, *, reset: bool) -> None:
        """Close the connection at once, by RST or by FIN without a TLS close_notify."""
        self._is_aborted = True
        with contextlib.suppress(OSError):
            if reset:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            else:
                socket.socket.shutdown(self.socket, socket.SHUT_RDWR)
            self.socket.close()

    def close(self) -> None:
        """Close the connection and call `closers`."""
        try:
            if not self._is_aborted:
                with contextlib.suppress(OSError):
                    super().close()
        finally:
            for closer in self.closers:
                closer()
            self.closers.clear()


class _HeaderReader(HeaderReader):
    """Hides Expect from Cheroot, which would send 100 Continue before the door can send 307."""

    def __call__(self, rfile: Any, hdict: dict[bytes, bytes] | None = None) -> Any:
        headers = super().__call__(rfile, hdict)
        if b"Expect" in headers:
            headers[_EXPECT] = headers.pop(b"Expect")
        return headers


class _Request(HTTPRequest):
    header_reader = _HeaderReader()

    def wire_headers(self) -> dict[str, str]:
        """Return the header fields as received, with names in lower case."""
        return {
            ("expect" if k == _EXPECT else k.decode("latin-1").lower()): v.decode("latin-1")
            for k, v in self.inheaders.items()
        }

    def send_headers(self) -> None:
        """Send the headers, after discarding an unread body or deciding to close the connection."""
        if self.chunked_read:
            self.close_connection |= not getattr(self.rfile, "closed", True)
        elif getattr(self.rfile, "remaining", 0):
            if _EXPECT in self.inheaders:
                self.close_connection = True  # whether the client sends the body now is unknown
            else:
                while self.rfile.read(BLOCK_BYTES):
                    pass
                self.close_connection |= self.rfile.remaining > 0
        if not self.server.sends_date:
            self.outheaders = _Dateless(self.outheaders)
        super().send_headers()


class _Dateless(list[tuple[bytes, bytes]]):
    """Header fields to which Cheroot can't add Date."""

    def append(self, field: tuple[bytes, bytes]) -> None:
        if field[0] != b"Date":
            super().append(field)


Connection.RequestHandlerClass = _Request


class _Gateway(Gateway_10):
    def get_environ(self) -> Any:
        environ = super().get_environ()  # type: ignore[no-untyped-call]  # cheroot's stub
        environ["ctaflows.request"] = self.req
        return environ

    def respond(self) -> None:
        """Send the application's response, or abort the connection on `AbortConnection`."""
        try:
            super().respond()
        except AbortConnection as hangup:
            self.req.sent_headers = True
            self.req.chunked_write = False
            self.req.close_connection = True
            self.req.conn.abort(reset=hangup.reset)


class _Adapter(Adapter):
    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context

    def bind(self, sock: Any) -> Any:
        return sock

    def wrap(self, sock: Any) -> Any:
        wrapped = self.context.wrap_socket(
            sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
        )
        return wrapped, self.get_environ()

    def get_environ(self) -> dict[str, str]:
        return {"wsgi.url_scheme": "https", "HTTPS": "on"}

    def makefile(self, sock: Any, mode: str = "r", bufsize: int = -1) -> Any:
        return _makefile(sock, mode, bufsize)


class _LazyThreadPool(ThreadPool):
    """Starts a thread when a connection comes and none is idle, up to a maximum.

    Cheroot's own starts all threads at once, and then checks each of them every 0.1 s.
    """

    _threads: list[threading.Thread]  # cheroot's stub leaves out what is private
    _spawn_worker: Callable[[], threading.Thread]

    def __init__(self, server: Any, threads: int) -> None:
        super().__init__(server, min=threads)
        self._turn = threading.Lock()
        self._free = threading.Semaphore(0)
        self._is_over = False
        self._take, self.get = self.get, self._next

    def start(self) -> None:
        """Start no thread yet."""

    def _next(self) -> Any:
        self._free.release()
        return self._take()

    def put(self, obj: Any) -> None:
        """Hand a connection to an idle or a new thread; if there is none, queue it."""
        with self._turn:
            is_full = self._is_over or len(self._threads) >= self.min
            if not self._free.acquire(blocking=False) and not is_full:
                self._threads.append(self._spawn_worker())
                self._free.acquire()
        super().put(obj)

    def stop(self, timeout: int = 5) -> None:
        """Stop all threads, and start no new ones."""
        with self._turn:
            self._is_over = True
        super().stop(timeout)


class _Cheroot(WSGIServer):
    keep_alive_conn_limit = None  # type: ignore[assignment]  # cheroot's stub forgets None
    ConnectionClass = Connection

    sends_date = True

    def __init__(self, port: int, application: Any, threads: int, name: str) -> None:
        super().__init__(
            (LOOPBACK, port),
            application,
            numthreads=threads,
            server_name=name,
            request_queue_size=256,
            timeout=_TIMEOUT_S,
            shutdown_timeout=1,
        )
        self.gateway = _Gateway
        self.requests = _LazyThreadPool(self, threads)
        self.busy: set[Connection] = set()

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
        # mostly broken connections, which this server causes on purpose
        logger.debug("cheroot (level %d): %s", level, msg, exc_info=traceback)


class LoopbackServer:
    """A WSGI application on a port of 127.0.0.1.

    Parameters
    ----------
    name : str
        Value of the Server header.
    application : callable
        The WSGI application.
    port : int
        Port to listen on; 0 means any free one.
    context : SSLContext or None
        TLS context; None means plain http.
    threads : int
        Maximum number of requests served at once.
    sends_date : bool
        Whether responses have a Date.

    Raises
    ------
    UsageError
        The port is taken.
    """

    def __init__(
        self,
        name: str,
        application: Any,
        *,
        port: int = 0,
        context: ssl.SSLContext | None = None,
        threads: int = 40,
        sends_date: bool = True,
    ) -> None:
        self._server = _Cheroot(port, application, threads, name)
        self._server.sends_date = sends_date
        if context is not None:
            self._server.ssl_adapter = _Adapter(context)
        self._problem: OSError | None = None
        self._stopper: threading.Thread | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sandbox {name}", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._problem is not None:
            raise UsageError(
                f"Port {port} can't be used",
                said=str(self._problem),
                hint="Choose another port, or 0 for any free one.",
            )

    def _run(self) -> None:
        # in a daemon thread, so that Cheroot's threads become daemons as well
        try:
            self._server.prepare()
        except OSError as why:
            self._problem = why
            self._ready.set()
            return
        self._ready.set()
        self._server.serve()

    @property
    def port(self) -> int:
        """Port it listens on."""
        return int(self._server.bind_addr[1])

    def stop(self) -> None:
        """Start closing, without waiting for it, so that several servers can close in parallel."""
        if self._stopper is None:
            self._stopper = threading.Thread(target=self._server.stop, daemon=True)
            self._stopper.start()
            self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # a connection wakes up Cheroot's selector
            socket.create_connection((LOOPBACK, self.port), timeout=0.1).close()

    def close(self) -> None:
        """Stop listening, and end all connections and threads."""
        self.stop()
        while self._stopper is not None and self._stopper.is_alive():
            self._wake()
            for connection in list(self._server.busy):
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection.socket, socket.SHUT_RDWR)
            self._stopper.join(0.002)
        self._thread.join(5)


# -- certificates ----------------------------------------------------------------------------------


class Certificates:
    """A new certificate authority and its server certificate, written to a folder.

    Parameters
    ----------
    folder : Path
        Folder for ``ca.pem`` and ``server.pem``.
    host : str
        Host name in the server certificate, beside ``localhost`` and ``127.0.0.1``.

    Attributes
    ----------
    ca_file : Path
        The CA certificate, for clients.
    """

    def __init__(self, folder: Path, host: str) -> None:
        authority = trustme.CA(organization_name="ctaflows sandbox")
        certificate = authority.issue_cert(*dict.fromkeys((host, "localhost", "127.0.0.1")))
        self.ca_file = folder / "ca.pem"
        self._server_file = folder / "server.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        self._server_file.touch(mode=0o600)
        certificate.private_key_and_cert_chain_pem.write_to_path(str(self._server_file))

    def server_context(self) -> ssl.SSLContext:
        """Return a TLS context for a server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._server_file)
        return context


# -- fast streams for Cheroot ----------------------------------------------------------------------
#
# Used in place of Cheroot's own streams, which are slow.


class Reader:
    """Reads lines and exact numbers of bytes from a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._buffer = bytearray()
        self.closed = False

    def has_data(self) -> bool:
        """Return whether there are bytes that were already received from the socket."""
        pending = getattr(self._socket, "pending", None)
        return bool(self._buffer) or bool(pending and not self.closed and pending())

    def _fill(self) -> bool:
        block = self._socket.recv(BLOCK_BYTES)
        self._buffer += block
        return bool(block)

    def _take(self, n_bytes: int) -> bytes:
        block = bytes(self._buffer[:n_bytes])
        del self._buffer[:n_bytes]
        return block

    def readline(self, size: int = -1) -> bytes:
        """Read to the end of a line, or `size` bytes."""
        while (end := self._buffer.find(b"\n")) < 0:
            if 0 <= size <= len(self._buffer) or not self._fill():
                break
        n_bytes = end + 1 if end >= 0 else len(self._buffer)
        return self._take(n_bytes if size < 0 else min(n_bytes, size))

    def read(self, size: int) -> bytes:
        """Read `size` bytes; fewer only at the end."""
        while len(self._buffer) < size and self._fill():
            pass
        return self._take(size)

    def close(self) -> None:
        """Mark the stream as closed."""
        self.closed = True


class Writer:
    """Writes to a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def write(self, block: bytes) -> int:
        """Write a whole block."""
        self._socket.sendall(block)
        return len(block)
