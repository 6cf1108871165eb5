"""Services behind a JupyterHub: its token in a header, its login page, its way to tell errors.

Observed: cta-epfl/downloadservice @ 6c84bcf and cta-epfl/certificateservice (app.py). Both take the
token as ``Authorization: Bearer`` as well as in the URL, where it has no business. Who is not known
is sent to a login page, or told 401 in JSON where the request says that its content is JSON.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from ctaflows.auth.tokens import is_token
from ctaflows.errors import AuthError, CtaflowsError, ProtocolSurprise, Refused, UsageError
from ctaflows.transport import Transport

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Iterator, Mapping

    from ctaflows.settings import Settings
    from ctaflows.transport import Head, Sink, Stream

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
    """A service of a JupyterHub, asked with one token.

    Parameters
    ----------
    settings : Settings
        CA, timeouts, number of tries.
    url : str
        The service, such as ``https://platform.cta.cscs.ch/services/downloadservice/``.
    token : str
        The hub's token.

    Attributes
    ----------
    url : str
        Without a trailing slash.

    Raises
    ------
    UsageError
        The address is none.
    AuthError
        The token is none.
    """

    def __init__(self, settings: Settings, url: str, token: str) -> None:
        self.settings = settings
        self.url = _address(url)
        self._token = token.strip()
        if not is_token(self._token):
            raise AuthError("What is given is no JupyterHub token", hint=LOGIN)
        self.transport = Transport(settings, self.url, _Fixed(self._token))

    def close(self) -> None:
        """Close all connections."""
        self.transport.close()

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
        content: bytes | Iterable[bytes] | None = None,
    ) -> Iterator[Stream]:
        """Send a request and give its answer once the headers are there.

        A redirect is not followed: the services know none but that to the login page.

        Raises
        ------
        Refused
            The service wants a login, or does not accept the token.
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

    def read_into(self, url: str, sink: Sink, *, stop: threading.Event | None = None) -> Head:
        """Read an answer's body into a sink, the fastest way there is.

        Raises
        ------
        CtaflowsError
            As for `stream`.
        """
        try:
            return self.transport.receive(url, _NoPage(sink, url), headers=JSON, stop=stop)
        except CtaflowsError as why:
            explain(why)
            raise

    def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | Iterable[bytes] | None = None,
    ) -> Any:
        """Send a request and read its answer as JSON.

        Raises
        ------
        ProtocolSurprise
            It is none.
        CtaflowsError
            As for `stream`.
        """
        body = bytearray()
        with self.stream(method, url, headers=headers, content=content) as got:
            for chunk in got.chunks():
                body += chunk
                if len(body) > _MAX_BODY_BYTES:
                    raise ProtocolSurprise("The answer has no end", where=url)
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise ProtocolSurprise(
                "The service's answer is no JSON",
                where=url,
                said=bytes(body[:80]).decode("utf-8", "replace"),
                hint="Is this the service? Check its address.",
            ) from None


class _Fixed:
    """A `transport.TokenSource` of one token, which nobody can renew but a person."""

    def __init__(self, token: str) -> None:
        self._token = token

    def token(self) -> str:
        return self._token

    def renew(self, rejected: str) -> str | None:
        return None


class _NoPage:
    """A sink that takes no login page for a file; redirects were followed before it is asked."""

    def __init__(self, sink: Sink, url: str) -> None:
        self._sink, self._url = sink, url
        self.take = sink.take

    def begin(self, head: Head) -> None:
        _refuse_login(head)
        self._sink.begin(head)


def _address(url: str) -> str:
    try:
        parts = urlsplit(url.strip())
        valid = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or any(c in "@?#" or c.isspace() for c in url.strip()):
        raise UsageError(
            "That is no address of a service",
            where=url,
            hint="Write it as https://HUB/services/downloadservice/, in CTADS_URL or CTACS_URL.",
        )
    return url.strip().rstrip("/")


def _refuse_login(got: Head | Stream) -> None:
    """Raise if an answer sends to the login page, or is one, see above."""
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
            "A page came in place of the answer, perhaps one to log in",
            where=got.url,
            hint=LOGIN,
            status=got.status,
        )


def explain(why: CtaflowsError) -> None:
    """Put an error in the words of these services.

    What they say stands in JSON, or in the status line and in text (app.py of each, as above): 500
    where the proxy certificate by which they read the storage is missing or over, 403 for uploads
    beside one's own directory, 400 for ``..`` in a path, 405 for MOVE and DELETE.
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
            "The token, or you, lack this right; files are written below your own directory only."
        )
    elif why.status in (400, 405, 409):
        why.what = "The service does not take this"
        why.hint = _CERTIFICATE if "certificate" in said.lower() else why.hint
    elif why.status == 404 and "Error" not in said:  # the hub's own, not the service's
        why.hint = "Check the path, and the service's address in CTADS_URL or CTACS_URL."
    elif why.status == 500 and "certificate" in said.lower():
        why.hint = _CERTIFICATE


def _message(said: str) -> str:
    """Read ``401 {"message": "…"}`` as a text."""
    head, _, rest = said.partition("{")
    try:
        return f"{head}{json.loads('{' + rest)['message']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return said
