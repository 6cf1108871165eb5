"""The download service's listings become entries. Pure: no I/O.

``GET list/PATH`` answers with what PROPFIND of depth 1 gave, as JSON in which all values are texts
(cta-epfl/downloadservice @ 6c84bcf, app.py, list_dir).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from ctaflows.errors import ListingUnreadable, UsageError
from ctaflows.model import Entry
from ctaflows.storage import paths
from ctaflows.storage.propfind import http_date
from ctaflows.transport import origin

_ENDPOINTS = ("list", "fetch", "upload", "webdav")


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of a listing.

    Attributes
    ----------
    raw : dict
        As the service wrote it: ``href``, ``url``, ``type``, and as texts ``size`` and ``mtime``.
    entry : Entry
        The same, read.
    is_itself : bool
        Is it what was asked for, rather than something in it?
    """

    raw: dict[str, Any]
    entry: Entry
    is_itself: bool


def read_listing(path: str, values: Any, *, where: str) -> list[Listed]:
    """Read the answer to ``list/PATH``. Pure.

    Parameters
    ----------
    path : str
        Normalised path that was asked for.
    values : Any
        The JSON.
    where : str
        For errors.

    Raises
    ------
    ListingUnreadable
        It is no list of entries.
    ProtocolSurprise
        An entry lies elsewhere.
    """
    if not isinstance(values, list) or not all(
        isinstance(v, dict) and isinstance(v.get("href"), str) for v in values
    ):
        raise ListingUnreadable("The answer is no listing", where=where)
    found = []
    for raw in values:
        child = paths.child(path, "/" + raw["href"].lstrip("/"))
        # the root's own href is empty, and so called a file (app.py, list_dir)
        is_dir = raw.get("type") == "directory" or raw["href"].strip("/") == ""
        is_dir = is_dir or (child is None and len(values) > 1)
        entry = Entry(
            path=path if child is None else child,
            is_dir=is_dir,
            size_bytes=None if is_dir else whole(raw.get("size")),
            mtime=http_date(raw["mtime"]) if isinstance(raw.get("mtime"), str) else None,
        )
        found.append(Listed(raw, entry, child is None))
    return found


def whole(value: object) -> int | None:
    """Read a number of bytes, which the service writes as a text."""
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def path_at(service_url: str, url: str) -> str:
    """Read an address at a service, such as a listing gives, as a path. Pure.

    Parameters
    ----------
    service_url : str
        The service, without a trailing slash.
    url : str
        The address.

    Raises
    ------
    UsageError
        It is not at this service.
    """
    base = urlsplit(service_url).path + "/"
    try:
        is_here, there = origin(url) == origin(service_url), urlsplit(url).path
    except ValueError:
        is_here, there = False, ""
    endpoint, _, rest = there.removeprefix(base).partition("/")
    if not is_here or not there.startswith(base) or endpoint not in _ENDPOINTS:
        raise UsageError(
            "That address is not at this service", where=url, hint=f"It is {service_url}/."
        )
    return unquote(rest, errors="surrogateescape")
