"""What a destination holds too much: decided purely, carried out on request only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ctaflows.storage.paths import selected
from ctaflows.transfer.manifest import NAME
from ctaflows.transfer.part_file import local_error

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

#: What `dl1.inspections` and `events` keep in a night's folder is as little of the source.
_OURS = {NAME, "inspections.jsonl", ".complete"}


def superfluous(
    here: Iterable[str],
    there: Collection[str],
    empty: Collection[str],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> tuple[list[str], list[str]]:
    """Say which files of a mirror its source does not have.

    Parameters
    ----------
    here : iterable of str
        Files of the mirror, relative to it, with ``/``.
    there : collection of str
        Files of the source, likewise, whatever the patterns say of them.
    empty : collection of str
        Directories of the source that were shown empty, or not at all, likewise; "" is the source
        itself. A dCache door shows one that it can't list like this, so nothing below it is
        superfluous.
    include, exclude : sequence of str
        Files that are not selected are left alone.

    Returns
    -------
    superfluous, protected : list of str
        To be deleted; not to be deleted, since what the source has there can't be told.
    """
    known, unknown = set(there), set(empty)
    extra: list[str] = []
    protected: list[str] = []
    for name in here:
        if name in known or _is_ours(name) or not selected(name, include, exclude):
            continue
        (protected if _parents(name) & unknown else extra).append(name)
    return extra, protected


def _parents(name: str) -> set[str]:
    parts = name.split("/")[:-1]
    return {"/".join(parts[:n]) for n in range(len(parts) + 1)}


def _is_ours(name: str) -> bool:
    """Is it a manifest, what else is kept beside it, or what a transfer left to go on from?"""
    last = name.rpartition("/")[2]
    is_part = last.startswith(".") and (last.endswith(".part") or ".part." in last)
    return last in _OURS or is_part


def files_here(folder: Path) -> Iterator[str]:
    """Give all files below a folder, relative to it; links are not followed."""

    def unreadable(why: OSError) -> None:
        raise local_error(why, folder) from why

    for where, _, names in os.walk(folder, onerror=unreadable if folder.exists() else None):
        base = os.path.relpath(where, folder)
        for name in names:
            yield name if base == "." else f"{base}/{name}"


def unseen(walked: Sequence[tuple[str, list[str], list[str]]]) -> list[str]:
    """Give the folders here of whose files nothing is seen: links, and those without any file.

    An empty folder may be the place of a disk that is not mounted, and what is behind a link is not
    uploaded: nothing may be deleted elsewhere because it is not seen there.

    Parameters
    ----------
    walked : sequence of (str, list, list)
        What `os.walk` gave, from the top down; "" stands for the first folder.
    """
    found: list[str] = []
    has_files: set[str] = set()
    for where, folders, names in reversed(walked):
        inside = [os.path.join(where, name) for name in folders]  # noqa: PTH118
        linked = {path for path in inside if os.path.islink(path)}  # noqa: PTH114
        if names or any(path in has_files for path in inside if path not in linked):
            has_files.add(where)
            found += linked
        else:
            found.append(where)
    top = walked[0][0] if walked else ""
    if os.path.islink(top):  # noqa: PTH114
        found.append(top)
    return ["" if path == top else os.path.relpath(path, top) for path in found]


def remove_here(folder: Path, names: Iterable[str]) -> None:
    """Delete files below a folder, and the folders that become empty by it."""
    try:
        for name in names:
            file = folder / name
            file.unlink(missing_ok=True)
            for parent in file.parents:
                if parent == folder or any(parent.iterdir()):
                    break
                parent.rmdir()
    except OSError as why:
        raise local_error(why, folder) from why
