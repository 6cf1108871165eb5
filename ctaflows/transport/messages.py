"""What goes over the wire and what comes back, whichever library carries it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ctaflows.errors import NetworkError
from ctaflows.transport import policy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class TokenSource(Protocol):
    """Gives bearer tokens; may renew one that a server rejected."""

    def token(self) -> str:
        """Give a token that is valid now."""

    def renew(self, rejected: str) -> str | None:
        """Give a newer token than the rejected one, or None where there is none to be had."""


@runtime_checkable
class Source(Protocol):
    """A body to be sent."""

    size_bytes: int

    def read(self, n_bytes: int) -> bytes:
        """Give the next bytes, at most so many; none at the end."""

    def rewind(self) -> None:
        """Begin anew."""


class Sink(Protocol):
    """Where the body of a good answer goes."""

    def begin(self, head: Head) -> None:
        """Look at the answer before its first byte; an error raised here ends the transfer."""

    def take(self, pieces: list[bytes]) -> None:
        """Take in the next bytes, as pieces of some KiB; the list is the sink's to keep."""


@dataclass(frozen=True, slots=True)
class Head:
    """An answer without its body.

    Attributes
    ----------
    status : int
        HTTP status.
    url : str
        Where the answer came from, after redirects.
    headers : Mapping
        Caseless.
    retries : int
        How often the request was repeated.
    """

    status: int
    url: str
    headers: Mapping[str, str]
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Answer(Head):
    """An answer whose body was read whole.

    Attributes
    ----------
    body : bytes
        The body, at most 64 MiB.
    """

    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, wherever redirects may lead it.

    Attributes
    ----------
    method : str
        HTTP method.
    headers : dict
        All but ``Authorization``.
    content : bytes, Source or iterable of bytes, optional
        The body. An iterable that can be iterated once only is never sent twice.
    expect : tuple of int
        Statuses beside 2xx that are no error for the caller.
    redirects : bool
        Follow redirects; with False a redirect is an answer as any other.
    wait_s : float or None
        Longest wait for the next bytes of the answer, if not the usual one; httpx alone heeds it.
    """

    method: str
    headers: dict[str, str]
    content: bytes | Source | Iterable[bytes] | None = None
    expect: tuple[int, ...] = ()
    redirects: bool = True
    wait_s: float | None = None

    @property
    def repeatable_body(self) -> bool:
        """Can the body be sent again? A `Source` is begun anew by either wire."""
        return self.content is None or isinstance(self.content, bytes | Source)

    @property
    def idempotent(self) -> bool:
        """May the request be sent again, whatever became of it?"""
        return self.method in policy.IDEMPOTENT and self.repeatable_body

    def accepts(self, status: int) -> bool:
        """Is an answer of this status what was hoped for?"""
        return 200 <= status < 300 or status in self.expect

    def leads_on(self, status: int) -> bool:
        """Is an answer of this status a redirect to be followed?"""
        return self.redirects and status in policy.REDIRECTS


class Reply(Protocol):
    """An answer as a wire library gives it."""

    @property
    def status(self) -> int:
        """HTTP status."""

    @property
    def reason(self) -> str:
        """The status line's words."""

    @property
    def url(self) -> str:
        """What was asked."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Caseless."""

    def drain(self) -> bytes:
        """Give the body's begin and be done: a connection whose body is left is lost."""

    def close(self) -> None:
        """Be done."""


#: Of a body that nobody asked for, as much is read.
MAX_DRAINED_BYTES = 1 << 14
#: A body up to this size is small: it is held in memory.
MAX_SMALL_BYTES = 1 << 16


# -- network errors --------------------------------------------------------------------------------
#
# Faults of the network, said in the same words whichever library met them.


class NotSent(NetworkError):
    """No connection came about, so nothing was sent."""


def unreachable(url: str, said: str) -> NetworkError:
    """Say that no connection came about."""
    return NotSent(
        "The server can't be reached",
        where=url,
        said=said,
        hint="Is the network up, and the address right?",
    )


def untrusted(url: str, said: str) -> NetworkError:
    """Say that the server's certificate was refused; trying again is no use."""
    error = NetworkError(
        "The server's certificate is not one we trust",
        where=url,
        said=said,
        hint="Name the site's CA in CTAFLOWS_CA_FILE. Verification can't be switched off.",
    )
    error.retryable = False
    return error


def silent(url: str, said: str) -> NetworkError:
    """Say that no byte came for too long."""
    return NetworkError("The server went silent", where=url, said=said)
