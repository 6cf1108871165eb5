"""Decisions before a transfer: which files to fetch, skip or compare, and which are extraneous.

What decides is pure; the functions at the end read and change local folders.
"""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ctaflows.atomic_files import local_error, local_errors
from ctaflows.storage.paths import selected
from ctaflows.transfer.manifest import NAME

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from ctaflows.model import Entry, Transfer

#: Times that differ by less are equal: file systems and HTTP dates may keep whole seconds only.
_SAME_TIME_S = 1.0

#: What is compared, beside the size, before a local file is left as it is: ``proof``, the time and
#: the verified checksum in the manifest, else the checksum of the file; ``checksum``, the checksum
#: of the file; ``size``, nothing more.
Check = Literal["proof", "checksum", "size"]


class Action(enum.Enum):
    """What to do with one file, see `decide`."""

    FETCH = "fetch"
    COMPARE = "compare"
    SKIP = "skip"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class LocalState:
    """An existing local file.

    Attributes
    ----------
    size_bytes : int
        Its size.
    mtime : float
        Time of the last modification, seconds since 1970.
    is_special : bool
        Is it a device, a pipe or a socket?
    """

    size_bytes: int
    mtime: float
    is_special: bool = False


def decide(
    entry: Entry,
    local: LocalState | None,
    record: Transfer | None = None,
    *,
    check: Check = "proof",
) -> tuple[Action, str]:
    """Return what to do with a remote file, and the reason.

    Parameters
    ----------
    entry : Entry
        The remote file.
    local : LocalState or None
        The local file, if there is one.
    record : Transfer or None
        The manifest's record of an earlier transfer to the same local file.
    check : {"proof", "checksum", "size"}
        What is compared, see `Check`. The size alone is quick, but finds no damage.

    Returns
    -------
    action : Action
        ``COMPARE``: compute the local file's checksum, and fetch the file if it differs. ``WRITE``:
        write the bytes into the device or pipe at the local path.
    why : str
        The reason, for a dry run.
    """
    if entry.error is not None:
        return Action.FETCH, f"it can't be described: {entry.error}"
    if local is None:
        return Action.FETCH, "not here"
    if local.is_special:
        return Action.WRITE, "into a device or pipe"
    if local.size_bytes != entry.size_bytes:
        return Action.FETCH, f"size differs: {local.size_bytes} here, {entry.size_bytes} there"
    if check == "size":
        return Action.SKIP, "same size"
    same_time = (
        entry.mtime is not None and abs(entry.mtime.timestamp() - local.mtime) < _SAME_TIME_S
    )
    if entry.checksums:
        same = record is not None and entry.same_content_as(record.source)
        if record and record.verified and same and same_time and check == "proof":
            return Action.SKIP, "verified, by its line in the manifest"
        return Action.COMPARE, "same size, checksum to be compared"
    if same_time:
        return Action.SKIP, "same size and time, no checksum to compare"
    return Action.FETCH, "time differs, no checksum to compare"


def batches(
    entries: Iterable[Entry],
    *,
    max_files: int = 100,
    max_bytes: int = 8 << 30,
    max_batches: int = 85,
) -> list[list[Entry]]:
    """Split files into batches, in order, for one task run each.

    A task run costs a Prefect server tens of milliseconds of CPU, and a server loses runs when
    thousands start at once (measured with Prefect 3.9.1); a batch should take at least a second.

    Parameters
    ----------
    entries : iterable of Entry
        The files.
    max_files : int
        Greatest number of files of a batch.
    max_bytes : int
        Greatest size of a batch, 8 GiB by default; a larger file is a batch of its own.
    max_batches : int
        Greatest number of batches: where there would be more, both limits above are doubled until
        there are not.
    """
    entries = list(entries)
    parts = _split(entries, max_files, max_bytes)
    while len(parts) > max_batches:
        max_files, max_bytes = 2 * max_files, 2 * max_bytes
        parts = _split(entries, max_files, max_bytes)
    return parts


