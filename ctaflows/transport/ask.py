"""One request until it has a good answer: redirects, the token, tries again, pauses.

`ask` is the only place that decides about them, for every journey; what it goes by stands in
`policy` and `retry`. `Session` holds what all requests to one service have in common.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ctaflows.errors import CtaflowsError, ProtocolSurprise, RateLimited, register_secret
from ctaflows.transport import policy
from ctaflows.transport.messages import NotSent, failure_of, had_no_effect, header_line
from ctaflows.transport.wishes import Call, Hop, Pause

if TYPE_CHECKING:
    from ctaflows.retry import Retries
    from ctaflows.settings import Settings
    from ctaflows.transport.messages import TokenSource
    from ctaflows.transport.wishes import Journey, Request, Response

log = logging.getLogger("ctaflows.transport")

#: So long a token that was asked for is sent without asking for it again, seconds.
_FRESH_S = 1.0
_LOOK_AGAIN_S = 0.01
#: The same warning is repeated so seldom, seconds.
_SAY_AGAIN_S = 15.0
#: So long a server that has never answered is tried to be reached, seconds: the address may be
#: wrong, or the network not up.
_FIRST_CONTACT_S = 10.0
_MOST_LINES = 64
#: Numbers, and what Java writes to tell two messages of one kind apart.
_NUMBERS = re.compile(r"[0-9a-fA-F-]*\d[0-9a-fA-F-]*")

_COMMON = (
    b"User-Agent: ctaflows",
    # for text/html a door answers with a page that lacks the reason of an error (dCache 12.1,
    # DcacheHtmlResponseHandler.java)
    b"Accept: text/plain, application/xml;q=0.9, */*;q=0.5",
    b"Accept-Encoding: identity",
    # libcurl would add both. It waits a second for servers that know nothing of Expect
    # (CURLOPT_EXPECT_100_TIMEOUT_MS), and a dCache pool refuses Content-Type with PUT (501, 11.2.5)
    b"Expect:",
    b"Content-Type:",
)


class Slots:
    """A semaphore that costs little where nobody waits.

    Parameters
    ----------
    n : int
        Number of slots.
    """

    def __init__(self, n: int) -> None:
        self._lock = threading.Lock()
        self.n_free = n

    def acquire(self, *, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take a slot, and return whether there was one; `timeout` is in seconds."""
        until = float("inf") if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                if self.n_free > 0:
                    self.n_free -= 1
                    return True
            if not blocking or time.monotonic() >= until:
                return False
            time.sleep(_LOOK_AGAIN_S)

    def release(self) -> None:
        """Give a slot back."""
        with self._lock:
            self.n_free += 1

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()


