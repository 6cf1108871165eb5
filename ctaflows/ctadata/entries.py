"""Entries of listings: dictionaries that also read as paths, and names with their path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from email.utils import format_datetime
from typing import Any, Self
from urllib.parse import quote, unquote

from ctaflows.errors import UsageError
from ctaflows.model import Entry

#: What operations take for a path at the storage.
RemotePath = str | os.PathLike[str] | Mapping[str, Any] | Entry


class ListedEntry(dict[str, Any]):
    """A dictionary as ctadata 0.5 and 0.6 gave it, which also reads as the path it describes.

    ``href``, ``url``, ``type``, and as texts ``size`` and ``mtime``, are the service's own; ``in``
    knows keys and parts of the path. Every method of `str` is the path's: the path is decoded, has
    no leading slash, and a directory's ends with one.

    Examples
    --------
    >>> entry = ListedEntry(href="lst/a/run%201.h5", type="file", size="10")
    >>> entry["size"], str(entry), "datacheck" in entry, entry.split("/")[-1]
    ('10', 'lst/a/run 1.h5', False, 'run 1.h5')
    """

    def __str__(self) -> str:
        return unquote(str(self.get("href", "")), errors="surrogateescape")

    def __fspath__(self) -> str:
        return str(self)

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __contains__(self, item: object) -> bool:
        return super().__contains__(item) or (isinstance(item, str) and item in str(self))

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else str(self)[key]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(str(self), name)

    def __eq__(self, other: object) -> bool:
        return str(self) == other if isinstance(other, str) else super().__eq__(other)

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(str(self))

    def __lt__(self, other: object) -> bool:
        return str(self) < str(other)

    def __le__(self, other: object) -> bool:
        return str(self) <= str(other)

    def __gt__(self, other: object) -> bool:
        return str(self) > str(other)

    def __ge__(self, other: object) -> bool:
        return str(self) >= str(other)

    def __add__(self, other: str) -> str:
        return str(self) + other

    def __radd__(self, other: str) -> str:
        return other + str(self)


def listed(entry: Entry, service_url: str) -> ListedEntry:
    """Write an entry as the download service writes it.

    All values are texts, as in PROPFIND's XML; what the storage does not tell is left out. The
    root's own href is empty, and is so called a file (cta-epfl/downloadservice @ 6c84bcf, app.py,
    list_dir).

    Parameters
    ----------
    entry : Entry
        A file or directory.
    service_url : str
        The service.
    """
    href = quote(entry.path.strip("/"), errors="surrogateescape")
    href += "/" if entry.is_dir and href else ""
    texts = {
        "href": href,
        "mtime": format_datetime(entry.mtime, usegmt=True) if entry.mtime else None,
        "size": None if entry.size_bytes is None else str(entry.size_bytes),
        "type": "directory" if href.endswith("/") else "file",
        "url": f"{service_url.rstrip('/')}/list/{href}",
    }
    return ListedEntry({key: text for key, text in texts.items() if text is not None})


class Name(str):
    """A name in a listing of the direct API, which knows its whole path.

    Attributes
    ----------
    path : str
        From the door's root, with a leading slash.
    """

    __slots__ = ("path",)

    path: str

    def __new__(cls, text: str, path: str) -> Self:
        """Make a name of a text, with its path."""
        name = super().__new__(cls, text)
        name.path = path
        return name

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (str(self), self.path))


def remote_path(path: RemotePath) -> str:
    """Return the decoded path of a text, a mapping, an entry or a name from a listing.

    Parameters
    ----------
    path : str or path or mapping or Entry
        What a listing gave, or a path as a person writes it. A text may be percent-encoded, as
        ctadata's listings were; a URL stays one.

    Raises
    ------
    UsageError
        It is none of these.
    """
    if isinstance(path, ListedEntry):
        return str(path)
    if isinstance(path, Name | Entry):
        return path.path
    given: Any = path.get("href") if isinstance(path, Mapping) else path
    text = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not isinstance(text, str):
        raise UsageError("That is no path", where=repr(path))
    text = text.strip()
    return text if "://" in text else unquote(text, errors="surrogateescape")
