"""What cheroot reads requests from and writes answers to; its own are slow Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctaflows.sandbox.messages import BLOCK_BYTES

if TYPE_CHECKING:
    import socket


class Reader:
    """Reads lines and exact numbers of bytes from a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._buffer = bytearray()
        self.closed = False

    def has_data(self) -> bool:
        """Tell whether bytes wait that were already taken from the socket."""
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
        """Note that nobody will read any more."""
        self.closed = True


class Writer:
    """Writes to a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def write(self, block: bytes) -> int:
        """Write a whole block."""
        self._socket.sendall(block)
        return len(block)
