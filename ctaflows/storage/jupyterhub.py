"""HTTP services of a JupyterHub: authentication by its token, detection of login pages, errors.

Observed in app.py of cta-epfl/downloadservice @ 6c84bcf and of cta-epfl/certificateservice. Both
accept the token as ``Authorization: Bearer`` and in the URL, where it is never put here. They
answer a request without a valid token with a redirect to the login page, or with 401 and JSON if
its Content-Type is JSON.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from ctaflows.auth.tokens import is_token
from ctaflows.errors import AuthError, CtaflowsError, ProtocolSurprise, Refused, UsageError
from ctaflows.retry import Retries
from ctaflows.transport import REDIRECTS, Transport
from ctaflows.transport.ask import Session, ask
from ctaflows.transport.driver import close_idle
from ctaflows.transport.wishes import READ, Request

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ctaflows.settings import Settings
    from ctaflows.transport import Source, Stream, TokenSource
    from ctaflows.transport.wishes import BodySink, Journey, Response

_JSON_LINE = (b"Content-Type: application/json",)
#: Redirects are answers here: to the page of a login.
_NO_LOGIN = READ | REDIRECTS
JSON = {"Content-Type": "application/json"}
_MAX_BODY_BYTES = 256 << 20
LOGIN = (
    "Set JUPYTERHUB_API_TOKEN to a token of that hub (its control panel, Token), and check "
    "the service's address."
)
_CERTIFICATE = (
    "The service reads the storage with your proxy certificate: renew it with `ctaflows "
    "certificate upload FILE`, or ask to use the shared one."
)


class Service:
    """A client of one service of a JupyterHub; may be used by many threads.

    Parameters
    ----------
    settings : Settings
        CA, timeouts, number of attempts.
    url : str
        URL of the service, such as ``https://platform.cta.cscs.ch/services/downloadservice/``.
    token : str
        A JupyterHub API token.

    Attributes
    ----------
    url : str
        URL of the service, without a trailing slash.
    tokens : TokenSource or None
        Of that token, for further connections.

    Raises
    ------
    UsageError
        `url` is not the URL of a service.
    AuthError
        `token` is not a token.
    """

    def __init__(self, settings: Settings, url: str, token: str) -> None:
        self.settings = settings
        self.url = _address(url)
        self._token = token.strip()
        if not is_token(self._token):
            raise AuthError("That is not a JupyterHub token", hint=LOGIN)
        self.tokens: TokenSource | None = _Fixed(self._token)
        self.transport = Transport(settings, self.url, self.tokens)
        self.session = Session(settings, self.url, self.tokens)

    def close(self) -> None:
        """Close all connections."""
        self.transport.close()
        close_idle(self.session)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @contextlib.contextmanager
    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | Source | None = None,
    ) -> Iterator[Stream]:
        """Send a request, and yield its answer once the headers have arrived.

        Redirects are not followed: the services send none but that to the login page.

        Parameters
        ----------
        method, url : str
            The request.
        headers : Mapping, optional
            Further headers; Content-Type is JSON by default.
        content : bytes or Source, optional
            The body.

        Raises
        ------
        Refused
            The answer is a redirect or an HTML page, so a login is needed.
        CtaflowsError
            As for `transport.Transport.stream`.
        """
        try:
            with self.transport.stream(
                method, url, headers={**JSON, **(headers or {})}, content=content, redirects=False
            ) as got:
                _refuse_login(got)
                yield got
        except CtaflowsError as why:
            explain(why)
            raise

    def reading(self, url: str, sink: BodySink, retries: Retries) -> Journey[Response]:
        """GET a URL into a sink; a journey.

        Parameters
        ----------
        url : str
            What to read.
        sink : BodySink
            Gets the head of the answer, then the bytes.
        retries : Retries
            The budget.

        Raises
        ------
        CtaflowsError
            As for `stream`.
        """
        request = Request(
            "GET", url, _JSON_LINE, sink=_NoPage(sink), good=_NO_LOGIN, leads_on=False
        )
        try:
            return (yield from ask(request, self.session, retries))
        except CtaflowsError as why:
            explain(why)
            raise

    def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | Source | None = None,
    ) -> Any:
        """Return the JSON value in the answer to a request.

        Parameters
        ----------
        method, url, headers, content
            As for `stream`.

        Raises
        ------
        ProtocolSurprise
            The answer is not JSON, or is longer than 256 MiB.
        CtaflowsError
            As for `stream`.
        """
        body = bytearray()
        with self.stream(method, url, headers=headers, content=content) as got:
            for chunk in got.chunks():
                body += chunk
                if len(body) > _MAX_BODY_BYTES:
                    raise ProtocolSurprise("The answer is too long", where=url)
        return _value(url, bytes(body))

    def posting(self, url: str, body: bytes | Source) -> Journey[Any]:
        """POST a body, and return the JSON value in the short answer, at most 16 KiB; a journey.

        Parameters
        ----------
        url : str
            Where to.
        body : bytes or Source
            What is sent.

        Raises
        ------
        CtaflowsError
            As for `ask`.
        """
        request = Request("POST", url, _JSON_LINE, body=body, good=_NO_LOGIN, leads_on=False)
        try:
            answer = yield from ask(request, self.session, Retries(self.settings))
            _refuse_login(answer)
        except CtaflowsError as why:
            explain(why)
            raise
        return _value(url, answer.body)


def _value(url: str, body: bytes) -> Any:
    """Return the JSON value in the body of an answer."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ProtocolSurprise(
            "The service's answer is not JSON",
            where=url,
            said=body[:80].decode("utf-8", "replace"),
            hint="Is this the service? Check its address.",
        ) from None


