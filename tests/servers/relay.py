"""A relay on loopback that behaves like a long path: `relay.py PORT TO_PORT RTT_MS MB_PER_S`.

What it models, for each connection and each direction on its own:

- every byte arrives half the round trip after it left;
- the first bytes wait one more round trip, for the handshake of TCP;
- slow start: at most ten segments of 1460 bytes are under way at first, and as many more as were
  acknowledged, a round trip after they left, up to 6 MiB;
- a cap in MB/s (10⁶ bytes), 0 for none; it is a connection's own, connections share nothing.

What it does not: loss, jitter, a bottleneck that connections share, a window that shrinks again.
It passes on the bytes as they are, so TLS goes from end to end.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import deque
from contextlib import suppress

FIRST_WINDOW = 10 * 1460
LARGEST_WINDOW = 6 << 20
READ_BYTES = 256 << 10
AHEAD_S = 0.004  # read so much before its time: a pause ends late, and the cap would suffer


class Direction:
    """One direction of one connection."""

    def __init__(
        self, source: socket.socket, target: socket.socket, delay_s: float, rate: float
    ) -> None:
        self.source = source
        self.target = target
        self.delay_s = delay_s
        self.rate = rate
        self.loop = asyncio.get_running_loop()
        self.window = FIRST_WINDOW
        self.under_way: deque[tuple[float, int]] = deque()  # when it is acknowledged, bytes
        self.under_way_bytes = 0
        self.arriving: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self.buffer = memoryview(bytearray(READ_BYTES))

    async def carry(self, not_before: float) -> None:
        """Carry all there is; an end is passed on as such."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._take(not_before))
            both.create_task(self._give())

    async def _take(self, not_before: float) -> None:
        free_at = not_before  # when the path takes the next byte
        while True:
            await self._until(free_at - AHEAD_S)
            n_bytes = await self.loop.sock_recv_into(self.source, self.buffer[: await self._room()])
            leaves = max(free_at, self.loop.time())
            self.arriving.put_nowait((leaves + self.delay_s, bytes(self.buffer[:n_bytes])))
            if not n_bytes:
                return
            self.under_way.append((leaves + 2 * self.delay_s, n_bytes))
            self.under_way_bytes += n_bytes
            if self.rate:
                free_at = leaves + n_bytes / self.rate

    async def _give(self) -> None:
        while True:
            due, data = await self.arriving.get()
            await self._until(due)
            if not data:
                with suppress(OSError):
                    self.target.shutdown(socket.SHUT_WR)
                return
            await self.loop.sock_sendall(self.target, data)

    async def _room(self) -> int:
        """Give how many bytes may leave now; wait until that is a segment at least."""
        while True:
            while self.under_way and self.under_way[0][0] <= self.loop.time():
                n_bytes = self.under_way.popleft()[1]
                self.under_way_bytes -= n_bytes
                self.window = min(LARGEST_WINDOW, self.window + n_bytes)
            room = self.window - self.under_way_bytes
            if room >= 1460:
                return min(room, READ_BYTES)
            await self._until(self.under_way[0][0])

    async def _until(self, moment: float) -> None:
        pause = moment - self.loop.time()
        if pause > 0:
            await asyncio.sleep(pause)


async def connection(near: socket.socket, port: int, rtt_s: float, rate: float) -> None:
    """Relay one connection until both directions have ended or one breaks."""
    loop = asyncio.get_running_loop()
    with near, socket.socket() as far:
        for each in (near, far):
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await loop.sock_connect(far, ("127.0.0.1", port))
            opened = loop.time() + rtt_s
            async with asyncio.TaskGroup() as both:
                both.create_task(Direction(near, far, rtt_s / 2, rate).carry(opened))
                both.create_task(Direction(far, near, rtt_s / 2, rate).carry(0.0))
        except* OSError:
            pass  # it broke on one side, and now does on the other


async def relay(port: int, to_port: int, rtt_s: float, rate: float) -> None:
    """Take connections until killed."""
    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[None]] = set()
    with socket.create_server(("127.0.0.1", port), backlog=512) as listener:
        listener.setblocking(False)
        while True:
            near, _ = await loop.sock_accept(listener)
            task = asyncio.create_task(connection(near, to_port, rtt_s, rate))
            running.add(task)
            task.add_done_callback(running.discard)


if __name__ == "__main__":
    numbers = [float(word) for word in sys.argv[1:5]]
    with suppress(KeyboardInterrupt):
        asyncio.run(relay(int(numbers[0]), int(numbers[1]), numbers[2] / 1000, numbers[3] * 1e6))
