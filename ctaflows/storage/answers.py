"""Which answers to a GET hold a file that was listed, or the part of it that was asked for.

Any 2xx may come where a file is expected: 202 with a note while a server brings it to disk (davix
0.8 knows and waits for it; dCache 11.2.5 holds the request in its place), 200 with a page of a
proxy or a login. Their bytes are no file's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ctaflows.errors import NotTheFile, SourceChanged, Staging
from ctaflows.transport.policy import origin, retry_after_s

if TYPE_CHECKING:
    from ctaflows.model import Entry
    from ctaflows.transport import Head

#: ETag and Last-Modified of answers, by origin.
Versions = dict[str, list[str | None]]
#: No file has a number of bytes of more digits; `int` takes none of over 4,300.
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.ASCII)


def check_answer(head: Head, entry: Entry, start: int, end: int | None = None) -> None:
    """Raise unless an answer holds the file whole, or exactly the range that was asked for.

    Where the answer does not tell its length (200, chunked), the caller has to compare it.

    Parameters
    ----------
    head : Head
        Status and headers, before the first byte is taken.
    entry : Entry
        The file as it was listed; its size is known.
    start : int
        First byte that was asked for.
    end : int, optional
        First byte no longer asked for; None means the file's end.

    Raises
    ------
    NotTheFile
        It holds something else: nothing of it may be taken.
    Staging
        It says that the file is not on disk yet (202).
    SourceChanged
        It holds a range of a file of another size.
    """
    if head.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
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
            retry_after_s=retry_after_s(head.headers.get("retry-after")),
        )
    else:
        raise NotTheFile(
            "The answer holds no file", where=head.url, said=str(head.status), status=head.status
        )


def is_sized(head: Head) -> bool:
    """Tell whether an answer says how long it is; a Transfer-Encoding wins (RFC 9112 §6.3)."""
    return "content-length" in head.headers and "transfer-encoding" not in head.headers


def _check_length(head: Head, n_bytes: int | None) -> None:
    length = head.headers.get("content-length", "")
    if is_sized(head) and length.strip() != str(n_bytes):
        raise NotTheFile(
            "What came in place of the file is not as long as it",
            where=head.url,
            said=f"{length} bytes, {head.headers.get('content-type', 'of no type')}; "
            f"{n_bytes} bytes were asked for",
            hint="It may be a page of a proxy or a login: is this the right address?",
        )


def _check_range(head: Head, entry: Entry, start: int, end: int | None) -> None:
    said = head.headers.get("content-range", "")
    match = _CONTENT_RANGE.fullmatch(said.strip())
    if match and match[3] not in ("*", str(entry.size_bytes)):
        raise SourceChanged(
            "The file was replaced meanwhile",
            where=entry.path,
            said=f"{match[3]} bytes now, {entry.size_bytes} before",
        )
    if not match or (int(match[1]), int(match[2]) + 1) != (start, end):
        raise NotTheFile(
            "The answer is for another part of the file",
            where=head.url,
            said=f"asked for bytes {start} to {(end or 0) - 1}, got “{said[:80]}”",
        )


def check_version(head: Head, entry: Entry, versions: Versions) -> None:
    """Raise if an answer is of another version of the file than earlier ones of the same server.

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
        Kept for all answers of which the file is made.

    Raises
    ------
    SourceChanged
        They differ.
    """
    version = [head.headers.get("etag"), head.headers.get("last-modified")]
    scheme, host, port = origin(head.url)
    before = versions.setdefault(f"{scheme}://{host}:{port}", version)
    if version != before:
        raise SourceChanged(
            "The file was replaced meanwhile",
            where=entry.path,
            said=f"{version} now, {before} before",
        )
