"""Sending and receiving a file's content, as door and pool do it: ranges, digests, uploads."""

from __future__ import annotations

import base64
import binascii
import mimetypes
import re
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import quote

from ctaflows.sandbox.messages import BLOCK_BYTES, Response
from ctaflows.sandbox.storage import UploadFailed
from ctaflows.storage.checksum import format_digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ctaflows.model import Checksum
    from ctaflows.sandbox.messages import Request
    from ctaflows.sandbox.quirks import Quirks
    from ctaflows.sandbox.storage import Storage

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_SHORT = re.compile(r"adler32=0+(?=[0-9a-f])")


def checksum_text(checksums: tuple[Checksum, ...], quirks: Quirks) -> str:
    """Return checksums in dCache's format: ``md5=<base64>,adler32=<hex>`` (11.2.5: reversed)."""
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
    ranked = []
    for item in wanted.split(","):
        name, _, quality = item.strip().lower().partition(";q=")
        try:
            ranked.append((-float(quality or 1), name))
        except ValueError:
            continue
    best = next(
        (held[name] for q, name in sorted(ranked, key=lambda r: r[0]) if name in held), None
    )
    return checksum_text((best,), quirks) if best else None


def validators(file: Path, storage: Storage) -> dict[str, str]:
    """Return the ETag, Last-Modified and Content-Type headers of a file."""
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return {
        "ETag": storage.etag(file),
        "Last-Modified": formatdate(file.stat().st_mtime, usegmt=True),
        "Content-Type": kind,
    }


def send(file: Path, request: Request, headers: dict[str, str]) -> Response:
    """Return the response to a GET or HEAD of a file, with the requested range (RFC 9110, 14).

    A request for several ranges gets the whole file; dCache would send ``multipart/byteranges``.
    Unlike this 416, that of dCache 11.2.5 has no Content-Range.
    """
    size = file.stat().st_size
    headers = {**headers, "Accept-Ranges": "bytes"}

    def whole() -> Response:
        return Response(200, headers, _blocks(file, 0, size), size)

    found = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if not found or request.method == "HEAD" or found[0] == "bytes=-":
        return whole()
    first, last = _bounds(found[1], found[2], size)
    if first >= size or last < first:
        return Response(416, {"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    part = _blocks(file, first, last - first + 1)

    def without_range() -> Response:
        del headers["Content-Range"]
        return whole()

    return Response(206, headers, part, last - first + 1, whole=without_range)


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(0, size - int(last)), size - 1
    return int(first), min(int(last), size - 1) if last else size - 1


def _blocks(file: Path, start: int, n_bytes: int) -> Iterator[bytes]:
    with file.open("rb") as stream:
        stream.seek(start)
        while n_bytes > 0 and (block := stream.read(min(BLOCK_BYTES, n_bytes))):
            n_bytes -= len(block)
            yield block


def receive(path: str, request: Request, storage: Storage, quirks: Quirks) -> Response:
    """Store the body of a PUT request.

    Returns
    -------
    Response
        201 with the pool's text, and a Digest if requested; or 400 with the reason in the status
        line (HttpPoolRequestHandler.java, HttpRequestHandler.java, dCache 12.1).
    """
    try:
        md5 = _md5(request.headers.get("content-md5"))
        keeps_md5 = quirks.has_md5 or "md5" in request.headers.get("want-digest", "").lower()
        file = storage.receive(path, request.body, md5=md5, keeps_md5=keeps_md5)
    except UploadFailed as why:
        storage.abandon(path)
        return Response(400, reason=str(why))
    headers = {}
    if request.headers.get("x-oc-mtime", "").isdigit():
        storage.set_mtime(file, int(request.headers["x-oc-mtime"]))
        headers["X-OC-MTime"] = "accepted"
    if found := digest(file, request, storage, quirks):
        headers["Digest"] = found
    return Response(201, headers, f"{file.stat().st_size} bytes uploaded\r\n".encode())


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