class Session:
    """What all requests to one service have in common: its token, header lines, settings.

    It may be used by many threads, each with a driver of its own.

    Parameters
    ----------
    settings : Settings
        Timeouts, CA, number of transfers.
    home : str
        URL of the service: the token is sent to its origin only.
    tokens : TokenSource, optional
        Source of bearer tokens; None for a service without them.

    Attributes
    ----------
    token : str or None
        The token that is sent now.
    has_answered : bool
        Did any request succeed? Until then a driver sends one at a time: a token that is not
        accepted is not sent eight times, since a dCache door blocks an address after three 401s
        (webdav.limits.error.*, dCache 12.1; seen with 11.2.5).
    away_since : float or None
        Since when the service has not been reached at all, see `time.monotonic`: thousands of files
        wait for it once, not one after the other. A run of a driver forgets it when it begins.
    slots : Slots
        One for each request that may be on its way, of all drivers together.
    idle : list
        Drivers that nobody uses now, see `driver.borrowed`.
    is_closed : bool
        Are drivers to be closed when they are given back?
    """

    def __init__(self, settings: Settings, home: str, tokens: TokenSource | None = None) -> None:
        self.settings = settings
        self.token: str | None = None
        self.has_answered = False
        self.away_since: float | None = None
        self.slots = Slots(settings.transfers)
        self.idle: list[Any] = []
        self.is_closed = False
        self._tokens = tokens
        self._origin = policy.origin(home)
        parts = urlsplit(home)
        self._prefix = f"{parts.scheme}://{parts.netloc}/"
        self._looked_at = self._busy_until = float("-inf")
        self._looking = 0  # process that looks at the token; one that it forks does not
        self._lines: dict[tuple[tuple[bytes, ...], str | None], list[bytes]] = {}
        self._warned: dict[tuple[str, str], tuple[int, float]] = {}

    def is_home(self, url: str) -> bool:
        """Return whether a URL is of the service's own origin."""
        return url.startswith(self._prefix) or policy.origin(url) == self._origin

    def lines_for(self, hop: Hop) -> list[bytes] | None:
        """Return all header lines of a request; None where the token must be looked at first.

        To be called when it is sent: it may have waited for long since it was wished for.
        """
        if hop.is_home:
            if not self.is_fresh():
                return None
            hop.token = self.token
        request = hop.request
        key = (request.headers, hop.token)
        lines = self._lines.get(key) or self._made_lines(key)
        if request.own:
            lines = [*lines, *request.own]
        wanted = request.sink.range_line() if request.sink is not None else None
        return lines if wanted is None else [*lines, wanted]

    def _made_lines(self, key: tuple[tuple[bytes, ...], str | None]) -> list[bytes]:
        headers, token = key
        own = {_name(line) for line in headers}  # in place of a common one
        lines = [*headers, *(line for line in _COMMON if _name(line) not in own)]
        if token is not None:
            lines.append(header_line(f"Authorization: Bearer {token}"))
        if len(self._lines) >= _MOST_LINES:
            self._lines.clear()
        self._lines[key] = lines
        return lines

    # -- the token -----------------------------------------------------------------------------

    def is_fresh(self) -> bool:
        """Return whether the token was looked at a moment ago, or there is none to look at."""
        return self._tokens is None or time.monotonic() - self._looked_at < _FRESH_S

    def look_again(self) -> None:
        """Have the token looked at before the next request."""
        self._looked_at = float("-inf")

    def look(self) -> None:
        """Look at the token in this thread; where that fails, it is done again when it is sent."""
        self.look_again()
        if self._tokens is not None:
            with contextlib.suppress(CtaflowsError):
                self._take(self._tokens.token())

    def looked_at(self) -> Journey[None]:
        """Have the token looked at, which renews it before its end."""
        while self.is_waiting:
            yield Pause(_LOOK_AGAIN_S)
        if self._tokens is not None and not self.is_fresh():
            yield from self._from_source(Call(self._tokens.token))

    def renewed(self, rejected: str) -> Journey[bool]:
        """Have a token renewed that was not accepted, once for all who sent it.

        Returns
        -------
        bool
            Is there another one now?
        """
        while self.is_waiting:
            yield Pause(_LOOK_AGAIN_S)
        if self.token == rejected and self._tokens is not None:
            yield from self._from_source(Call(self._tokens.renew, rejected))
        return self.token != rejected

    def _from_source(self, call: Call) -> Journey[None]:
        self._looking = os.getpid()
        try:
            self._take((yield call))
        except CtaflowsError as why:
            why.lacks_token = True
            raise
        finally:
            self._looking = 0

    def _take(self, token: str | None) -> None:
        if token is not None:
            register_secret(token)
            self.token, self._looked_at = token, time.monotonic()

    @property
    def is_waiting(self) -> bool:
        """Whether the token is being looked at or renewed, so that no request should be sent."""
        return self._looking != 0 and self._looking == os.getpid()

    # -- pauses of all -------------------------------------------------------------------------

    def pause_all(self, seconds: float) -> None:
        """Send the service nothing for a time: it counts the requests of an address, not of one."""
        self._busy_until = max(self._busy_until, time.monotonic() + seconds)

    def busy_s(self) -> float:
        """Return for how long nothing is to be sent, in seconds."""
        return self._busy_until - time.monotonic()

    def note_reached(self, hop: Hop, answer: Response) -> None:
        """Note whether the service was reached; no pool is it."""
        if not hop.is_home:
            return
        if not isinstance(answer.error, NotSent):
            self.away_since = None
        elif self.away_since is None:
            self.away_since = time.monotonic()

    # -- warnings ------------------------------------------------------------------------------

    def warn(self, error: CtaflowsError, pause_s: float) -> None:
        """Say why something is tried again; each reason seldom, whatever its numbers and path."""
        reason = error.what, _NUMBERS.sub("", error.said or "")
        n, said_at = self._warned.get(reason, (0, float("-inf")))
        now = time.monotonic()
        is_due = now - said_at >= _SAY_AGAIN_S
        self._warned[reason] = n + 1, now if is_due else said_at
        level = logging.WARNING if is_due else logging.DEBUG
        log.log(level, "%s; trying again in %.1f s", error, pause_s)

    def fold_warnings(self) -> None:
        """Say how often each warning would have been repeated, and forget them."""
        warned, self._warned = self._warned, {}
        for (what, _), (n, _) in warned.items():
            if n > 1:
                log.warning("%s: %d times in all", what, n)


