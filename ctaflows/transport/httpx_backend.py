"""The httpx backend: control requests. No other module imports httpx or sees its exceptions."""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
import sys
import threading
import types
from typing import TYPE_CHECKING, cast

from ctaflows.errors import CtaflowsError, NetworkError, ProtocolSurprise, redact
from ctaflows.transport import policy
from ctaflows.transport.messages import (
    MAX_DRAINED_BYTES,
    silent,
    unreachable,
    untrusted,
    unusable_proxy,
)
from ctaflows.transport.tls_context import receiving_head, ssl_context

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ctaflows.settings import Settings
    from ctaflows.transport.messages import Request, Source

# -- imports that httpx does not need --------------------------------------------------------------
#
# httpx 0.28 imports its own command line, and with it rich and pygments; httpcore 1.0 imports h2
# where that is installed, though HTTP/2 is off: together a third of the start-up time of
# `ctaflows ls`. HTTP/2 still works for others in this process, such as Prefect's client: httpcore
# imports its modules again when a connection uses it.


def _no_command_line() -> None:
    sys.exit("This is ctaflows' process; run httpx in one of its own.")


_stub = types.ModuleType("httpx._main")
_stub.main = _no_command_line  # type: ignore[attr-defined]
sys.modules.setdefault("httpx._main", _stub)

_HTTP2 = {
    "httpcore._sync.http2": "HTTP2Connection",
    "httpcore._async.http2": "AsyncHTTP2Connection",
}
if "httpcore" not in sys.modules:
    for _module, _name in _HTTP2.items():
        _stub = types.ModuleType(_module)
        setattr(_stub, _name, type(_name, (), {}))
        sys.modules[_module] = _stub
try:
    import httpcore  # noqa: F401
finally:
    for _module in _HTTP2:
        if not hasattr(sys.modules.get(_module), "__file__"):
            sys.modules.pop(_module, None)

import httpx  # noqa: E402  after the modules above have been replaced

# -- one request -----------------------------------------------------------------------------------

_BLOCK_BYTES = 1 << 20


class HttpxWire:
    """An HTTP client over httpx that sends each request once, and returns any response.

    Parameters
    ----------
    settings : Settings
        CA and timeouts.
    headers : Mapping
        Headers of all requests.
    """

    def __init__(self, settings: Settings, headers: Mapping[str, str]) -> None:
        redact_logs()
        self._settings = settings
        self._headers = dict(headers)
        self._context = ssl_context(settings)
        self._clients: dict[policy.Proxy | None, httpx.Client] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for client in self._clients.values():
                client.close()

    def _client(self, proxy: policy.Proxy | None) -> httpx.Client:
        """Give the client for a proxy, or for none, made when it is first needed."""
        with self._lock:
            if proxy not in self._clients:
                self._clients[proxy] = self._made(proxy)
            return self._clients[proxy]

    def _made(self, proxy: policy.Proxy | None) -> httpx.Client:
        try:
            return httpx.Client(
                verify=self._context,
                follow_redirects=False,
                timeout=self._timeout(self._settings.stall_timeout_s),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
                headers=self._headers,
                # httpx 0.28 reads proxies for all addresses at once, so that one that it can't use
                # fails them all, and its NO_PROXY knows no networks (encode/httpx#3221)
                trust_env=False,
                proxy=None if proxy is None else proxy.url,
            )
        except (ValueError, ImportError, httpx.InvalidURL) as why:  # ImportError: no socksio
            if proxy is None:
                raise
            raise unusable_proxy(proxy, str(why)) from None

    def _timeout(self, wait_s: float) -> httpx.Timeout:
        connect_s = self._settings.connect_timeout_s
        return httpx.Timeout(wait_s, connect=connect_s, pool=None)

    def send(self, url: str, request: Request, token: str | None) -> HttpxReply:
        """Send a request; return the response, whose body has not been read.

        Parameters
        ----------
        url : str
            The URL.
        request : Request
            The request.
        token : str or None
            Bearer token.

        Raises
        ------
        NetworkError
            There was no response.
        """
        headers = dict(request.headers)
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        proxy = policy.proxy_for(url, os.environ)
        with translated(url, proxy):
            client = self._client(proxy)
            built = client.build_request(
                request.method, url, headers=headers, content=_content(request.content),
                timeout=self._timeout(request.wait_s or self._settings.stall_timeout_s),
            )  # fmt: skip
            with receiving_head():
                response = client.send(built, stream=True)
            client.cookies.clear()  # cookies are sent to all ports of a host (RFC 6265 §8.5)
            return HttpxReply(response)


class HttpxReply:
    """A response whose body is received while it is read."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status: int = response.status_code
        self.reason: str = response.reason_phrase
        self.url = str(response.url)
        self.headers: Mapping[str, str] = response.headers

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it is received; a NetworkError has ``in_body`` set."""
        try:
            with translated(self.url):
                yield from self._response.iter_raw()
        except NetworkError as why:
            why.in_body = True
            raise

    def drain(self) -> bytes:
        """Return up to about 16 KiB of the body, and close the response."""
        text = bytearray()
        try:
            for chunk in self._response.iter_raw():
                text += chunk
                if len(text) > MAX_DRAINED_BYTES:
                    break
        except httpx.HTTPError:
            pass  # the part received will do
        finally:
            self.close()
        return bytes(text)

    def close(self) -> None:
        """Return the connection to the pool; it is closed if the body was not read."""
        self._response.close()


def _content(body: bytes | Source | Iterable[bytes] | None) -> bytes | Iterable[bytes] | None:
    if body is None or isinstance(body, bytes) or not hasattr(body, "read"):
        return body
    return _blocks(cast("Source", body))


def _blocks(source: Source) -> Iterator[bytes]:
    source.rewind()
    while block := source.read(_BLOCK_BYTES):
        yield block


@contextlib.contextmanager
def translated(url: str, proxy: policy.Proxy | None = None) -> Iterator[None]:
    """Translate httpx's exceptions, raised in the block, into ours."""
    try:
        yield
    except httpx.HTTPError as why:
        raise _ours(why, url, proxy) from None
    except httpx.InvalidURL as why:
        raise ProtocolSurprise("Not an address", where=url, said=str(why)) from None


def _ours(why: httpx.HTTPError, url: str, proxy: policy.Proxy | None) -> CtaflowsError:
    cause: BaseException | None = why
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        return untrusted(url, cause.verify_message)
    said = str(why) or type(why).__name__
    if isinstance(why, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        return unreachable(url, said, proxy)
    if isinstance(why, httpx.TimeoutException):
        return silent(url, said)
    return NetworkError("The connection broke", where=url, said=said)


# -- logs of httpx ---------------------------------------------------------------------------------
#
# httpx 0.28 logs each URL at INFO, and a pool's URL grants access by itself; httpcore 1.0 logs
# response headers, also Location, at DEBUG.

_LOGGERS = ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.http2", "httpcore.proxy")


class _Redacted(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        return True


_filter = _Redacted()


def redact_logs() -> None:
    """Redact what httpx and httpcore log in this process. May be called again."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_filter)
