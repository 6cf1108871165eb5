"""What each fault does to an exchange: instead of an answer, or to the answer on its way."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import re
import time
from typing import TYPE_CHECKING

from ctaflows.sandbox import faults as kinds
from ctaflows.sandbox.messages import Hangup, Response

if TYPE_CHECKING:
    import threading
    from collections.abc import Generator, Iterator

    from ctaflows.sandbox.faults import Fault
    from ctaflows.sandbox.messages import Request

_MOVED_METHODS = ("GET", "PUT")
_TEXTS = {
    401: "Permission denied",
    403: "Permission denied",
    429: "Server is busy, please try again later",
    500: "Internal problem: Server is busy (internal timeout)",
    502: "Bad gateway",
    503: "Service unavailable",
    507: "No space left on any pool",
}
_ADLER32 = re.compile(r"(?i)(adler32=[0-9a-f]*)([0-9a-f])")
_MD5 = re.compile(r"(?i)md5=[A-Za-z0-9+/=]+")
_CHECKSUMS = re.compile(r"<(\w+:)?Checksums>[^<]*</(\w+:)?Checksums>")
_DRIP_S = 0.05


def strikes_early(fault: Fault, server: str, request: Request) -> bool:
    """Tell whether a fault replaces the answer, so that nothing is done."""
    if fault.name in kinds.STATUSES or fault.name in ("hang", "html"):
        return True
    if fault.name in kinds.REDIRECTS:
        return request.method in _MOVED_METHODS and (server == "door" or fault.server == server)
    if fault.name in kinds.LISTINGS:
        return request.method == "PROPFIND"
    if fault.name == "reset":
        return server == "issuer" or request.method not in ("GET", "PUT", "PROPFIND")
    return False


def strikes_late(fault: Fault, server: str, request: Request, response: Response) -> bool:
    """Tell whether a fault suits an answer that is ready.

    A fault that names no server passes over the door's redirects: it is meant for the bytes.
    """
    if response.is_redirect and fault.server != server:
        return False
    if fault.name == "ignore_range":
        return response.whole is not None
    if fault.name in kinds.DIGESTS:
        return "Digest" in response.headers or (
            isinstance(response.body, bytes) and b"Checksums>" in response.body
        )
    if response.status >= 400:
        return False
    if fault.name in kinds.BODIES:
        return response.n_bytes > 0 and request.method != "HEAD"
    return fault.name in ("lost", "reset")


def instead(fault: Fault, request: Request, closing: threading.Event) -> Response:
    """Give the answer that a fault puts in place of the right one."""
    if fault.name == "hang":
        closing.wait(fault.hang_s)
        raise Hangup(reset=False)
    if fault.name == "reset":
        raise Hangup(reset=True)
    if fault.name == "html":
        page = b"<!DOCTYPE html><html><body><h1>Welcome to the site's portal</h1></body></html>"
        return Response(200, {"Content-Type": "text/html;charset=utf-8"}, page)
    if fault.name in kinds.REDIRECTS:
        return _redirect(fault.name, request)
    if fault.name in kinds.LISTINGS:
        headers = {"Content-Type": "application/xml; charset=utf-8"}
        return Response(207, headers, wrong(fault.name, request.target))
    return _status(fault, request)


def _status(fault: Fault, request: Request) -> Response:
    status = int(fault.name)
    text = _TEXTS[status]
    headers = {"Content-Type": "text/plain"}
    if fault.retry_after_s is not None or status == 429:
        headers["Retry-After"] = str(fault.retry_after_s or 0)
    if status == 401:
        return Response(401, {"WWW-Authenticate": 'Basic realm="dCache"'}, reason=text)
    return Response(status, headers, b"" if request.method == "HEAD" else text.encode() + b"\n")


def _redirect(name: str, request: Request) -> Response:
    host = request.headers.get("host", "localhost")
    location = {
        "redirect_elsewhere": f"https://localhost:1{request.target}",
        "redirect_http": f"http://{host}{request.target}",
        "redirect_loop": f"https://{host}{request.target}",
    }[name]
    return Response(302 if request.method == "GET" else 307, {"Location": location})


def spoil(fault: Fault, request: Request, response: Response, closing: threading.Event) -> Response:
    """Let a fault befall an answer."""
    if fault.name == "lost":
        raise Hangup(reset=True)
    if fault.name == "ignore_range" and response.whole is not None:
        return response.whole()
    if fault.name in kinds.DIGESTS:
        return _without_digest(response) if fault.name == "no_digest" else _bad_digest(response)
    if fault.name == "reset" and (response.n_bytes == 0 or request.method == "PUT"):
        raise Hangup(reset=True)
    half = response.n_bytes // 2
    blocks = response.blocks()
    length = half if fault.name == "wrong_length" else response.n_bytes
    spoilt = {
        "reset": lambda: _cut(blocks, half, Hangup(reset=True)),
        "truncate": lambda: _cut(blocks, half, Hangup(reset=False)),
        "wrong_length": lambda: _cut(blocks, half, None),
        "flip": lambda: _flipped(blocks, half),
        "slow": lambda: _dripped(blocks, fault.rate_bytes_s, closing),
    }[fault.name]()
    return dataclasses.replace(response, body=spoilt, length=length)


def _without_digest(response: Response) -> Response:
    headers = {k: v for k, v in response.headers.items() if k != "Digest"}
    body = response.body
    if isinstance(body, bytes):
        body = _CHECKSUMS.sub("", body.decode()).encode()
    return dataclasses.replace(response, headers=headers, body=body)


def _bad_digest(response: Response) -> Response:
    headers = {k: _wrong(v) if k == "Digest" else v for k, v in response.headers.items()}
    body = response.body
    if isinstance(body, bytes):
        body = _wrong(body.decode()).encode()
    return dataclasses.replace(response, headers=headers, body=body)


def _wrong(text: str) -> str:
    text = _ADLER32.sub(lambda m: f"{m[1]}{int(m[2], 16) ^ 1:x}", text)
    return _MD5.sub(f"md5={base64.b64encode(bytes(16)).decode()}", text)


def _cut(blocks: Generator[bytes], n_bytes: int, ending: Hangup | None) -> Iterator[bytes]:
    with contextlib.closing(blocks) as source:
        left = n_bytes
        for block in source:
            yield block[:left]
            left -= min(left, len(block))
            if not left:
                break
    if ending is not None:
        raise ending


def _flipped(blocks: Generator[bytes], position: int) -> Iterator[bytes]:
    with contextlib.closing(blocks) as source:
        for block in source:
            if 0 <= position < len(block):
                changed = bytearray(block)
                changed[position] ^= 1
                yield bytes(changed)
            else:
                yield block
            position -= len(block)


def _dripped(
    blocks: Generator[bytes], rate_bytes_s: int, closing: threading.Event
) -> Iterator[bytes]:
    start, n_sent = time.monotonic(), 0
    step = max(1, int(rate_bytes_s * _DRIP_S))
    with contextlib.closing(blocks) as source:
        for block in source:
            for i in range(0, len(block), step):
                yield block[i : i + step]
                n_sent += len(block[i : i + step])
                if closing.wait(max(0.0, start + n_sent / rate_bytes_s - time.monotonic())):
                    raise Hangup(reset=False)


# -- listings --------------------------------------------------------------------------------------
#
# Listings that no door should give, and that a client must survive.

_HEAD = '<?xml version="1.0" encoding="utf-8"?>\n'
_DIRECTORY = "<d:resourcetype><d:collection/></d:resourcetype>"
_FILE = "<d:resourcetype/><d:getcontentlength>4</d:getcontentlength>"

#: Names that would leave the place where a listing is copied to, or are none.
HOSTILE = (
    "../../etc/passwd",
    "%2e%2e/%2e%2e/etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "/etc/passwd",
    "https://elsewhere.example/other-host.h5",
    "nul%00byte.h5",
    "%2e%2e",
)


def _response(href: str, properties: str) -> str:
    return (
        f"<d:response><d:href>{href}</d:href><d:propstat><d:prop>{properties}</d:prop>"
        "<d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>"
    )


def wrong(name: str, target: str) -> bytes:
    """Give the multistatus of a fault.

    Parameters
    ----------
    name : str
        ``empty207``, ``garbage_xml``, ``xml_bomb`` or ``hostile_names``.
    target : str
        Raw path of the directory.
    """
    directory = target.partition("?")[0].rstrip("/") + "/"
    itself = _response(directory, _DIRECTORY)
    if name == "empty207":
        responses = itself
    elif name == "garbage_xml":
        return f'{_HEAD}<d:multistatus xmlns:d="DAV:">{itself}<d:response><d:href>'.encode()
    elif name == "xml_bomb":
        return _bomb(directory)
    else:
        hrefs = [h if h.startswith(("/", "https:")) else directory + h for h in HOSTILE]
        responses = itself + "".join(_response(h, _FILE) for h in hrefs)
    return f'{_HEAD}<d:multistatus xmlns:d="DAV:">{responses}</d:multistatus>'.encode()


def _bomb(directory: str) -> bytes:
    entities = ['<!ENTITY a0 "ha">']
    entities += [f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10)]
    bomb = _response(directory + "&a9;", _FILE)
    doctype = f"<!DOCTYPE d:multistatus [{''.join(entities)}]>"
    return f'{_HEAD}{doctype}<d:multistatus xmlns:d="DAV:">{bomb}</d:multistatus>'.encode()
