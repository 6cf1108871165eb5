"""Sending and receiving a file's content, as door and pool do it: ranges, digests, uploads."""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import quote

from ctaflows.sandbox.messages import BLOCK_BYTES, Response
from ctaflows.sandbox.storage import UploadFailed
from ctaflows.storage.checksum import format_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ctaflows.model import Checksum
    from ctaflows.sandbox.messages import Request
    from ctaflows.sandbox.quirks import Quirks
    from ctaflows.sandbox.storage import Storage

_RANGE = re.compile(r"\s*(\d*)-(\d*)\s*")
_BOUNDARY = "__AAAAAAAAAAAAAAAA__"  # HttpPoolRequestHandler.java, dCache 12.1
#: Endings with a known type (Java's content-types.properties); ``.h5`` and ``.fits`` are not known.
_TYPES = {
    ".gif": "image/gif", ".gz": "application/octet-stream", ".htm": "text/html",
    ".html": "text/html", ".jpg": "image/jpeg", ".pdf": "application/pdf", ".png": "image/png",
    ".tar": "application/x-tar", ".txt": "text/plain", ".xml": "application/xml",
    ".zip": "application/zip",
}  # fmt: skip
_SHORT = re.compile(r"adler32=0+(?=[0-9a-f])")


def checksum_text(checksums: tuple[Checksum, ...], quirks: Quirks) -> str:
    """Return checksums in dCache's format, ``adler32=<hex>,md5=<base64>``."""
    text = ",".join(map(format_digest, checksums))
    return _SHORT.sub("adler32=", text) if quirks.short_adler else text


def digest(file: Path, request: Request, storage: Storage, quirks: Quirks) -> str | None:
    """Return the value of the Digest header that a request asks for, or None.

    Want-Repr-Digest takes precedence over Want-Digest and supports neither adler32 nor md5
    (dCache commit b20368c27b, June 2026).
    """
    wanted = request.headers.get("want-digest")
    if not wanted or (quirks.repr_digest_wins and "want-repr-digest" in request.headers):
        return None
    held = {c.algorithm: c for c in storage.checksums(file)}
    best = next((held[name] for name in _ranked(wanted) if name in held), None)
    return checksum_text((best,), quirks) if best else None


def _ranked(wanted: str) -> list[str]:
    """Return adler32 and md5, as far as a Want-Digest header names them, the wanted one first.

    Of two that are wanted alike it is md5 (seen, 12.0.1).
    """
    found = []
    for item in wanted.split(","):
        name, _, quality = item.strip().lower().partition(";q=")
        with contextlib.suppress(ValueError):
            found.append((-float(quality or 1), name != "md5", name))
    return [name for *_, name in sorted(found) if name in ("adler32", "md5")]


def validators(file: Path, storage: Storage) -> dict[str, str]:
    """Return the ETag, Last-Modified and, for known endings, Content-Type headers of a file."""
    modified = formatdate(file.stat().st_mtime, usegmt=True)
    kind = _TYPES.get(file.suffix.lower())
    found = {"ETag": storage.etag(file), "Last-Modified": modified}
    return found | ({"Content-Type": kind} if kind else {})


def send(
    file: Path, request: Request, headers: dict[str, str], only_whole: dict[str, str] | None = None,
    *, takes_any_range: bool = False,
) -> Response:  # fmt: skip
    """Return the response to a GET or HEAD of a file, with the requested ranges (RFC 9110, 14).

    Parameters
    ----------
    file : Path
        The file.
    request : Request
        The request.
    headers : dict
        Headers of the response.
    only_whole : dict, optional
        Headers that a response with a part of the file does not have.
    takes_any_range : bool
        A range behind the end gets 206 without bytes, with a Content-Range that ends before it
        begins; else 416.

    Returns
    -------
    Response
        200, 206 or 416.
    """
    size = file.stat().st_size
    headers = {**headers, "Accept-Ranges": "bytes"}

    def whole() -> Response:
        return Response(200, headers | (only_whole or {}), _blocks(file, 0, size), size)

    asked = _ranges(request.headers.get("range", "").strip(), size)
    if asked is None or request.method == "HEAD":
        return whole()
    spans = [(first, last) for first, last in asked if first < size and first <= last]
    if not spans and takes_any_range:
        empty = headers | {"Content-Range": f"bytes {asked[0][0]}-{size - 1}/{size}"}
        return Response(206, empty)
    if not spans:  # without Content-Range (seen, dCache 11.2.5)
        return Response(416, reason="Invalid (empty) list of valid ranges")
    if len(spans) > 1:
        return _multipart(file, spans, size, headers, whole)
    first, last = spans[0]
    part = headers | {"Content-Range": f"bytes {first}-{last}/{size}"}
    length = last - first + 1
    return Response(206, part, _blocks(file, first, length), length, whole=whole)