class _Fixed:
    """A `transport.TokenSource` of one token, which can't be renewed."""

    def __init__(self, token: str) -> None:
        self._token = token

    def token(self) -> str:
        return self._token

    def renew(self, rejected: str) -> str | None:
        return None


class _NoPage:
    """A sink that refuses a login page, to which the service may redirect."""

    def __init__(self, sink: BodySink) -> None:
        self._sink = sink
        self.write, self.ended, self.range_line = sink.write, sink.ended, sink.range_line
        self.worth_bytes = sink.worth_bytes

    @property
    def n_received(self) -> int:
        """As of the sink."""
        return self._sink.n_received

    def begin(self, answer: Response) -> None:
        """Look at the headers."""
        _refuse_login(answer)
        self._sink.begin(answer)


def _address(url: str) -> str:
    try:
        parts = urlsplit(url.strip())
        valid = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or any(c in "@?#" or c.isspace() for c in url.strip()):
        raise UsageError(
            "That is not the URL of a service",
            where=url,
            hint="Write it as https://HUB/services/downloadservice/, in CTADS_URL or CTACS_URL.",
        )
    return url.strip().rstrip("/")


def _refuse_login(got: Response | Stream) -> None:
    """Raise `Refused` if an answer is a redirect, or an HTML page: both mean a login."""
    if 300 <= got.status < 400:
        location = got.headers.get("location", "nowhere").partition("?")[0]
        raise Refused(
            "The service asks for a login",
            where=got.url,
            said=f"{got.status} to {location}",
            hint=LOGIN,
            status=got.status,
        )
    if got.headers.get("content-type", "").lower().startswith("text/html"):
        raise Refused(
            "A page came in place of the answer, perhaps a login page",
            where=got.url,
            hint=LOGIN,
            status=got.status,
        )


def explain(why: CtaflowsError) -> None:
    """Put an error in the words of these services.

    Their messages are in JSON, or in the reason phrase and in text (app.py of each, as above): 500
    if the proxy certificate with which they read the storage is missing or expired, 403 for uploads
    outside of the user's own directory, 400 for ``..`` in a path, 405 for MOVE and DELETE.
    """
    said = why.said or ""
    if "{" in said:
        said = _message(said)
    said = said.partition("<")[0].strip()
    why.said = said or None
    if why.status == 401:
        why.what, why.hint = "The service does not accept the JupyterHub token", LOGIN
    elif why.status == 403:
        why.hint = (
            "The token or its user lacks this permission; uploads go below your own directory only."
        )
    elif why.status in (400, 405, 409):
        why.what = "The service refuses this request"
        why.hint = _CERTIFICATE if "certificate" in said.lower() else why.hint
    elif why.status == 404 and "Error" not in said:  # an answer of the hub, not of the service
        why.hint = "Check the path, and the service's address in CTADS_URL or CTACS_URL."
    elif why.status == 500 and "certificate" in said.lower():
        why.hint = _CERTIFICATE


def _message(said: str) -> str:
    """Return a text such as ``401 {"message": "…"}`` with the message in place of the JSON."""
    head, _, rest = said.partition("{")
    try:
        return f"{head}{json.loads('{' + rest)['message']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return said
