"""Remote paths: absolute and decoded, their URLs, and checks that none leads out of a directory."""

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
#: Paths that `normalise` returns unchanged: most of them, none with a part that begins with a dot.
_NORMAL = re.compile(r"(?:/[^./\x00-\x1f\x7f\ud800-\udfff][^/\x00-\x1f\x7f\ud800-\udfff]*)+")


#: Paths that are the same in a URL (RFC 3986 §2.3).
_UNRESERVED = re.compile(r"[A-Za-z0-9/._~-]*")


def normalise(text: str, door_url: str) -> str:
    """Return the absolute path of a path or URL as a user gives it.

    Parameters
    ----------
    text : str
        Such as ``cta/DL1/20241114``, with or without slashes at the ends, or a URL at the door.
    door_url : str
        URL of the door, perhaps with a path, which is then the root.

    Returns
    -------
    str
        Path from the door's root, decoded, such as ``/cta/DL1/20241114``; ``/`` is the root.

    Raises
    ------
    UsageError
        It is a URL of another server, or not below the door's root; or it has a part ``..`` or a
        control character.
    """
    path = text
    if _NORMAL.fullmatch(text):
        return text
    if text.startswith(("https://", "http://")):
        if not _is_at(door_url, text):
            raise UsageError(
                "That address is not at this profile's door", where=text, hint=f"It is {door_url}."
            )
        path, root = unquote(urlsplit(text).path), root_of(door_url)
        if not f"{path}/".startswith(f"{root}/"):
            raise UsageError(
                "That address is not below this profile's door",
                where=text,
                hint=f"It is {door_url}.",
            )
        path = path[len(root) :]
    try:  # bytes of a command line argument that are not UTF-8 come as surrogates (PEP 383)
        path = path.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise UsageError("The path is not valid Unicode", where=ascii(text)) from None
    parts = [p for p in path.split("/") if p not in ("", ".")]
    if ".." in parts or _CONTROL.search(path):
        raise UsageError("A remote path can't hold .. or control characters", where=repr(text))
    return "/" + "/".join(parts)


def root_of(door_url: str) -> str:
    """Return the path of a door's URL, decoded, without a slash at its end; mostly empty."""
    return unquote(urlsplit(door_url).path, errors="surrogateescape").rstrip("/")


def url(door_url: str, path: str) -> str:
    """Return the URL of a normalised path."""
    if _UNRESERVED.fullmatch(path):
        return door_url + path
    return door_url + quote(path, safe="/-._~", errors="surrogateescape")


def _is_at(door_url: str, text: str) -> bool:
    try:
        return origin(text) == origin(door_url) and "@" not in urlsplit(text).netloc
    except ValueError:
        return False


def child(parent: str, href: str, root: str = "") -> str | None:
    """Return the path of an href in a listing of depth 1.

    Parameters
    ----------
    parent : str
        Normalised path of the directory that was listed.
    href : str
        As the server sent it: percent-encoded (dCache writes even ``&`` as ``%26``,
        DefaultPropFindPropertyBuilder.java, Milton 2.7.3), a path or a full URL (StoRM WebDAV
        1.8.1).
    root : str
        The door's root on its server, see `root_of`.

    Returns
    -------
    str or None
        Normalised path of the child; None for the directory itself.

    Raises
    ------
    ProtocolSurprise
        The href is neither the directory nor a child of it (RFC 4918 §9.1).
    """
    try:
        path = unquote(urlsplit(href).path if "://" in href else href, errors="surrogateescape")
    except ValueError:
        path = "\0"
    trimmed = path.rstrip("/")
    base = root + parent.rstrip("/") + "/"
    # XRootD 5.5 does not encode names that look encoded, such as ``%41``
    if base in (trimmed + "/", href.rstrip("/") + "/"):
        return None
    name = trimmed[len(base) :]
    if not trimmed.startswith(base) or not is_safe_name(name):
        raise ProtocolSurprise(
            "The listing names something outside of its directory", where=parent, said=repr(href)
        )
    return trimmed[len(root) :]


def is_safe_name(name: str) -> bool:
    """Return whether a name is a single part of a path, of at most 255 bytes."""
    return (
        name not in ("", ".", "..")
        and "/" not in name
        and "\0" not in name
        and len(name.encode("utf-8", "surrogateescape")) <= _MAX_NAME_BYTES
    )


def local_path(path: str, base: str, dest: Path) -> Path:
    """Return the local path of a remote file in a tree that is fetched.

    Parameters
    ----------
    path : str
        Normalised path of the file.
    base : str
        Normalised path of the directory that corresponds to `dest`.
    dest : Path
        Local directory.

    Raises
    ------
    ProtocolSurprise
        The local path would be outside of `dest`.
    """
    prefix = base.rstrip("/") + "/"
    parts = path[len(prefix) :].split("/")
    if not path.startswith(prefix) or not all(map(is_safe_name, parts)):
        raise ProtocolSurprise("Refused a path that leads out of the destination", where=repr(path))
    return dest.joinpath(*parts)


def selected(name: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Return whether a path matches the patterns.

    Parameters
    ----------
    name : str
        Path relative to the directory that is listed or searched.
    include, exclude : sequence of str
        Shell patterns, case-sensitive, compared with the whole relative path, in which ``*``
        matches ``/`` too, and with each part of it: the names of the file and of its directories.
        A path must match one of `include`, unless there are none, and none of `exclude`.
    """
    parts = name.split("/")

    def matches(patterns: Sequence[str]) -> bool:
        return any(
            fnmatch.fnmatchcase(name, p) or any(fnmatch.fnmatchcase(part, p) for part in parts)
            for p in patterns
        )

    return (not include or matches(include)) and not matches(exclude)


def common_parent(paths: Iterable[str]) -> str:
    """Return the deepest directory that contains all of some absolute paths; ``/`` for none."""
    split = [p.split("/")[:-1] for p in paths]
    shortest = min(split, key=len, default=[])
    n = 0
    while n < len(shortest) and len({s[n] for s in split}) == 1:
        n += 1
    return "/".join(shortest[:n]) or "/"
