"""The pool: sends and takes bytes for whoever has a ticket, knows no tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctaflows.sandbox import content
from ctaflows.sandbox.messages import Response

if TYPE_CHECKING:
    from ctaflows.sandbox.messages import Request
    from ctaflows.sandbox.quirks import Quirks
    from ctaflows.sandbox.storage import Storage
    from ctaflows.sandbox.tickets import Ticket, Tickets

_METHODS = ("GET", "HEAD", "PUT")
# HttpPoolRequestHandler.java:109-110, dCache 12.1
_ENTITY_HEADERS = ("content-length", "content-md5")


class Pool:
    """Answers requests as dCache's HttpPoolRequestHandler (dCache 12.1).

    Errors have their text in the status line and an empty body.

    Parameters
    ----------
    storage : Storage
        The files.
    tickets : Tickets
        Those that the door issued.
    quirks : Quirks
        How like dCache it behaves.
    """

    def __init__(self, storage: Storage, tickets: Tickets, quirks: Quirks) -> None:
        self._storage = storage
        self._tickets = tickets
        self._quirks = quirks

    def handle(self, request: Request) -> Response:
        """Answer a request."""
        if request.method not in _METHODS:
            return Response(501)
        ticket = self._tickets.use(request.query.get("dcache-http-uuid", ""), request.connection)
        if ticket is None:
            return self._stale(request)
        if ticket.path != request.path:
            return Response(400, reason="The file you specified does not match the UUID")
        if (ticket.method == "PUT") != (request.method == "PUT"):
            return Response(400, reason=f"The UUID is not for {request.method}")
        if request.method == "PUT":
            return self._put(request, ticket)
        return self._get(request, ticket)

    def _stale(self, request: Request) -> Response:
        home = request.query.get("dcache-http-ref")
        if self._quirks.stale_redirects_home and home:
            return Response(307, {"Location": home + request.target.partition("?")[0]})
        return Response(400, reason="Request is no longer valid. Please resubmit to door.")

    def _get(self, request: Request, ticket: Ticket) -> Response:
        file = self._storage.file(ticket.path)
        if file is None or not file.is_file():
            return Response(404, reason="File not found")
        if ticket.replica not in (None, self._storage.etag(file)):
            self._tickets.end(ticket)  # the old file is gone, and its replica and mover with it
            return self._stale(request)
        headers = {
            "Content-Disposition": f"attachment;filename*=UTF-8''{content.quoted(file.name)}",
            "Content-Location": content.quoted(ticket.path),
        }
        if not self._quirks.pool_hides_validators:
            headers |= content.validators(file, self._storage)
        if ticket.wants_digest or not self._quirks.pool_needs_want_digest:
            found = content.digest(file, request, self._storage, self._quirks)
            if found:
                headers["Digest"] = found
        response = content.send(file, request, headers)
        # HttpPoolRequestHandler.java:456-490, dCache 12.1
        if request.method == "GET" and response.status == 200 and self._quirks.one_shot_pool_urls:
            self._tickets.end(ticket)
        self._end_with_connection(request, ticket)
        return response

    def _put(self, request: Request, ticket: Ticket) -> Response:
        unknown = [
            name
            for name in request.headers
            if name.startswith("content-") and name not in _ENTITY_HEADERS
        ]
        if unknown and self._quirks.pool_refuses_entity_headers:
            return Response(501, reason=f"Unsupported header {unknown[0]}")
        self._tickets.end(ticket)
        response = content.receive(ticket.path, request, self._storage, self._quirks)
        if response.status == 201:
            home = request.query.get("dcache-http-ref", "")
            response.headers["Location"] = home + content.quoted(ticket.path)
        return response

    def _end_with_connection(self, request: Request, ticket: Ticket) -> None:
        closes = request.headers.get("connection", "").lower() == "close"
        if closes and self._quirks.pool_url_ends_with_connection:
            self._tickets.end(ticket)
