"""All files below a directory, one listing of depth 1 after the other.

Never `Depth: infinity`: a dCache door gives 3 levels for it and says nothing (dCache 12.1,
milton AbstractRequest.java:93).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctaflows.storage.paths import selected

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ctaflows.model import Entry
    from ctaflows.storage.door import Door


def walk(door: Door, path: str) -> Iterator[Entry]:
    """Give all entries below a directory, each directory before what is in it.

    Parameters
    ----------
    door : Door
        The storage.
    path : str
        Where to begin; a file gives itself.

    Yields
    ------
    Entry
        Files and directories; names sorted within a directory.
    """
    waiting = [path]
    while waiting:
        entries = sorted(door.list(waiting.pop()), key=lambda e: e.path)
        yield from entries
        waiting += [e.path for e in reversed(entries) if e.is_dir]


def files_below(
    door: Door, path: str, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> Iterator[Entry]:
    """Give the wanted files below a directory.

    Parameters
    ----------
    door : Door
        The storage.
    path : str
        Where to begin.
    include, exclude : sequence of str
        See `paths.selected`; the path below ``path`` counts.
    """
    base = door.normalise(path).rstrip("/") + "/"
    for entry in walk(door, path):
        if not entry.is_dir and selected(entry.path.removeprefix(base), include, exclude):
            yield entry
