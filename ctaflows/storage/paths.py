"""Paths at a door: decoded, absolute, and never out of the place they are said to be in."""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from ctaflows.errors import ProtocolSurprise, UsageError
from ctaflows.transport import origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_MAX_NAME_BYTES = 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
#: A path that is what `normalise` would make of it; no part of it begins with a dot.
_NORMAL = re.compile(r"(?:/[^./\x00-\x1f\x7f\ud800-\udfff][^/\x00-\x1f\x7f\ud800-\udfff]*)+")


def normalise(text: str, door_url: str) -> str:
    """Turn what a person writes into a path from the door's root.

    Parameters
    ----------
    text : str
        ``cta/DL1/20241114``, with or without slashes at the ends, or a whole URL at the door.
    door_url : str
        URL of the door.

    Returns
    -------
    str
        Such as ``/cta/DL1/20241114``; ``/`` is the root.

    Raises
    ------
    UsageError
        A URL elsewhere, a ``..``, a character no path can hold.
    """
    path = text
    if _NORMAL.fullmatch(text):
        return text
    if text.startswith(("https://", "http://")):
        if not _is_at(door_url, text):
            raise UsageError(
                "That address is not at this profile's door", where=text, hint=f"It is {door_url}."
            )
        path = unquote(urlsplit(text).path)
    try:  # an argument on a terminal without letters comes as bytes in disguise (PEP 383)
        path = path.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise UsageError("That is no text", where=ascii(text)) from None
    parts = [p for p in path.split("/") if p not in ("", ".")]
    if ".." in parts or _CONTROL.search(path):
        raise UsageError("A remote path can't hold .. or control characters", where=repr(text))
    return "/" + "/".join(parts)


def url(door_url: str, path: str) -> str:
    """Give the URL of a normalised path."""
    return door_url + quote(path, safe="/-._~", errors="surrogateescape")


def _is_at(door_url: str, text: str) -> bool:
    try:
        return origin(text) == origin(door_url) and "@" not in urlsplit(text).netloc
    except ValueError:
        return False


def child(parent: str, href: str) -> str | None:
    """Read the href of a listing of depth 1.

    Parameters
    ----------
    parent : str
        Normalised path that was listed.
    href : str
        As the server wrote it: percent-encoded (dCache writes even ``&`` as ``%26``,
        DefaultPropFindPropertyBuilder.java, Milton 2.7.3), a path or a whole URL (StoRM WebDAV
        1.8.1).

    Returns
    -------
    str or None
        Normalised path of the child, or None for the parent itself.

    Raises
    ------
    ProtocolSurprise
        The href names something that is neither: a listing must not lead elsewhere.
    """
    try:
        path = unquote(urlsplit(href).path if "://" in href else href, errors="surrogateescape")
    except ValueError:
        path = "\0"
    trimmed = path.rstrip("/") or "/"
    if trimmed == parent:
        return None
    base = parent.rstrip("/") + "/"
    name = trimmed[len(base) :]
    if not trimmed.startswith(base) or not is_safe_name(name):
        raise ProtocolSurprise(
            "The listing names something outside of its directory", where=parent, said=repr(href)
        )
    return trimmed


def is_safe_name(name: str) -> bool:
    """Can this be one file's name here, in the directory it is meant for?"""
    return (
        name not in ("", ".", "..")
        and "/" not in name
        and "\0" not in name
        and len(name.encode("utf-8", "surrogateescape")) <= _MAX_NAME_BYTES
    )


def local_path(path: str, base: str, dest: Path) -> Path:
    """Say where a remote file comes to lie here.

    Parameters
    ----------
    path : str
        Normalised path of the file.
    base : str
        Normalised directory that ``dest`` stands for.
    dest : Path
        Local folder.

    Raises
    ------
    ProtocolSurprise
        The file would leave ``dest``.
    """
    prefix = base.rstrip("/") + "/"
    parts = path[len(prefix) :].split("/")
    if not path.startswith(prefix) or not all(map(is_safe_name, parts)):
        raise ProtocolSurprise("Refused a path that leads out of the destination", where=repr(path))
    return dest.joinpath(*parts)


def selected(name: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Tell whether a path is wanted.

    Parameters
    ----------
    name : str
        Path relative to the directory asked for.
    include, exclude : sequence of str
        Shell patterns, compared with the whole relative path, and with each part of it: the file's
        name and the names of the directories. No include means all.
    """
    parts = name.split("/")

    def hit(patterns: Sequence[str]) -> bool:
        return any(
            fnmatch.fnmatchcase(name, p) or any(fnmatch.fnmatchcase(part, p) for part in parts)
            for p in patterns
        )

    return (not include or hit(include)) and not hit(exclude)


def common_parent(paths: Iterable[str]) -> str:
    """Give the deepest directory that holds all these paths."""
    split = [p.split("/")[:-1] for p in paths]
    shortest = min(split, key=len, default=[])
    n = 0
    while n < len(shortest) and len({s[n] for s in split}) == 1:
        n += 1
    return "/".join(shortest[:n]) or "/"
