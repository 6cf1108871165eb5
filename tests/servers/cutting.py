"""A relay to a door that resets connections after a number of bytes."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from realservers import Server

#: Closes with RST, as a firewall or a crashed server does.
_RESET = struct.pack("ii", 1, 0)


class Cutter:
    """Resets connections after a number of bytes in one direction, a given number of times.

    Attributes
    ----------
    url : str
        The server's door through this relay.
    n_cuts : int
        How often it did so.
    """

    def __init__(self, server: Server, after_bytes: int, times: int) -> None:
        self.after_bytes = after_bytes
        self.times = times
        self.n_cuts = 0
        self._to = ("127.0.0.1", server.port)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://localhost:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._to)
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        carried = 0
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 14):
                carried += len(data)
                if carried > self.after_bytes and self._may_cut():
                    for each in (source, target):
                        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                        each.shutdown(socket.SHUT_RD)  # wakes the other thread
                    break
                target.sendall(data)
            else:
                target.shutdown(socket.SHUT_WR)
                return
        source.close()
        target.close()

    def _may_cut(self) -> bool:
        with self._lock:
            if self.n_cuts >= self.times:
                return False
            self.n_cuts += 1
            return True


@contextlib.contextmanager
def cut(server: Server, after_bytes: int, times: int) -> Iterator[Cutter]:
    """Put a `Cutter` in front of a server."""
    cutter = Cutter(server, after_bytes, times)
    try:
        yield cutter
    finally:
        cutter.close()
