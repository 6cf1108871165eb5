"""Checks that an answer to GET holds the file as it was listed, or the requested range of it.

Other answers with a 2xx status occur: 202 while a server stages the file from tape to disk (davix
0.8 waits for it; dCache 11.2.5 delays its answer instead), or 200 with the page of a proxy or a
login. Their bodies must not be written into a file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctaflows.errors import NotTheFile, SourceChanged, Staging
from ctaflows.model import Entry
from ctaflows.storage.propfind import http_date
from ctaflows.transport.policy import origin, retry_after_s

if TYPE_CHECKING:
    from ctaflows.model import Checksum
    from ctaflows.transport import Head
    from ctaflows.transport.wishes import Response

#: ETag and Last-Modified of answers, by origin.
Versions = dict[str, list[str | None]]
#: 19 digits are enough for any file's size; `int` refuses over 4,300.
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.ASCII)


def check_answer(head: Head | Response, entry: Entry, start: int, end: int | None = None) -> None:
    """Raise unless an answer holds the whole file, or exactly the requested range.

    An answer without Content-Length (200, chunked) passes: the caller has to compare the length.

    Parameters
    ----------
    head : Head
        Status and headers of the answer.
    entry : Entry
        The file as it was listed, with a size.
    start : int
        Offset of the first requested byte.
    end : int, optional
        Offset after the last requested byte; None means the end of the file.

    Raises
    ------
    NotTheFile
        The answer holds something else: its body must not be used.
    Staging
        The file is not on disk yet (202).
    SourceChanged
        The answer is a range of a file of another size.
    """
    if (head.header("content-encoding") or "identity").lower() not in ("", "identity"):
        raise NotTheFile("The answer is compressed, which was not asked for", where=head.url)
    if head.status == 206:
        end = entry.size_bytes if end is None else end
        _check_range(head, entry, start, end)
        _check_length(head, (end or 0) - start)
    elif head.status == 200:
        _check_length(head, entry.size_bytes)
    elif head.status == 202:
        raise Staging(
            "The storage has accepted the request, but does not send the file yet",
            where=head.url,
            said="202",
            hint="The file may be on tape, and on its way to disk: try again later.",
            retry_after_s=retry_after_s(head.header("retry-after")),
        )
    else:
        raise NotTheFile(
            "The answer is neither 200 nor 206",
            where=head.url,
            said=str(head.status),
            status=head.status,
        )


def is_sized(head: Head | Response) -> bool:
    """Return whether an answer states its length; Transfer-Encoding wins (RFC 9112 §6.3)."""
    return head.header("content-length") is not None and head.header("transfer-encoding") is None


def _check_length(head: Head | Response, n_bytes: int | None) -> None:
    length = head.header("content-length")
    if length is not None and length.strip() != str(n_bytes) and is_sized(head):
        raise NotTheFile(
            "The answer does not have the length of the file or range",
            where=head.url,
            said=f"{length} bytes, {head.header('content-type') or 'no Content-Type'}; "
            f"{n_bytes} bytes were requested",
            hint="It may be the page of a proxy or a login: check the URL.",
        )


def _check_range(head: Head | Response, entry: Entry, start: int, end: int | None) -> None:
    said = head.header("content-range") or ""
    match = _CONTENT_RANGE.fullmatch(said.strip())
    if match and match[3] not in ("*", str(entry.size_bytes)):
        raise SourceChanged(
            "The file was replaced meanwhile",
            where=entry.path,
            said=f"{match[3]} bytes now, {entry.size_bytes} before",
        )
    if not match or (int(match[1]), int(match[2]) + 1) != (start, end):
        raise NotTheFile(
            "The answer holds another range of the file",
            where=head.url,
            said=f"requested bytes {start} to {(end or 0) - 1}, got “{said[:80]}”",
        )


def check_version(head: Head | Response, entry: Entry, versions: Versions) -> bool | None:
    """Tell whether an answer is of the same version of the file as earlier ones of its server.

    A door and its pools may write ETags each in its own way, so those of one origin are compared; a
    dCache pool's answers carry neither ETag nor Last-Modified (HttpPoolRequestHandler.java, dCache
    12.1; 11.2.5 likewise), a proxying door's 206 has an ETag alone.

    Parameters
    ----------
    head : Head
        The answer.
    entry : Entry
        The file.
    versions : Versions
        Kept for all answers of which the file is made; takes in this one.

    Returns
    -------
    bool or None
        None where it can't be told: it is the first of its server, or they say nothing of it.

    Raises
    ------
    SourceChanged
        They differ.
    """
    scheme, host, port = origin(head.url)
    server = f"{scheme}://{host}:{port}"
    version, before = version_of(head), versions.get(server, [None, None])
    same = _versioned(entry, before).same_file_as(_versioned(entry, version))
    if same is False:
        raise SourceChanged(
            "The file was replaced meanwhile",
            where=entry.path,
            said=f"{version} now, {before} before",
        )
    versions[server] = [old or new for old, new in zip(before, version, strict=True)]
    return same


def version_of(head: Head | Response) -> list[str | None]:
    """Return the ETag and Last-Modified of an answer."""
    return [head.header("etag"), head.header("last-modified")]


def _versioned(entry: Entry, version: list[str | None]) -> Entry:
    etag, last_modified = version
    return Entry(entry.path, etag=etag, mtime=http_date(last_modified))


@dataclass(frozen=True, slots=True)
class Written:
    """What a storage says of a file that it was sent.

    Attributes
    ----------
    path : str
        Where the file is, from the root.
    size_bytes : int or None
        How many bytes it says it wrote.
    checksums : tuple of Checksum
        Of what arrived, as far as it tells.
    server : str or None
        Its name.
    keeps_time : bool
        Does it say that it keeps the time that was sent?
    """

    path: str
    size_bytes: int | None = None
    checksums: tuple[Checksum, ...] = ()
    server: str | None = None
    keeps_time: bool = False
