"""A pool whose answers a test holds back, releases, cuts and counts, to the byte."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import struct
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctaflows.sandbox.messages import AbortConnection
from ctaflows.sandbox.pool import Pool

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Iterator

    from ctaflows.sandbox.messages import Request, Response

PIECE_BYTES = 1 << 14  # the most that one TLS record carries
_SIOCOUTQNSD = 0x894B  # linux/sockios.h
_HEAD_BYTES = 1024  # TLS's tickets and the headers, which are no body


@dataclasses.dataclass(frozen=True)
class Cut:
    """An order to break the next body that moves.

    Attributes
    ----------
    reset : bool
        By RST, else by a bare FIN.
    piece_bytes : int
        How much of the next piece still goes out.
    done : callable
        Told when it has happened.
    """

    reset: bool
    piece_bytes: int
    done: Callable[[], None]


class Gate:
    """Lets bodies pass piece by piece, as long as there is a budget.

    Attributes
    ----------
    moved_bytes : int
        Bytes that passed since `next_epoch`: given to the system's sockets, or taken from them.
    after : callable or None
        Called with the number of bytes after each piece.
    sockets : WeakSet
        Those whose answers pass here.
    """

    def __init__(self, *, is_open: bool = False) -> None:
        self._turn = threading.Condition()
        self._budget = 0
        self._is_open = is_open
        self._is_held = False
        self._cut: Cut | None = None
        self._n_on_the_way = 0
        self._n_uploads = 0
        self._epoch = 0
        self.sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self.moved_bytes = 0
        self.after: Callable[[int], None] | None = None

    def grant(self, n_bytes: int) -> None:
        """Let a further number of bytes pass."""
        with self._turn:
            self._budget += n_bytes
            self._turn.notify_all()

    def allow(self, n_bytes: int) -> None:
        """Let a number of bytes pass from now on, whatever was granted before."""
        with self._turn:
            self._budget = n_bytes
            self._turn.notify_all()

    def open(self) -> None:
        """Let all bytes pass from now on."""
        with self._turn:
            self._is_open = True
            self._turn.notify_all()

    def cut(self, order: Cut | None) -> None:
        """Break the next body that moves or waits; None takes the order back."""
        with self._turn:
            self._cut = order
            self._turn.notify_all()

    def next_epoch(self) -> int:
        """End all bodies under way, restart the count, and return the old one."""
        with self._turn:
            moved, self.moved_bytes = self.moved_bytes, 0
            self._epoch += 1
            self.sockets.clear()  # those of a killed client tell their last figures for ever
            self._turn.notify_all()
        return moved

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let nothing pass meanwhile; begins when what has passed is with the system."""
        deadline = time.monotonic() + 0.25
        with self._turn:
            self._is_held = True
            while self._n_on_the_way and time.monotonic() < deadline:
                self._turn.wait(0.01)
        try:
            yield
        finally:
            with self._turn:
                self._is_held = False
                self._turn.notify_all()

    @contextlib.contextmanager
    def upload(self) -> Iterator[None]:
        """Count an upload while the pool works on it."""
        with self._turn:
            self._n_uploads += 1
        try:
            yield
        finally:
            with self._turn:
                self._n_uploads -= 1
                self._turn.notify_all()

    def wait_for_uploads(self, timeout_s: float) -> None:
        """Wait until the pool works on no upload, not even one whose client is gone."""
        with self._turn:
            assert self._turn.wait_for(lambda: self._n_uploads == 0, timeout_s)

    def unread_bytes(self) -> int:
        """Count what has passed and is still with the system, at either end of the connections.

        Linux hands on at once what it sends over loopback, so that nothing is in between.
        """
        ports = {s.getsockname()[1] for s in list(self.sockets) if s.fileno() >= 0}
        unsent = sum(_unsent_bytes(s) for s in list(self.sockets) if s.fileno() >= 0)
        return unsent + sum(map(_unread_bytes, ports))

    def paced(self, blocks: Iterable[bytes], sock: socket.socket) -> Iterator[bytes]:
        """Yield a body in pieces, each when it may pass."""
        epoch = self._epoch
        for block in blocks:
            for start in range(0, len(block), PIECE_BYTES):
                piece = block[start : start + PIECE_BYTES]
                cut = self._wait(len(piece), epoch)
                if cut is not None:
                    piece = piece[: cut.piece_bytes]
                with self._turn:
                    self._n_on_the_way += 1
                try:
                    yield piece
                    self._count(len(piece), epoch)
                finally:
                    with self._turn:
                        self._n_on_the_way -= 1
                        self._turn.notify_all()
                if cut is not None:
                    if cut.reset:  # what is not sent yet never will be
                        self._count(-_unsent_bytes(sock), epoch)
                    else:
                        self._let_it_be_sent(sock, epoch)
                    cut.done()
                    raise AbortConnection(reset=cut.reset)

    def _let_it_be_sent(self, sock: socket.socket, epoch: int) -> None:
        deadline = time.monotonic() + 1
        with self._turn:
            while _unsent_bytes(sock) and epoch == self._epoch and time.monotonic() < deadline:
                self._turn.wait(0.002)

    def _wait(self, n_bytes: int, epoch: int) -> Cut | None:
        with self._turn:
            while True:
                if epoch != self._epoch:
                    raise AbortConnection(reset=True)
                if self._cut is not None and not self._is_held:
                    cut, self._cut = self._cut, None
                    return cut
                if not self._is_held and (self._is_open or self._budget >= n_bytes):
                    self._budget -= 0 if self._is_open else n_bytes
                    return None
                self._turn.wait(1)

    def _count(self, n_bytes: int, epoch: int) -> None:
        with self._turn:
            if epoch == self._epoch:
                self.moved_bytes += n_bytes
        if self.after is not None and n_bytes > 0:
            self.after(n_bytes)


class PacedPool(Pool):
    """The sandbox's pool behind a gate."""

    def __init__(self, gate: Gate, *args: Any) -> None:
        super().__init__(*args)
        self._gate = gate

    def handle(self, request: Request) -> Response:
        self._gate.sockets.add(request.connection.socket)
        if request.method == "PUT":
            request.body = _PacedBody(request, self._gate)  # type: ignore[assignment]
            with self._gate.upload():
                return super().handle(request)
        response = super().handle(request)
        if request.method == "GET" and response.status in (200, 206):
            body = self._gate.paced(response.blocks(), request.connection.socket)
            response = dataclasses.replace(response, body=body, length=response.n_bytes)
        return response


class _PacedBody:
    def __init__(self, request: Request, gate: Gate) -> None:
        self._body = request.body
        self._socket = request.connection.socket
        self._gate = gate
        self.length = self._body.length

    def blocks(self) -> Iterator[bytes]:
        return self._gate.paced(self._body.blocks(), self._socket)


def _unsent_bytes(sock: socket.socket) -> int:
    """Return the number of unsent bytes in a socket's send buffer."""
    with contextlib.suppress(OSError):
        return int(struct.unpack("i", fcntl.ioctl(sock, _SIOCOUTQNSD, b"\0" * 4))[0])
    return 0


def _unread_bytes(port: int) -> int:
    """Return the number of bytes in the receive buffers of a loopback server's clients."""
    n_bytes = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, _, there, _, queues = line.split()[:5]
        if int(there.partition(":")[2], 16) == port:
            n_bytes += max(0, int(queues.partition(":")[2], 16) - _HEAD_BYTES)
    return n_bytes