def _name(line: bytes) -> bytes:
    return line.partition(b":")[0].lower()


def ask(request: Request, session: Session, retries: Retries) -> Journey[Response]:
    """Send a request until it has a good answer, and return that.

    It begins again at its first URL, since the one that a door redirected to may be of no use any
    more. What the sink has received is not asked for again.

    Parameters
    ----------
    request : Request
        What is sent. It is repeated only if it is safe or PROPFIND, or had no effect for certain.
    session : Session
        The service.
    retries : Retries
        The budget, perhaps shared with other requests of the same operation.

    Raises
    ------
    CtaflowsError
        For a status as `policy.error_for` says; for the network; or what the sink raised.
    """
    url, n_hops, is_renewed = request.shortcut or request.url, 0, False
    is_shortcut = request.shortcut is not None
    mark = 0 if request.sink is None else request.sink.n_received
    while True:
        hop = Hop(request, url, session.is_home(url))
        # a mover of the pool waits already; for a further range it need not wait
        hop.is_urgent = n_hops > 0 or not (hop.is_home or is_shortcut)
        if hop.is_home and (busy_s := session.busy_s()) > 0:
            yield Pause(busy_s)
        answer = yield hop
        if answer is None:
            yield from session.looked_at()
            continue
        session.note_reached(hop, answer)
        if answer.error is None:
            if answer.status in request.good:
                session.has_answered = True
                retries.succeeded()
                return answer  # type: ignore[no-any-return]  # what a Hop gives
            if request.leads_on and answer.status in policy.REDIRECTS:
                url, n_hops = _next(answer, request, session, n_hops), n_hops + 1
                continue
            if answer.status == 401 and hop.token is not None and not is_renewed:
                is_renewed = yield from session.renewed(hop.token)
                if is_renewed:
                    continue
        may_go_home = is_shortcut and getattr(answer.error, "retryable", True)
        is_shortcut = False
        if not may_go_home:
            mark = yield from _paused(request, answer, session, retries, mark)
        url, n_hops, is_renewed = request.url, 0, False


def _paused(
    request: Request, answer: Response, session: Session, retries: Retries, mark: int
) -> Journey[int]:
    """Wait before a request is repeated, or raise what its answer means.

    Parameters
    ----------
    mark : int
        How much the sink had when it last made progress; the new value is returned.
    request, answer, session, retries
        As for `ask`.
    """
    error = answer.error or failure_of(answer, request.method)
    if not isinstance(error, CtaflowsError):
        raise error
    if request.method not in policy.IDEMPOTENT and not had_no_effect(error):
        raise error
    sink, is_progress = request.sink, False
    if sink is not None:
        # to get again what was lost is none: a server that ignores ranges would be asked for ever
        is_progress = sink.n_received - mark >= sink.worth_bytes
        if is_progress:
            mark = sink.n_received
    is_away = isinstance(error, NotSent)
    pause_s = retries.pause_or_raise(
        error,
        progress=is_progress,
        since=session.away_since if is_away else None,
        within_s=_FIRST_CONTACT_S if is_away and not session.has_answered else None,
    )
    session.warn(error, pause_s)
    if isinstance(error, RateLimited) and session.is_home(answer.url):
        session.pause_all(pause_s)  # this journey too, before its next request
    else:
        yield Pause(pause_s)
    session.look_again()  # the token may have ended meanwhile
    return mark


def _next(answer: Response, request: Request, session: Session, n_hops: int) -> str:
    if n_hops == policy.MAX_HOPS:
        raise ProtocolSurprise(f"More than {policy.MAX_HOPS} redirects in a row", where=answer.url)
    return policy.next_hop(
        request.method,
        answer.url,
        answer.header("location"),
        allow_http=session.settings.allow_http_pools,
        status=answer.status,
    )