def _ranges(text: str, size: int) -> list[tuple[int, int]] | None:
    """Return the first and last byte of each range in a Range header; None if it has none."""
    unit, _, items = text.partition("=")
    found = [_RANGE.fullmatch(item) for item in items.split(",")]
    if unit != "bytes" or any(match is None or match[0].strip() == "-" for match in found):
        return None
    return [_bounds(match[1], match[2], size) for match in found if match]


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(0, size - int(last)), size - 1
    return int(first), min(int(last), size - 1) if last else size - 1


def _multipart(
    file: Path, spans: list[tuple[int, int]], size: int, headers: dict[str, str],
    whole: Callable[[], Response],
) -> Response:  # fmt: skip
    # HttpPoolRequestHandler.java, createMultipartFragmentMarker, dCache 12.1
    marks = [
        f"\r\n--{_BOUNDARY}\r\nContent-Range: bytes {first}-{last}/{size}\r\n\r\n".encode()
        for first, last in spans
    ]
    end = f"\r\n--{_BOUNDARY}--\r\n".encode()

    def blocks() -> Iterator[bytes]:
        for mark, (first, last) in zip(marks, spans, strict=True):
            yield mark
            yield from _blocks(file, first, last - first + 1)
        yield end

    length = sum(last - first + 1 for first, last in spans) + len(b"".join(marks)) + len(end)
    kind = {"Content-Type": f'multipart/byteranges; boundary="{_BOUNDARY}"'}
    return Response(206, headers | kind, blocks(), length, whole=whole)


def _blocks(file: Path, start: int, n_bytes: int) -> Iterator[bytes]:
    with file.open("rb") as stream:
        stream.seek(start)
        while n_bytes > 0 and (block := stream.read(min(BLOCK_BYTES, n_bytes))):
            n_bytes -= len(block)
            yield block


def receive(
    path: str, request: Request, storage: Storage, quirks: Quirks, entry: str | None,
    *, redirected: bool,
) -> Path:  # fmt: skip
    """Store the body of a PUT request and return its local path.

    Parameters
    ----------
    path : str
        The decoded path.
    request : Request
        The request.
    storage : Storage
        Where to store it.
    quirks : Quirks
        Which of dCache's peculiarities to imitate.
    entry : str or None
        What `Storage.begin` returned.
    redirected : bool
        Whether the request came to the pool.

    Returns
    -------
    Path
        Local path of the file.

    Raises
    ------
    UploadFailed
        The body was incomplete, or not what Content-MD5 says.
    """
    return storage.receive(
        path,
        request.body,
        md5=_md5(request.headers.get("content-md5")),
        # beside adler32 a pool computes only what is wanted most (seen, 12.0.1)
        keeps_md5=quirks.has_md5 or _ranked(request.headers.get("want-digest", ""))[:1] == ["md5"],
        entry=entry,
        redirected=redirected,
    )


def _md5(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return base64.b64decode(text, validate=True).hex()
    except binascii.Error as why:
        raise UploadFailed(f"Bad Content-MD5: {why}") from why


def quoted(path: str) -> str:
    """Return a decoded path percent-encoded for a URL."""
    return quote(path, errors="surrogateescape")