def _split(entries: list[Entry], max_files: int, max_bytes: int) -> list[list[Entry]]:
    parts: list[list[Entry]] = []
    size = 0
    for entry in entries:
        more = entry.size_bytes or 0
        if not parts or len(parts[-1]) >= max_files or size + more > max_bytes:
            parts.append([])
            size = 0
        parts[-1].append(entry)
        size += more
    return parts


# -- extraneous files ------------------------------------------------------------------------------
#
# Files of a mirror that its source does not have. They are deleted on request only.

#: Files that ctaflows keeps in a mirror, also `dl1.report.inspection_cache`, `dl1.report.html` and
#: `reporting.events`.
_OURS = {NAME, "inspections.jsonl", "night.html", ".complete"}


def extraneous(
    mirror: Iterable[str],
    source: Collection[str],
    unseen: Collection[str],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> tuple[list[str], list[str]]:
    """Return the files of a mirror that its source does not have.

    Parameters
    ----------
    mirror : iterable of str
        Files of the mirror, relative to it, with ``/``.
    source : collection of str
        All files of the source, relative to it, also those that the patterns do not select.
    unseen : collection of str
        Directories of the source, relative to it, whose files are unknown; "" is the source itself.
        No file below one counts as extraneous.
    include, exclude : sequence of str
        Patterns; a file that they do not select is not extraneous.

    Returns
    -------
    extraneous, protected : list of str
        Files to be deleted; and files that must stay since it is unknown whether the source has
        them.
    """
    known, unknown = set(source), set(unseen)
    extra: list[str] = []
    protected: list[str] = []
    for name in mirror:
        if name in known or _is_ours(name) or not selected(name, include, exclude):
            continue
        (protected if _parents(name) & unknown else extra).append(name)
    return extra, protected


def _parents(name: str) -> set[str]:
    parts = name.split("/")[:-1]
    return {"/".join(parts[:n]) for n in range(len(parts) + 1)}


def _is_ours(name: str) -> bool:
    """Return whether ctaflows made the file: a manifest and the like, or an unfinished download."""
    last = name.rpartition("/")[2]
    is_part = last.startswith(".") and (last.endswith(".part") or ".part." in last)
    return last in _OURS or is_part


def files_here(folder: Path) -> Iterator[str]:
    """Yield the paths of all files below a local folder, relative to it.

    Links to folders are not followed; where there is no folder there are no files.
    """

    def unreadable(why: OSError) -> None:
        raise local_error(why, folder) from why

    for where, _, names in os.walk(folder, onerror=unreadable if folder.exists() else None):
        base = os.path.relpath(where, folder)
        for name in names:
            yield name if base == "." else f"{base}/{name}"


def unseen(walked: Sequence[tuple[str, list[str], list[str]]]) -> list[str]:
    """Return the local folders whose content is unknown: links to folders, and those without files.

    An empty folder may be the mount point of a disk that is not mounted, and what a link leads to
    is not uploaded: that nothing is seen there is no reason to delete remote files.

    Parameters
    ----------
    walked : sequence of (str, list, list)
        The items of `os.walk`, from the top down.

    Returns
    -------
    list of str
        Relative to the first folder, which is "".
    """
    folders_unseen: list[str] = []
    has_files: set[str] = set()
    for where, folders, names in reversed(walked):
        inside = [os.path.join(where, name) for name in folders]  # noqa: PTH118
        linked = {path for path in inside if os.path.islink(path)}  # noqa: PTH114
        if names or any(path in has_files for path in inside if path not in linked):
            has_files.add(where)
            folders_unseen += linked
        else:
            folders_unseen.append(where)
    top = walked[0][0] if walked else ""
    if os.path.islink(top):  # noqa: PTH114
        folders_unseen.append(top)
    return ["" if path == top else os.path.relpath(path, top) for path in folders_unseen]


def remove_here(folder: Path, names: Iterable[str]) -> None:
    """Delete files below a local folder, and the folders in it that become empty."""
    with local_errors(folder, "What is extraneous can't be deleted", hint=None):
        for name in names:
            file = folder / name
            file.unlink(missing_ok=True)
            for parent in file.parents:
                if parent == folder or any(parent.iterdir()):
                    break
                parent.rmdir()
