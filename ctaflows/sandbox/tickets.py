"""Pool URLs: each is a ticket for one file, a bearer capability that does not last."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ctaflows.sandbox.quirks import Quirks
    from ctaflows.sandbox.server import Connection


@dataclass
class Ticket:
    """The right to read or write one file at the pool.

    Attributes
    ----------
    uuid : str
        Value of ``dcache-http-uuid``.
    method : str
        ``GET`` or ``PUT``.
    path : str
        Decoded path.
    wants_digest : bool
        Had the request to the door Want-Digest?
    expires_at : float
        End of the wait for the first connection, on the monotonic clock.
    replica : str or None
        ETag of the file to be read.
    """

    uuid: str
    method: str
    path: str
    wants_digest: bool
    expires_at: float
    replica: str | None = None
    connections: set[int] = field(default_factory=set)
    is_over: bool = False


class Tickets:
    """All tickets of one door; safe to use from many threads.

    Parameters
    ----------
    quirks : Quirks
        What ends a ticket.
    abandon : callable
        Called with the path of a PUT ticket that ended without an upload.
    """

    def __init__(self, quirks: Quirks, abandon: Callable[[str], None]) -> None:
        self._quirks = quirks
        self._abandon = abandon
        self._lock = threading.RLock()
        self._tickets: dict[str, Ticket] = {}

    def issue(
        self, method: str, path: str, *, wants_digest: bool, replica: str | None = None
    ) -> Ticket:
        """Make a ticket."""
        now = time.monotonic()
        expires_at = now + self._quirks.pool_url_lifetime_s
        ticket = Ticket(str(uuid.uuid4()), method, path, wants_digest, expires_at, replica)
        with self._lock:
            self._tickets[ticket.uuid] = ticket
            self._sweep(now)
        return ticket

    def use(self, number: str, connection: Connection) -> Ticket | None:
        """Find a ticket for a request that came by a connection; None where it is over."""
        with self._lock:
            self._sweep(time.monotonic())
            ticket = self._tickets.get(number)
            if ticket is not None and id(connection) not in ticket.connections:
                ticket.connections.add(id(connection))
                connection.closers.append(lambda: self._leave(ticket, id(connection)))
            return ticket

    def end(self, ticket: Ticket) -> None:
        """Use a ticket up."""
        with self._lock:
            self._tickets.pop(ticket.uuid, None)
            ticket.is_over = True

    def _leave(self, ticket: Ticket, connection: int) -> None:
        # NettyTransferService.java:569-619, dCache 12.1
        with self._lock:
            ticket.connections.discard(connection)
            if not ticket.connections and self._quirks.pool_url_ends_with_connection:
                self._drop(ticket)

    def _sweep(self, now: float) -> None:
        """Drop those that nobody came for in time; the oldest are first."""
        for ticket in list(self._tickets.values()):
            if ticket.expires_at >= now:
                break
            if not ticket.connections:
                self._drop(ticket)

    def _drop(self, ticket: Ticket) -> None:
        if not ticket.is_over:
            self.end(ticket)
            if ticket.method == "PUT":
                self._abandon(ticket.path)
